# SPDX-License-Identifier: Apache-2.0
"""Histogram of idle gaps: for how long a model was unused between two requests.

The bounds are the values that people choose for keep_alive. So the counts tell exactly what each
value would have cost: longer gaps are cold starts, and `truncated` is the idle time.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from msgspec import Struct, field

BOUNDS: Final = (
    *(30, 60, 120, 180, 300, 450, 600, 900, 1200, 1800, 2700, 3600),
    *(5400, 7200, 10800, 14400, 21600, 28800, 43200, 86400),
)


def _zeros(length: int) -> list[float]:
    return [0.0] * length


class IdleHistogram(Struct):
    """Idle gaps of one model in seconds. Counts may be fractions, as `increase()` returns them."""

    counts: list[float] = field(default_factory=lambda: _zeros(len(BOUNDS) + 1))
    """Gaps up to each bound, not cumulative; the last count is of the gaps above all bounds."""
    truncated: list[float] = field(default_factory=lambda: _zeros(len(BOUNDS)))
    """Sum of min(gap, bound) for each bound."""
    total: float = 0.0
    """Sum of all gaps."""

    def __post_init__(self) -> None:
        """Raise ValueError if the counts have other bounds."""
        if (len(self.counts), len(self.truncated)) != (len(BOUNDS) + 1, len(BOUNDS)):
            raise ValueError("idle gaps have other bounds")

    @classmethod
    def of(cls, gaps: Iterable[float]) -> "IdleHistogram":
        """Return a histogram of these gaps."""
        counted = cls()
        for gap in gaps:
            counted.add(gap)
        return counted

    def copy(self) -> "IdleHistogram":
        """Return a copy that does not change any more."""
        return IdleHistogram(list(self.counts), list(self.truncated), self.total)

    @property
    def samples(self) -> float:
        """Number of gaps."""
        return sum(self.counts)

    def add(self, gap: float) -> None:
        """Count a gap."""
        self.counts[bisect_left(BOUNDS, gap)] += 1
        self.total += gap
        for index, bound in enumerate(BOUNDS):
            self.truncated[index] += gap if gap < bound else bound  # noqa: FURB136 - `min` doubles the time

    def means(self) -> list[float]:
        """Return the mean of the gaps in each bucket, or its lower bound if it is empty."""
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
