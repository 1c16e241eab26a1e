# SPDX-License-Identifier: Apache-2.0
"""What the advice would have cost on fifteen families of arrivals: see docs/keep-alive.md.

python -m bench.keepalive [--every 1] [--copies 8] [--write docs/keep-alive.md]

Costs are relative to a clairvoyant's, who knows each gap beforehand. The advice knows, at each
gap, what the exporter would have counted until then.
"""

import argparse
import math
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.arrivals import Family, Model, families, pooled
from ollama_exporter.advice.idle_gaps import IdleGapDetector
from ollama_exporter.advice.idle_histogram import IdleHistogram
from ollama_exporter.advice.keep_alive_advice import (
    CANDIDATES,
    DOUBT,
    GB,
    HOUR,
    LEAST_GAPS,
    PRICE,
    CostInputs,
    advise,
)
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.facts import Snapshot

BREAK_EVENS: Final = (300.0, 900.0, 3600.0)
SERVER_DEFAULT: Final = 300.0
POLL: Final = 15.0
RECENT: Final = 200
MARKS: Final = ("<!-- figures -->", "<!-- end of figures -->")
Policy = Callable[[Model, float], float]  # model, break-even time -> cost, in loads


@dataclass(frozen=True, slots=True)
class Row:
    """One family at one break-even time: cost of each policy over the clairvoyant's."""

    family: str
    break_even: float
    costs: dict[str, float]


def cost(gap: float, keep_alive: float, even: float) -> float:
    """Return what a gap costs, in loads."""
    return (gap > keep_alive) + min(gap, keep_alive) / even


def habits(gaps: IdleHistogram, even: float, *, seen: bool = True) -> CostInputs:
    """Return a model of a gigabyte that breaks even after that time at the default price."""
    return CostInputs(gaps, load_seconds=even * PRICE / HOUR, memory_bytes=GB, seen=seen)


# -- policies --------------------------------------------------------------------------------------


def clairvoyant(model: Model, even: float) -> float:
    return sum(min(1.0, gap / even) for gap in model.gaps())


def always(keep_alive: float) -> Policy:
    return lambda model, even: sum(cost(gap, keep_alive, even) for gap in model.gaps())


def break_even(model: Model, even: float) -> float:
    return sum(cost(gap, even, even) for gap in model.gaps())


def best_fixed(model: Model, even: float) -> float:
    outcomes = advise(habits(IdleHistogram.of(model.gaps()), even)).outcomes
    return min(outcome.cost for outcome in outcomes) / (even * PRICE / HOUR)


def advised(model: Model, even: float) -> float:
    """Follow the advice as requests show the gaps."""
    known, total = IdleHistogram(), 0.0
    rests_on = habits(known, even)
    for gap in model.gaps():
        total += cost(gap, advise(rests_on).keep_alive, even)
        known.add(gap)
    return total


def advised_from_polls(model: Model, even: float) -> float:
    """Follow the advice as polls every 15 s show the gaps, under the server's default."""
    known, total = IdleHistogram(), 0.0
    rests_on = habits(known, even, seen=False)
    told = told_by_polls(model)
    at, inferred = next(told, (math.inf, 0.0))
    for arrival, gap in zip(model.arrivals[1:], model.gaps(), strict=True):
        while at <= arrival:
            known.add(inferred)
            at, inferred = next(told, (math.inf, 0.0))
        total += cost(gap, advise(rests_on).keep_alive, even)
    return total


def exact(model: Model, even: float) -> float:
    """Decide by the latest 200 gaps as they were, not as buckets keep them: what those cost."""
    recent: deque[list[float]] = deque(maxlen=RECENT)
    sums, squares, total = [0.0] * len(CANDIDATES), [0.0] * len(CANDIDATES), 0.0
    for gap in model.gaps():
        n, keep = len(recent), even
        if n >= LEAST_GAPS:
            means = [value / n for value in sums]
            worst = [
                mean + DOUBT * math.sqrt(max(0.0, square / n - mean * mean) / n)
                for mean, square in zip(means, squares, strict=True)
            ]
            best = min(range(len(worst)), key=worst.__getitem__)
            keep = CANDIDATES[best] if worst[best] < 0 else even
        total += cost(gap, keep, even)
        more = [cost(gap, candidate, even) - cost(gap, even, even) for candidate in CANDIDATES]
        left = recent[0] if n == RECENT else [0.0] * len(CANDIDATES)
        recent.append(more)
        for j, (new, old) in enumerate(zip(more, left, strict=True)):
            sums[j] += new - old
            squares[j] += new * new - old * old
    return total


