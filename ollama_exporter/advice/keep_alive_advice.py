# SPDX-License-Identifier: Apache-2.0
"""Which keep_alive would have been right for a model, from its idle gaps. Pure.

Each keep_alive T has a cost in seconds of waiting: cold starts (gaps longer than T) times the load
time, plus idle GB-hours (gap or T, the shorter, times the memory) times their price. Where waiting
once costs as much as staying loaded lies the break-even time: to keep a model for so long never
costs more than twice what a clairvoyant would pay (ski rental, Karlin et al. 1994). That is the
advice until the gaps show, by more than chance, that another T is cheaper. docs/keep-alive.md.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ollama_exporter.advice.idle_histogram import BOUNDS, IdleHistogram

GB: Final = 1e9
HOUR: Final = 3600.0
PRICE: Final = 2.0  # seconds of waiting that a GB-hour is worth: a rented card and a paid person
CANDIDATES: Final = (0.0, *map(float, BOUNDS), math.inf)
LEAST_GAPS: Final = 5  # fewer decide nothing
DOUBT: Final = 1.64  # standard errors by which a saving must exceed chance: 95 %, one-sided
PIN: Final = 2 * 86400.0  # what `for ever` counts as where the nearest candidate is looked for
PROVISIONAL_GAPS: Final = 20
MEASURED_GAPS: Final = 50
MEASURED_TIME: Final = 7 * 86400.0  # a week has a rhythm; seconds of idle time that were seen
# Polls miss gaps below their interval: a keep_alive of that length bridges what was not seen.
UNSEEN_FLOOR: Final = 15.0
MOSTLY: Final = 0.1  # so many of the gaps may be inferred where requests are said to be seen
# What NVMe disks do, where nothing was measured: seconds, and bytes a second.
ASSUMED_START: Final = 1.5
ASSUMED_SPEED: Final = 1.5 * GB


class Confidence(StrEnum):
    """What an advice rests on."""

    RULE_OF_THUMB = "rule of thumb"
    PROVISIONAL = "provisional"
    MEASURED = "measured"


@dataclass(frozen=True, slots=True)
class CostInputs:
    """How a model is used, and what it costs to load and to hold."""

    gaps: IdleHistogram
    load_seconds: float
    memory_bytes: float
    seen: bool = True  # gaps come from requests; False: from polls, which miss short ones


@dataclass(frozen=True, slots=True)
class CostOutcome:
    """What a keep_alive would have led to over the gaps that were seen."""

    keep_alive: float  # seconds; 0: unload at once, inf: never
    cold_starts: float
    idle_gb_hours: float
    cost: float  # seconds of waiting


@dataclass(frozen=True, slots=True)
class Advice:
    """The advised keep_alive, and what it rests on."""

    keep_alive: float  # seconds; 0: unload at once, inf: pin
    break_even: float  # seconds, inf: memory is free
    samples: int  # idle gaps
    confidence: Confidence
    by_data: bool  # the gaps decided; False: the break-even time did
    outcomes: tuple[CostOutcome, ...]  # of each candidate, shortest first

    @property
    def advised(self) -> CostOutcome:
        """What the advised value would have led to."""
        return self.at(self.keep_alive)

    def at(self, keep_alive: float) -> CostOutcome:
        """Return what any keep_alive would have led to, between two candidates in proportion."""
        upper = next(i for i, o in enumerate(self.outcomes) if o.keep_alive >= keep_alive)
        high = self.outcomes[upper]
        if upper == 0 or high.keep_alive == keep_alive or math.isinf(high.keep_alive):
            return high
        low = self.outcomes[upper - 1]
        share = (keep_alive - low.keep_alive) / (high.keep_alive - low.keep_alive)
        return CostOutcome(
            keep_alive,
            low.cold_starts + share * (high.cold_starts - low.cold_starts),
            low.idle_gb_hours + share * (high.idle_gb_hours - low.idle_gb_hours),
            low.cost + share * (high.cost - low.cost),
        )


def is_mostly_observed(samples: float, inferred: float) -> bool:
    """Tell whether gaps come from requests, but for a few that polls alone showed."""
    return inferred <= MOSTLY * samples


def assumed_load(memory_bytes: float) -> float:
    """Return the seconds that a load takes where nobody measured one."""
    return ASSUMED_START + memory_bytes / ASSUMED_SPEED


def break_even(habits: CostInputs, price: float) -> float:
    """Return for how long holding the model costs as much as one load, seconds; inf: for ever."""
    rent = price * habits.memory_bytes / GB / HOUR
    return habits.load_seconds / rent if rent > 0 else math.inf


def advise(habits: CostInputs, *, price: float = PRICE) -> Advice:
    """Advise a keep_alive. `price`: seconds of waiting that a GB-hour is worth, 0 or more."""
    sums = _Sums(habits, price)
    even = break_even(habits, price)
    start = nearest(even)
    chosen = start
    if sums.samples >= LEAST_GAPS:
        worst = [sums.more(j, than=start) for j in range(len(CANDIDATES))]
        best = min(range(len(worst)), key=worst.__getitem__)
        chosen = best if worst[best] < 0 else start
    return Advice(
        keep_alive=sums.keeps[chosen],
        break_even=even,
        samples=round(sums.samples),
        confidence=_confidence(sums.samples, habits.gaps.total),
        by_data=chosen != start,
        outcomes=tuple(sums.outcome(j) for j in range(len(CANDIDATES))),
    )


def surely_saved(habits: CostInputs, then: float, now: float, *, price: float = PRICE) -> float:
    """Return what `then` saves over `now` at least but for chance, seconds of waiting a gap.

    Both are taken to the nearest candidate. Negative: it may as well cost more.
    """
    sums = _Sums(habits, price)
    if sums.samples < LEAST_GAPS:
        return -math.inf
    return -sums.more(nearest(then), than=nearest(now))


def nearest(seconds: float) -> int:
    """Return the index of the candidate nearest to a time, by ratio."""
    wanted = math.log(min(max(seconds, 1.0), PIN))
    marks = [math.log(min(max(keep, 1.0), PIN)) for keep in CANDIDATES]
    return min(range(len(marks)), key=lambda j: abs(marks[j] - wanted))


class _Sums:
    """The gaps summed up to each candidate, so that a comparison of two costs no loop.

    Gaps of bucket k are longer than candidate k, and candidate k + 1 bridges them. `keeps`: the
    candidates; where requests were not seen, nothing is known of 0.
    """

    def __init__(self, habits: CostInputs, price: float) -> None:
        self.keeps = CANDIDATES if habits.seen else (UNSEEN_FLOOR, *CANDIDATES[1:])
        self._memory = habits.memory_bytes
        self._rent = price * habits.memory_bytes / GB / HOUR  # seconds of waiting a second idle
        self._load = habits.load_seconds
        count = seconds = squares = 0.0
        self._bridged = [(count, seconds, squares)]
        for n, mean in zip(habits.gaps.counts, habits.gaps.means(), strict=True):
            count, seconds, squares = count + n, seconds + n * mean, squares + n * mean * mean
            self._bridged.append((count, seconds, squares))
        self.samples = count

    def outcome(self, j: int) -> CostOutcome:
        """Return what a candidate would have led to."""
        bridged, seconds, _ = self._bridged[j]
        cold = self.samples - bridged
        idle = seconds + (cold * self.keeps[j] if cold else 0.0)
        cost = cold * self._load + idle * self._rent
        return CostOutcome(self.keeps[j], cold, idle / HOUR * self._memory / GB, cost)

    def more(self, j: int, *, than: int) -> float:
        """Return what candidate j costs more for each gap, at most but for chance."""
        low, high = min(j, than), max(j, than)
        count, seconds, squares = (
            b - a for a, b in zip(self._bridged[low], self._bridged[high], strict=True)
        )
        # What only the longer one bridges waits with it, and costs a load and the wait without.
        rent, lost = self._rent, self._load + self._rent * self.keeps[low]
        total = rent * seconds - lost * count
        square = rent * rent * squares - 2 * lost * rent * seconds + lost * lost * count
        if over := self.samples - self._bridged[high][0]:
            longer = rent * (self.keeps[high] - self.keeps[low])
            total, square = total + over * longer, square + over * longer * longer
        mean = (total if j > than else -total) / self.samples
        variance = max(0.0, square / self.samples - mean * mean)
        return mean + DOUBT * math.sqrt(variance / self.samples)


def _confidence(samples: float, idle: float) -> Confidence:
    if samples < PROVISIONAL_GAPS:
        return Confidence.RULE_OF_THUMB
    if samples < MEASURED_GAPS or idle < MEASURED_TIME:
        return Confidence.PROVISIONAL
    return Confidence.MEASURED
