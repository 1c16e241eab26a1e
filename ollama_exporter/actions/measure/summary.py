# SPDX-License-Identifier: Apache-2.0
"""Cold against warm calls: medians of their parts, and the keep_alive they suggest. Pure."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MINUTE: Final = 60.0


class Kind(StrEnum):
    """The state of the model when a call came."""

    COLD = "cold"  # not resident: the call loads it
    WARM = "warm"  # resident, with a prompt that is new to it
    CACHED = "cached"  # resident, with the prompt of the call before


@dataclass(frozen=True, slots=True)
class Sample:
    """One call. Durations in seconds; None: not in the answer."""

    kind: Kind
    total: float  # by our own clock, from sending to the end
    first_token: float | None  # by our own clock, to the first text
    load: float | None  # wait for a runner
    prompt: float | None  # processing of the prompt tokens that were not cached
    generation: float | None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def rest(self) -> float | None:
        """Seconds in none of the three: network, templating, a wait for a slot."""
        if self.generation is None:
            return None
        known = (self.load or 0.0) + (self.prompt or 0.0) + self.generation
        return max(0.0, self.total - known)

    @property
    def tokens_per_second(self) -> float | None:
        """Speed of the generation. The first token costs none of its time."""
        if not self.generation or self.output_tokens is None or self.output_tokens < 2:  # noqa: PLR2004 - one token has no rate
            return None
        return (self.output_tokens - 1) / self.generation


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest value."""

    median: float
    low: float
    high: float


Part = Callable[[Sample], float | None]
# The columns of every table, in the order of time.
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
    """One kind of call: its number of runs, and the spread of each part (None: never reported)."""

    kind: Kind
    runs: int
    parts: dict[str, Spread | None]
    tokens_per_second: Spread | None


def spread(values: Sequence[float | None]) -> Spread | None:
    """Return the spread of the known values."""
    known = [value for value in values if value is not None]
    return Spread(statistics.median(known), min(known), max(known)) if known else None


def rows(samples: Sequence[Sample]) -> list[MeasureRow]:
    """Return one row for each kind that has samples."""
    found = []
    for kind in Kind:
        mine = [sample for sample in samples if sample.kind is kind]
        if mine:
            parts = {name: spread([part(each) for each in mine]) for name, part in PARTS.items()}
            speed = spread([each.tokens_per_second for each in mine])
            found.append(MeasureRow(kind, len(mine), parts, speed))
    return found


def verdict(samples: Sequence[Sample], *, every: float) -> str:
    """Return one or two sentences: what a cold call costs, and which keep_alive follows.

    `every`: seconds between two calls in the user's own use.
    """
    found = {row.kind: row for row in rows(samples)}
    cold = found.get(Kind.COLD)
    warm = found.get(Kind.WARM) or found.get(Kind.CACHED)
    if cold is None or cold.parts["total"] is None:
        return "No cold call was measured."
    total, load = cold.parts["total"].median, cold.parts["load"]
    text = f"The first call costs {_render_seconds(total)}"
    if load is not None:
        text += f", {_render_seconds(load.median)} of it loading"
    if warm is not None and warm.parts["total"] is not None:
        usual = warm.parts["total"].median
        text += f"; a warm one {_render_seconds(usual)}"
        if load is not None and load.median < usual / 10:
            return text + ". Loading hardly counts: any keep_alive will do."
        keep = _minutes_above(every)
        return text + (
            f". Keep the model for {_span(keep)} or more if you call it every {_span(every)}."
        )
    return text + "."


def _minutes_above(every: float) -> float:
    """Return the next longer span in whole minutes: calls do not come on the second."""
    return (every // MINUTE + 1) * MINUTE


def _render_seconds(value: float) -> str:
    return f"{value:.1f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def _span(seconds: float) -> str:
    if seconds < MINUTE:
        return f"{seconds:g} seconds"
    minutes = seconds / MINUTE
    return f"{minutes:g} minute{'' if minutes == 1 else 's'}"