POLICIES: Final[dict[str, Policy]] = {
    "5m": always(SERVER_DEFAULT),
    "30m": always(1800.0),
    "forever": always(math.inf),
    "break-even": break_even,
    "advised": advised,
    "from polls": advised_from_polls,
    "exact": exact,
    "best fixed": best_fixed,
}


# -- what polls show -------------------------------------------------------------------------------


def told_by_polls(model: Model) -> Iterator[tuple[float, float]]:
    """Yield the gaps that the tracker of gaps infers, each with the moment of the poll.

    Loads take no time here. Polls at which nothing can have changed are left out.
    """
    gaps = IdleGapDetector(blind=math.inf)
    for at, deadline in _polls(model):
        entry = RunningModel("m:latest", "d", 0.0 if deadline is None else deadline)
        listed = () if deadline is None else (entry,)
        for _, gap in gaps.on_poll(Snapshot(at, at, listed)):
            yield at, gap


def _polls(model: Model) -> Iterator[tuple[float, float | None]]:
    """Yield moment and deadline shown (None: not listed) of the polls around each change."""
    yield 0.0, None
    polled = 0.0
    end = -math.inf  # of the last request; before the first one nothing is listed
    written = -math.inf  # deadline as it was last written
    for arrival, following in zip(model.arrivals, [*model.arrivals[1:], math.inf], strict=True):
        fresh = arrival > written
        end = max(end, arrival) + model.service if arrival < end else arrival + model.service
        if following <= end:
            continue
        before, written = written, end + SERVER_DEFAULT
        for at in _moments(arrival, end, min(following, written + 2 * POLL), written):
            if at <= polled or at >= following:
                continue
            polled = at
            if at < arrival:
                yield at, None if fresh else before
            elif at < end:
                yield at, at + SERVER_DEFAULT if fresh else before
            else:
                yield at, written if at < written else None


def _moments(arrival: float, end: float, until: float, expiry: float) -> list[float]:
    """Return the polls next to what changes."""
    near: set[float] = set()
    for moment in (arrival, end, expiry, until):
        index = math.floor(moment / POLL)
        near.update(POLL * (index + offset) for offset in (-1, 0, 1, 2))
    return sorted(near)


# -- tables ----------------------------------------------------------------------------------------


def evaluate(
    name: str, family: Family, even: float, policies: Mapping[str, Policy] = POLICIES
) -> Row:
    """Weigh policies on one family."""
    ideal = sum(clairvoyant(model, even) for model in family)
    costs = {
        label: sum(policy(model, even) for model in family) / ideal
        for label, policy in policies.items()
    }
    return Row(name, even, costs)


def mean(rows: list[Row], policy: str, even: float) -> float:
    """Return the mean over the families."""
    return statistics.mean(row.costs[policy] for row in rows if row.break_even == even)


def table(rows: list[Row], *, digits: int = 2) -> str:
    """Return the evidence as Markdown: each family at 15 min, the means at all."""
    lines = [
        "| arrivals | " + " | ".join(POLICIES) + " |",
        "|---" * (len(POLICIES) + 1) + "|",
    ]
    for row in rows:
        if row.break_even == 900.0:
            values = " | ".join(f"{row.costs[policy]:.{digits}f}" for policy in POLICIES)
            lines.append(f"| {row.family} | {values} |")
    for even in BREAK_EVENS:
        values = " | ".join(f"**{mean(rows, policy, even):.{digits}f}**" for policy in POLICIES)
        lines.append(f"| **mean, break-even {even / 60:g} min** | {values} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, or write it into a page between its marks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="only each n-th function")
    parser.add_argument("--copies", type=int, default=8, help="of the families that are drawn")
    parser.add_argument("--digits", type=int, default=2)
    parser.add_argument("--write", type=Path, help="page that holds the table between its marks")
    arguments = parser.parse_args()
    rows: list[Row] = []
    started = time.monotonic()
    for name, family in families(every=arguments.every, copies=arguments.copies).items():
        rows += [evaluate(name, family, even) for even in BREAK_EVENS]
        took = time.monotonic() - started
        print(f"{took:4.0f} s  {name}: {pooled(family)} gaps", file=sys.stderr)
    if arguments.write is None:
        print(table(rows, digits=arguments.digits))
        return
    text = arguments.write.read_text(encoding="utf-8")
    head, rest = text.split(MARKS[0])
    tail = rest.split(MARKS[1])[1]
    page = f"{head}{MARKS[0]}\n{table(rows)}\n{MARKS[1]}{tail}"
    arguments.write.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
