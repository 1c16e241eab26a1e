# SPDX-License-Identifier: Apache-2.0
"""Idle gaps: how long a model lay unused between two requests, counted on fixed bounds.

The bounds are the values that people give keep_alive, so that the counts answer exactly what each
of them would have cost: gaps that are longer are cold starts, `truncated` is the idle time.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

BOUNDS: Final = (
    *(30, 60, 120, 180, 300, 450, 600, 900, 1200, 1800, 2700, 3600),
    *(5400, 7200, 10800, 14400, 21600, 28800, 43200, 86400),
)


def _zeros(length: int) -> list[float]:
    return [0.0] * length


@dataclass(slots=True)
class IdleGaps:
    """Gaps of one model. Seconds; counts may be fractions, as `increase()` makes them."""

    counts: list[float] = field(default_factory=lambda: _zeros(len(BOUNDS) + 1))
    """Gaps up to each bound and longer than the one before it; the last: longer than all."""
    truncated: list[float] = field(default_factory=lambda: _zeros(len(BOUNDS)))
    """Sum of the smaller of gap and bound."""
    total: float = 0.0
    """Sum of all gaps."""

    def __post_init__(self) -> None:
        """Refuse counts on other bounds. Raises ValueError."""
        if (len(self.counts), len(self.truncated)) != (len(BOUNDS) + 1, len(BOUNDS)):
            raise ValueError("idle gaps on other bounds")

    @classmethod
    def of(cls, gaps: Iterable[float]) -> "IdleGaps":
        """Count these."""
        counted = cls()
        for gap in gaps:
            counted.add(gap)
        return counted

    def copy(self) -> "IdleGaps":
        """Return a copy: the counting goes on."""
        return IdleGaps(list(self.counts), list(self.truncated), self.total)

    @property
    def samples(self) -> float:
        """How many gaps there are."""
        return sum(self.counts)

    def add(self, gap: float) -> None:
        """Count one more."""
        self.counts[bisect_left(BOUNDS, gap)] += 1
        self.total += gap
        for index, bound in enumerate(BOUNDS):
            self.truncated[index] += min(gap, bound)

    def means(self) -> list[float]:
        """Return the mean of the gaps in each bucket; its lower bound where there are none."""
        means: list[float] = []
        above, low, below = self.samples, 0.0, 0.0
        for count, bound, truncated in zip(self.counts, BOUNDS, self.truncated, strict=False):
            above -= count
            mean = low
            if count > 0:
                mean += (truncated - below - above * (bound - low)) / count
            means.append(min(max(mean, low), bound))
            low, below = bound, truncated
        over = (self.total - below) / self.counts[-1] if self.counts[-1] > 0 else 0.0
        return [*means, low + max(0.0, over)]
