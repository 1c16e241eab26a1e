# SPDX-License-Identifier: Apache-2.0
"""One log line for each request."""

import logging

from ollama_exporter.shim.observation import Observation

logger = logging.getLogger(__name__)


class AccessLog:
    """Logs requests at level INFO if that is `wanted`, otherwise at DEBUG."""

    def __init__(self, *, wanted: bool = False) -> None:
        self._level = logging.INFO if wanted else logging.DEBUG

    def is_enabled(self) -> bool:
        """Return whether a line would be written."""
        return logger.isEnabledFor(self._level)

    def write(self, seen: Observation, label: str) -> None:
        """Log a finished request. `label`: of its model, because clients invent names."""
        first = seen.time_to_first_token
        values = {
            "method": seen.method,
            "route": seen.route.label,
            "model": label,
            "code": seen.code,
            "outcome": seen.outcome.value,
            "start": seen.start.value,
            "took": round(seen.duration, 4),
            "first_token": None if first is None else round(first, 4),
            "load_wait": seen.load_wait,
            "request_bytes": seen.request_bytes,
            "response_bytes": seen.response_bytes,
            "phase": None if seen.phase is None else seen.phase.value,
        }
        known = {key: value for key, value in values.items() if value not in (None, "")}
        logger.log(self._level, "Request", extra=known)
