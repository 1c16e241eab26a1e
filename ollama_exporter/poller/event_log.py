# SPDX-License-Identifier: Apache-2.0
"""Logs each load, unload and restart with its bounds and its evidence."""

import logging
from datetime import UTC, datetime

from ollama_exporter.clock import Timeline
from ollama_exporter.residency.events import Event, Found, Loaded, Restarted, Unloaded

logger = logging.getLogger(__name__)


def log_event(event: Event, timeline: Timeline, *, target: str = "") -> None:
    """Log one event. `target`: the server's name, where there are several."""
    of = {"target": target} if target else {}

    def clock(moment: float) -> str:
        text = datetime.fromtimestamp(timeline.wall(moment), UTC).isoformat(timespec="milliseconds")
        return text.replace("+00:00", "Z")

    match event:
        case Found():
            logger.info("Model resident at start", extra={**of, "model": event.model.name})
        case Loaded():
            bounds = {"not_before": clock(event.not_before), "not_after": clock(event.not_after)}
            logger.info("Model loaded", extra={**of, "model": event.model.name, **bounds})
        case Restarted():
            bounds = {"not_before": clock(event.not_before), "not_after": clock(event.not_after)}
            logger.warning("Server restarted", extra={**of, **bounds})
        case Unloaded():
            values = {
                **of,
                "model": event.model.name,
                "reason": event.reason.value,
                **({} if event.by is None else {"by": event.by}),
                "not_before": clock(event.not_before),
                "not_after": clock(event.not_after),
                "evidence": "; ".join(event.evidence),
                "sure": event.sure,
            }
            logger.info("Model unloaded", extra=values)
