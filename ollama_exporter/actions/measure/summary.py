# SPDX-License-Identifier: Apache-2.0
"""Cold against warm: what single calls were made of, in medians, and what follows from it. Pure."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MINUTE: Final = 60.0


class Kind(StrEnum):
    """How a call found the model."""

    COLD = "cold"  # not resident: the call has it loaded
    WARM = "warm"  # resident, with a prompt that it has not seen
    CACHED = "cached"  # resident, with the prompt of the call before


@dataclass(frozen=True, slots=True)
class Sample:
    """One call. Durations in seconds; None: the answer does not say."""

    kind: Kind
    total: float  # by our clock, from sending to the end
    first_token: float | None  # likewise, to the first text
    load: float | None  # time waited for a runner
    prompt: float | None  # prompt processing, of the tokens that were not cached
    generation: float | None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def rest(self) -> float | None:
        """What is in none of the three: network, templating, a wait for a slot."""
        if self.generation is None:
            return None
        known = (self.load or 0.0) + (self.prompt or 0.0) + self.generation
        return max(0.0, self.total - known)

    @property
    def tokens_per_second(self) -> float | None:
        """Of the generation: the first token costs none of its time."""
        if not self.generation or self.output_tokens is None or self.output_tokens < 2:  # noqa: PLR2004 - one token has no successor
            return None
        return (self.output_tokens - 1) / self.generation


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, and the smallest and largest of the values."""

    median: float
    low: float
    high: float


Part = Callable[[Sample], float | None]
# The columns of every table, in the order in which time passes.
PARTS: Final[dict[str, Part]] = {
    "load": lambda sample: sample.load,
    "prompt": lambda sample: sample.prompt,
    "first_token": lambda sample: sample.first_token,
    "generation": lambda sample: sample.generation,
    "rest": lambda sample: sample.rest,
    "total": lambda sample: sample.total,
}


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """One kind of call: how many, and the spread of each part (None: never said)."""

    kind: Kind
    runs: int
    parts: dict[str, Spread | None]
    tokens_per_second: Spread | None


def spread(values: Sequence[float | None]) -> Spread | None:
    """Return the spread of the values that are known."""
    known = [value for value in values if value is not None]
    return Spread(statistics.median(known), min(known), max(known)) if known else None


def rows(samples: Sequence[Sample]) -> list[MeasureRow]:
    """Put the samples of each kind together."""
    found = []
    for kind in Kind:
        mine = [sample for sample in samples if sample.kind is kind]
        if mine:
            parts = {name: spread([part(each) for each in mine]) for name, part in PARTS.items()}
            speed = spread([each.tokens_per_second for each in mine])
            found.append(MeasureRow(kind, len(mine), parts, speed))
    return found


def verdict(samples: Sequence[Sample], *, every: float) -> str:
    """Say in one sentence what a cold call costs, and what keep_alive follows from it.

    `every`: seconds between two calls, as the user says.
    """
    found = {row.kind: row for row in rows(samples)}
    cold = found.get(Kind.COLD)
    warm = found.get(Kind.WARM) or found.get(Kind.CACHED)
    if cold is None or cold.parts["total"] is None:
        return "No cold call was measured."
    total, load = cold.parts["total"].median, cold.parts["load"]
    said = f"The first call costs {_seconds(total)}"
    if load is not None:
        said += f", {_seconds(load.median)} of it loading"
    if warm is not None and warm.parts["total"] is not None:
        usual = warm.parts["total"].median
        said += f"; a warm one {_seconds(usual)}"
        if load is not None and load.median < usual / 10:
            return said + ". Loading hardly counts: any keep_alive will do."
        keep = _minutes_above(every)
        return said + (
            f". Keep the model for {_span(keep)} or more if you call it every {_span(every)}."
        )
    return said + "."


def _minutes_above(every: float) -> float:
    """Return the next longer span of whole minutes: calls do not come on the second."""
    return (every // MINUTE + 1) * MINUTE


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def _span(seconds: float) -> str:
    if seconds < MINUTE:
        return f"{seconds:g} seconds"
    minutes = seconds / MINUTE
    return f"{minutes:g} minute{'' if minutes == 1 else 's'}"
