# SPDX-License-Identifier: Apache-2.0
"""Compares what `replay` reports of a recording with the truth beside it.

Polls can show an unload if one that was used listed that incarnation, and the first answered one
after its end did not list the same weights with the same context. What no used poll can show (never
listed, or back unchanged before the next poll) is counted apart: it is neither right nor wrong. So
much follows from the truth and the moments of the polls alone, whatever was reported.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ollama_exporter.residency.events import Evidence, Loaded, Reason, Unloaded

TOLERANCE: Final = 0.6  # seconds: the recordings poll every half second
TRACELESS: Final = frozenset({"crashed", "out_of_memory"})
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One incarnation of a model, by the truth. `unload` is None if it outlived the recording."""

    model: str
    weights: str
    context: int
    begin: float
    end: float
    unload: Record | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One reason that was reported, other than `unknown`."""

    t: float  # the true moment
    model: str
    evidence: Evidence  # the first
    right: bool


@dataclass(slots=True)
class Score:
    """Counts of one recording. `pairs` are (true reason, reported reason)."""

    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    missed: int = 0  # could be seen, not said
    invented: int = 0  # said, never happened
    hidden: Counter[bool] = field(default_factory=Counter)  # no used poll could show it: found?
    delays: dict[str, list[float]] = field(default_factory=dict)  # right ones: until it settled
    mistakes: list[tuple[Record, Unloaded]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def judged(self) -> int:
        """Unloads that could be seen and were reported."""
        return sum(self.pairs.values())

    @property
    def right(self) -> int:
        """Unloads reported with the true reason."""
        return sum(n for (true, said), n in self.pairs.items() if true == said)

    @property
    def wrong(self) -> int:
        """Unloads reported with another reason; `unknown` is neither right nor wrong."""
        return sum(n for (true, said), n in self.pairs.items() if said not in (true, "unknown"))

    @property
    def shown(self) -> int:
        """Unloads that the polls could show."""
        return self.judged + self.missed

    @property
    def unloads(self) -> int:
        """All true unloads while polls were made."""
        return self.shown + self.hidden.total()

    def with_a_trace(self) -> "Score":
        """Return the counts without the causes that leave no trace in a listing.

        A runner that died stays listed as it was until something else removes it, and what an
        out-of-memory drops leaves as any other model does.
        """
        traced = {pair: n for pair, n in self.pairs.items() if pair[0] not in TRACELESS}
        return Score(Counter(traced), self.missed, self.invented, self.hidden)

    def said_instead(self, true: str, said: str | None = None) -> int:
        """Count the unloads of one true reason that were reported as another."""
        return sum(
            n
            for (reason, called), n in self.pairs.items()
            if reason == true and (called != true if said is None else called == said)
        )

    def __add__(self, other: "Score") -> "Score":
        """Add two recordings."""
        delays = {
            reason: [*self.delays.get(reason, []), *other.delays.get(reason, [])]
            for reason in {**self.delays, **other.delays}
        }
        return Score(
            self.pairs + other.pairs,
            self.missed + other.missed,
            self.invented + other.invented,
            self.hidden + other.hidden,
            delays,
            [*self.mistakes, *other.mistakes],
            [*self.verdicts, *other.verdicts],
        )


def score(
    truth: Iterable[Record],
    said: Iterable[Loaded | Unloaded],
    polls: Sequence[tuple[float, float]],
) -> Score:
    """Score what was reported. `polls`: start and end of the used polls that were answered."""
    lives = incarnations(truth)
    seen, unseen, outside = divide(lives, polls)
    unloads = [event for event in said if isinstance(event, Unloaded)]
    matched = _match(seen, unloads)
    rest = [event for number, event in enumerate(unloads) if number not in matched.values()]
    hidden = _match(unseen, rest)
    left = [event for number, event in enumerate(rest) if number not in hidden.values()]
    result = Score(missed=len(seen) - len(matched), invented=len(left) - len(_match(outside, left)))
    result.hidden = Counter({True: len(hidden), False: len(unseen) - len(hidden)})
    for index, number in matched.items():
        reason, true = unloads[number].reason.value, seen[index]
        also = true.get("also")  # a second cause that held at the same moment: as right
        result.pairs[reason if reason == also else true["reason"], reason] += 1
        right = reason in (true["reason"], also)
        if unloads[number].reason is not Reason.UNKNOWN:
            first = unloads[number].evidence[0]
            result.verdicts.append(Verdict(true["t"], true["model"], first, right))
        if right:
            result.delays.setdefault(reason, []).append(unloads[number].settled_at - true["t"])
        else:
            result.mistakes.append((true, unloads[number]))
    return result


def incarnations(truth: Iterable[Record]) -> list[Incarnation]:
    """Join the true loads and unloads to incarnations."""
    loaded: dict[tuple[str, str], Record] = {}
    lives: list[Incarnation] = []
    for record in truth:
        if record["event"] not in ("loaded", "unloaded"):
            continue
        key = (record["model"], record["pid"])
        if record["event"] == "loaded":
            loaded[key] = record
            continue
        loaded.pop(key, None)
        lives.append(_life(record, record["loaded_at"], record["t"], record))
    lives += [_life(record, record["t"], float("inf"), None) for record in loaded.values()]
    return sorted(lives, key=lambda life: life.begin)


def _life(record: Record, begin: float, end: float, unload: Record | None) -> Incarnation:
    return Incarnation(record["model"], record["blob"], record["num_ctx"], begin, end, unload)


def divide(
    lives: Sequence[Incarnation], polls: Sequence[tuple[float, float]]
) -> tuple[list[Record], list[Record], list[Record]]:
    """Divide the true unloads: those that polls could show, could not show, and did not cover."""
    seen: list[Record] = []
    unseen: list[Record] = []
    outside: list[Record] = []
    for life in lives:
        if life.unload is None:
            continue
        after = next((start for start, _ in polls if start >= life.end), None)
        if after is None or life.end < polls[0][0]:
            outside.append(life.unload)
        elif not any(life.begin <= start and end <= life.end for start, end in polls):
            unseen.append(life.unload)
        else:
            back = life.unload["reason"] != "server_restarted" and _back(life, lives, after)
            (unseen if back else seen).append(life.unload)
    return seen, unseen, outside


def _back(life: Incarnation, lives: Iterable[Incarnation], moment: float) -> bool:
    """Return whether the same weights with the same context are loaded again at that moment."""
    heirs = [
        other
        for other in lives
        if (other.model, other.weights) == (life.model, life.weights)
        and life.begin < other.begin <= moment < other.end
    ]
    return bool(heirs) and heirs[0].context == life.context


def _match(truth: Sequence[Record], said: Sequence[Unloaded]) -> dict[int, int]:
    """Pair true and reported unloads of the same model by their bounds, nearest first."""
    candidates = []
    for index, record in enumerate(truth):
        # A crashed runner dies before it leaves the list: either moment will do.
        for moment in {record["t"], record.get("died", record["t"])}:
            for number, event in enumerate(said):
                low, high = event.not_before - TOLERANCE, event.not_after + TOLERANCE
                if event.model.name == record["model"] and low <= moment <= high:
                    middle = (event.not_before + event.not_after) / 2
                    candidates.append((abs(middle - moment), index, number))
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for _, index, number in sorted(candidates):
        if index not in pairs and number not in taken:
            pairs[index] = number
            taken.add(number)
    return pairs
