# SPDX-License-Identifier: Apache-2.0
"""The timeline of all facts: Unix time at the start plus the monotonic time since then.

A step of the wall clock moves nothing on it.
"""

import time
from collections.abc import Callable

Clock = Callable[[], float]


class Timeline:
    """Reads both clocks together once, when it is made."""

    def __init__(self, *, wall: Clock = time.time, monotonic: Clock = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset = wall() - monotonic()

    def now(self) -> float:
        """Return the moment, seconds."""
        return self._monotonic() + self._offset

    def wall_now(self) -> float:
        """Return the wall clock's time, Unix seconds."""
        return self._wall()

    def wall(self, moment: float) -> float:
        """Return a moment of the timeline as wall-clock Unix seconds."""
        return moment + (self._wall() - self.now())

    def moment(self, wall: float) -> float:
        """Return wall-clock Unix seconds as a moment of the timeline."""
        return wall - (self._wall() - self.now())
