# SPDX-License-Identifier: Apache-2.0
"""A timeline whose moments the test decides."""

from collections.abc import Callable

from ollama_exporter.clock import Timeline


class GivenTimeline(Timeline):
    """Reads `now` from the test. `ahead`: seconds by which the wall clock is ahead of it."""

    def __init__(self, now: Callable[[], float] = lambda: 0.0, *, ahead: float = 0.0) -> None:
        super().__init__(wall=now, monotonic=now)
        self._given, self._ahead = now, ahead

    def now(self) -> float:
        """Return the moment."""
        return self._given()

    def wall(self, moment: float) -> float:
        """Return a moment on the wall clock."""
        return moment + self._ahead
