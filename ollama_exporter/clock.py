# SPDX-License-Identifier: Apache-2.0
"""The timeline of all facts: Unix time at the start plus monotonic time since.

A step of the wall clock moves nothing on it; `wall` brings a moment back to today's wall clock.
"""

import time


class Timeline:
    """Both clocks are read together once, at the start."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Return the moment, seconds."""
        return time.monotonic() + self._offset

    def wall(self, moment: float) -> float:
        """Return a moment of the timeline as wall-clock Unix seconds."""
        return moment + (time.time() - self.now())
