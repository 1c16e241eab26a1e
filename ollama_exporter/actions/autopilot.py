# SPDX-License-Identifier: Apache-2.0
"""The autopilot: the proxy's default keep_alive of a model follows the advice, within limits."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from ollama_exporter.actions.defaults.defaults_section import Autopilot
from ollama_exporter.metrics.action_metrics import ActionMetrics
from ollama_exporter.protocol.keepalive import render
from ollama_exporter.reporter import Reporter

INTERVAL: Final = 60.0  # seconds between two looks at the advice
MAX_MODELS: Final = 1000
logger = logging.getLogger(__name__)


class KeepAliveAdvice(Protocol):
    """The advice for one model, as far as the autopilot needs it."""

    @property
    def keep_alive(self) -> float:
        """Seconds, inf forever."""

    @property
    def samples(self) -> float:
        """Number of idle gaps behind the advice."""

    def is_surely_better(self, then: float, now: float) -> bool:
        """Return whether one keep-alive is cheaper than another by more than chance."""


class AutopilotRunner:
    """Gives each model of the section a keep_alive. `advice`: yields the current advice."""

    def __init__(
        self,
        metrics: ActionMetrics,
        advice: Callable[[], Iterable[tuple[str, KeepAliveAdvice]]],
        reporter: Reporter,
    ) -> None:
        self._metrics, self._advice, self._reporter = metrics, advice, reporter
        self._values: dict[str, float] = {}
        self._section: Autopilot | None = None

    def value(self, model: str) -> float | None:
        """Return the keep_alive of a model; None: it has none yet."""
        return self._values.get(model)

    def apply_settings(self, section: Autopilot | None) -> None:
        """Put a section in force: the first one, or that of a reload."""
        self._section = section
        for model in list(self._values):
            if section is None or not section.follows(model):
                del self._values[model]
                self._metrics.drop_autopilot(model)

    def follow_advice(self) -> None:
        """Give each model the keep_alive that is advised now."""
        if self._section is not None:
            for model, advice in self._advice():
                self._follow(self._section, model, advice)

    def _follow(self, section: Autopilot, model: str, advice: KeepAliveAdvice) -> None:
        if not section.follows(model) or advice.samples < section.least_gaps:
            return
        keep_alive = min(max(advice.keep_alive, section.min), section.max)
        before = self._values.get(model)
        if before == keep_alive or (before is None and len(self._values) >= MAX_MODELS):
            return
        # The advice moves with each gap, so a change must be worth more than chance explains.
        allowed = before is not None and section.min <= before <= section.max
        if before is not None and allowed and not advice.is_surely_better(keep_alive, before):
            return
        self._values[model] = keep_alive
        self._metrics.on_autopilot(model, keep_alive)
        logger.info(
            "Autopilot sets a keep-alive",
            extra={
                "model": model,
                "keep_alive": render(keep_alive),
                "before": "none" if before is None else render(before),
                "advised": render(advice.keep_alive),
                "gaps": round(advice.samples),
            },
        )

    async def run(self) -> None:
        """Follow the advice until cancelled. An internal error costs one turn."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                self.follow_advice()
            except Exception:
                self._reporter.error()
                logger.exception("Unexpected error in the autopilot")
