# SPDX-License-Identifier: Apache-2.0
"""When to look at a runner next. Pure.

A question passes through the runner's task queue and can wait behind a long prompt, so a runner
that answers late is asked more rarely. Of a request between two looks no tokens are seen, so a
model that was used lately is looked at as often as a busy one.
"""

import math
from typing import Final

from msgspec import Struct


class LookTimes(Struct, frozen=True):
    """Seconds between two questions to one runner."""

    tick: float = 0.5  # between two checks which runner is due
    idle: float = 5.0
    busy: float = 2.0  # also of a model that was used in the last `lately` seconds
    lately: float = 120.0
    patience: int = 3  # looks without an answer before the pauses double
    rarest: float = 60.0  # however often it was late
    counters: float = 15.0  # an idle runner's counters


LOOK_TIMES: Final = LookTimes()


class LookSchedule(Struct):
    """The looks at one runner."""

    times: LookTimes
    next_look: float = 0.0
    next_counters: float = 0.0
    late: int = 0  # looks in a row without an answer in time
    used_at: float = -math.inf  # the last look that showed a use

    def answered(self, at: float, *, used: bool) -> None:
        """Plan the look after one that was answered. `used`: it showed work, or that some ended."""
        self.late = 0
        if used:
            self.used_at = at
        is_lively = at - self.used_at < self.times.lately
        self.next_look = at + (self.times.busy if is_lively else self.times.idle)

    def was_late(self, at: float) -> None:
        """Plan the look after one without an answer."""
        self.late += 1
        doublings = min(max(0, self.late - self.times.patience), 8)
        self.next_look = at + min(self.times.rarest, self.times.idle * 2**doublings)

    def wants_counters(self, at: float, *, worked: bool) -> bool:
        """Return whether to ask for the counters now: they move when a request ends."""
        if not worked and at < self.next_counters:
            return False
        self.next_counters = at + self.times.counters
        return True
