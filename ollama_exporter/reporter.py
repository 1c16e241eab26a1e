# SPDX-License-Identifier: Apache-2.0
"""Where the parts of one exporter report to: one value instead of four callbacks."""

import logging
import sys
from collections.abc import Callable

from msgspec import Struct, field

from ollama_exporter.residency.facts import Fact

logger = logging.getLogger(__name__)


def ignore(*_: object) -> None:
    """Drop a report."""


class Reporter(Struct, frozen=True, kw_only=True):
    """Receives reports. Each is dropped unless somebody wants it. Safe to use from any thread."""

    fact: Callable[[Fact], None] = ignore  # evidence for the residency tracker
    error: Callable[[], None] = ignore  # counts an internal error
    own_use: Callable[[str, float], None] = ignore  # the exporter used this model at this moment
    expect: Callable[[str], object] = ignore  # creates the counters of this model at 0
    _logged: set[str] = field(default_factory=set)

    def error_once(self, message: str) -> None:
        """Count an internal error; log the first of each message. Call it in the handler."""
        self.error()
        if message not in self._logged:
            self._logged.add(message)
            logger.error(message, exc_info=sys.exception())
