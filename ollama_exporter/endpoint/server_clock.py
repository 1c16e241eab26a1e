# SPDX-License-Identifier: Apache-2.0
"""The server's clock, as its Date headers show it.

An uncorrected half second costs 14 points of accuracy (docs/unload-reasons.md). The header counts
whole seconds, so each answer only bounds the offset; the bounds of several answers are intersected.
"""

from typing import Final

from msgspec import Struct

CLOCK_STEP: Final = 0.05  # seconds; bounds that miss each other by more show a step
CLOCK_DRIFT: Final = 50e-6  # seconds per second: an undisciplined quartz
KEPT_STEPS: Final = 16  # deadlines are announced hours ahead at most, and clocks rarely step


class ClockBounds(Struct):
    """The offset (server minus ours, seconds) lies within [low, high] as of the moment `at`."""

    low: float
    high: float
    at: float

    def estimate(self) -> float:
        """Return the likeliest offset: 0 where it is possible, else the middle.

        Machines are synchronised, or are the same machine, far more often than not.
        """
        return 0.0 if self.low <= 0.0 <= self.high else (self.low + self.high) / 2


class ServerClock:
    """Translates the server's moments into ours. Each step of its clock begins a new epoch."""

    def __init__(self) -> None:
        self._epochs: list[ClockBounds] = []
        self._first = 0  # number of the oldest epoch that is kept

    @property
    def epoch(self) -> int:
        """Number of the current epoch: what is read now belongs to it."""
        return self._first + max(0, len(self._epochs) - 1)

    def observe(self, date: float, *, started: float, ended: float) -> None:
        """Narrow the bounds by the Date header (whole seconds, truncated) of one answer."""
        low, high = date - ended, date + 1.0 - started
        if self._epochs:
            known = self._epochs[-1]
            slack = CLOCK_DRIFT * (ended - known.at)
            both = max(low, known.low - slack), min(high, known.high + slack)
            if both[0] <= both[1] + CLOCK_STEP:
                known.low, known.high, known.at = min(both), max(both), ended
                return
        self._epochs.append(ClockBounds(low, high, ended))
        if len(self._epochs) > KEPT_STEPS:
            del self._epochs[0]
            self._first += 1

    def ours(self, moment: float, epoch: int) -> float:
        """Return our moment for one that was read in `epoch`. Infinity stays what it is."""
        if not self._epochs:
            return moment
        bounds = self._epochs[min(max(0, epoch - self._first), len(self._epochs) - 1)]
        return moment - bounds.estimate()
