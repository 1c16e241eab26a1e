# SPDX-License-Identifier: Apache-2.0
"""Computes which keep_alive would have been right for a model, from its idle gaps. Pure.

Each keep_alive T has a cost in seconds of waiting: the cold starts (gaps longer than T) times the
load time, plus the idle GB-hours (the shorter of gap and T, times the memory) times their price.
At the break-even time, holding the model costs as much as one load. To keep it for that long never
costs more than twice the optimum (ski rental, Karlin et al. 1994). This is the advice until the
gaps show, by more than chance, that another T is cheaper. See docs/keep-alive.md.
"""

import math
from enum import StrEnum
from typing import Final

from msgspec import Struct

from ollama_exporter.advice.idle_histogram import BOUNDS, IdleHistogram

GB: Final = 1e9
HOUR: Final = 3600.0
PRICE: Final = 2.0  # seconds of waiting worth one GB-hour: the rent of a card, the pay of a person
CANDIDATES: Final = (0.0, *map(float, BOUNDS), math.inf)
LEAST_GAPS: Final = 5  # with fewer gaps, the break-even time is the advice
DOUBT: Final = 1.64  # standard errors by which a saving must exceed 0: 95 %, one-sided
PIN: Final = 2 * 86400.0  # the value of "never unload" when the nearest candidate is searched
PROVISIONAL_GAPS: Final = 20
MEASURED_GAPS: Final = 50
MEASURED_TIME: Final = 7 * 86400.0  # seconds of observed idle time: use has a weekly rhythm
# Polls miss gaps that are shorter than their interval; such a keep_alive bridges them.
UNSEEN_FLOOR: Final = 15.0
MOSTLY: Final = 0.1  # share of inferred gaps up to which requests count as observed
# The speed of NVMe disks, for models whose load was not measured: seconds, bytes per second.
ASSUMED_START: Final = 1.5
ASSUMED_SPEED: Final = 1.5 * GB


class Confidence(StrEnum):
    """How much data an advice rests on."""

    RULE_OF_THUMB = "rule of thumb"
    PROVISIONAL = "provisional"
    MEASURED = "measured"


class CostInputs(Struct, frozen=True):
    """How a model is used, and what it costs to load it and to hold it."""

    gaps: IdleHistogram
    load_seconds: float
    memory_bytes: float
    seen: bool = True  # the gaps come from requests; False: from polls, which miss short gaps


class CostOutcome(Struct, frozen=True):
    """What a keep_alive would have cost over the observed gaps."""

    keep_alive: float  # seconds; 0: unload at once, inf: never unload
    cold_starts: float
    idle_gb_hours: float
    cost: float  # seconds of waiting


class Advice(Struct, frozen=True):
    """The advised keep_alive, and what it rests on."""

    keep_alive: float  # seconds; 0: unload at once, inf: never unload
    break_even: float  # seconds; inf: memory is free
    samples: int  # number of idle gaps
    confidence: Confidence
    by_data: bool  # whether the gaps decided, or else the break-even time
    outcomes: tuple[CostOutcome, ...]  # of all candidates, the shortest first

    @property
    def advised(self) -> CostOutcome:
        """What the advised value would have cost."""
        return self.at(self.keep_alive)

    def at(self, keep_alive: float) -> CostOutcome:
        """Return what any keep_alive would have cost, interpolated between two candidates."""
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
    """Return whether nearly all gaps come from requests."""
    return inferred <= MOSTLY * samples


def assumed_load(memory_bytes: float) -> float:
    """Return an estimate of the load time in seconds."""
    return ASSUMED_START + memory_bytes / ASSUMED_SPEED


def break_even(inputs: CostInputs, price: float) -> float:
    """Return for how many seconds holding the model costs as much as one load; inf: for ever."""
    rent = price * inputs.memory_bytes / GB / HOUR
    return inputs.load_seconds / rent if rent > 0 else math.inf


def advise(inputs: CostInputs, *, price: float = PRICE) -> Advice:
    """Return the advice. `price`: seconds of waiting that a GB-hour is worth, 0 or more."""
    sums = _Sums(inputs, price)
    even = break_even(inputs, price)
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
        confidence=_confidence(sums.samples, inputs.gaps.total),
        by_data=chosen != start,
        outcomes=tuple(sums.outcome(j) for j in range(len(CANDIDATES))),
    )


def surely_saved(inputs: CostInputs, then: float, now: float, *, price: float = PRICE) -> float:
    """Return the least that `then` saves over `now` beyond chance, seconds of waiting per gap.

    Both are rounded to the nearest candidate. Not positive: the saving may be chance.
    """
    sums = _Sums(inputs, price)
    if sums.samples < LEAST_GAPS:
        return -math.inf
    return -sums.more(nearest(then), than=nearest(now))


def nearest(seconds: float) -> int:
    """Return the index of the candidate with the smallest ratio to a time."""
    wanted = math.log(min(max(seconds, 1.0), PIN))
    marks = [math.log(min(max(keep, 1.0), PIN)) for keep in CANDIDATES]
    return min(range(len(marks)), key=lambda j: abs(marks[j] - wanted))


class _Sums:
    """Sums of the gaps up to each candidate: so two candidates are compared without a loop.

    Gaps in bucket k are longer than candidate k, and candidate k + 1 bridges them. `keeps`: the
    candidates; without requests, nothing is known about gaps near 0.
    """

    def __init__(self, inputs: CostInputs, price: float) -> None:
        self.keeps = CANDIDATES if inputs.seen else (UNSEEN_FLOOR, *CANDIDATES[1:])
        self._memory = inputs.memory_bytes
        self._rent = price * inputs.memory_bytes / GB / HOUR  # seconds of waiting a second idle
        self._load = inputs.load_seconds
        count = seconds = squares = 0.0
        self._bridged = [(count, seconds, squares)]
        for n, mean in zip(inputs.gaps.counts, inputs.gaps.means(), strict=True):
            count, seconds, squares = count + n, seconds + n * mean, squares + n * mean * mean
            self._bridged.append((count, seconds, squares))
        self.samples = count

    def outcome(self, j: int) -> CostOutcome:
        """Return what a candidate would have cost."""
        bridged, seconds, _ = self._bridged[j]
        cold = self.samples - bridged
        idle = seconds + (cold * self.keeps[j] if cold else 0.0)
        cost = cold * self._load + idle * self._rent
        return CostOutcome(self.keeps[j], cold, idle / HOUR * self._memory / GB, cost)

    def more(self, j: int, *, than: int) -> float:
        """Return how much more candidate j costs per gap, at most, unless by chance."""
        low, high = min(j, than), max(j, than)
        count, seconds, squares = (
            b - a for a, b in zip(self._bridged[low], self._bridged[high], strict=True)
        )
        # Gaps that only the longer one bridges: it pays the rent for them, the shorter one a load.
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
