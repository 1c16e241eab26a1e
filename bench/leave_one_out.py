# SPDX-License-Identifier: Apache-2.0
"""Accuracy of the reasons on recordings that had no part in them: see docs/unload-reasons.md.

python -m bench.leave_one_out [--workers 2] [--write docs/unload-reasons.md]

Each recording is judged with tolerances that were fitted on all the others. Each tolerance is
fitted on its own, while the others have their usual values: right minus wrong reasons, over all
kinds of evidence, is greatest; of several values that are as good, the middle one is taken. The
rules themselves cannot be fitted anew; what they are worth on recordings that no rule was made on,
the row of those held out shows.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Final

from msgspec.structs import asdict, replace

from bench.run import write_between
from bench.scoring import Score
from bench.truth import KINDS, groups, has, judge, names, read, truth_of
from ollama_exporter.recordings.format import Recording
from ollama_exporter.residency.tolerances import Tolerances

# The values that are tried of each tolerance.
GRID: Final[Mapping[str, Sequence[float]]] = {
    "before_deadline": (0.3, 0.6, 0.9, 1.2),
    "after_deadline": (0.4, 0.8, 1.2, 1.6),
    "least_load": (1.0, 2.0, 3.0, 4.0),
    "swift": (2, 3, 4, 5),
    "replaced_within": (6.0, 8.0, 10.0, 15.0, 30.0),
    "context_changes": (120.0, 300.0, 600.0, 1800.0),
    "coverage": (0.8, 0.9, 0.95, 1.0),
}
USUAL: Final = Tolerances()
GOALS: Final = {
    "polls only": "80 / 5",
    "all requests seen": "97 / 1.5",
    "processes": "97 / 1.5",
    "processes, all requests seen": "99.5 / 0.3",
}
COLUMNS: Final = ("together", "quiet", "busy")
Job = tuple[str, Tolerances]  # a recording, judged with these
Results = Mapping[str, Score]  # by kind of evidence


def candidates() -> list[Tolerances]:
    """Return the usual tolerances, and each with one value changed."""
    changed = [replace(USUAL, **{name: x}) for name, values in GRID.items() for x in values]
    return list(dict.fromkeys([USUAL, *changed]))


def fit(judged: Mapping[Job, Results], left_out: str) -> Tolerances:
    """Return the tolerances that suit the other recordings best."""
    others = sorted({name for name, _ in judged if name != left_out})
    best: dict[str, float] = {}
    for name, values in GRID.items():
        gains = [_gain(judged, others, replace(USUAL, **{name: value})) for value in values]
        as_good = [value for value, gain in zip(values, gains, strict=True) if gain == max(gains)]
        best[name] = as_good[len(as_good) // 2]
    return replace(USUAL, **best)


def _gain(judged: Mapping[Job, Results], names: Iterable[str], tolerances: Tolerances) -> int:
    """Return how many more reasons were right than wrong."""
    scores = (score for name in names for score in judged[name, tolerances].values())
    return sum(score.right - score.wrong for score in scores)


@cache
def _recording(name: str) -> Recording:
    return read(name)


def _judge(job: Job) -> dict[str, Score]:
    name, tolerances = job
    recording, truth = _recording(name), truth_of(name)
    return {
        kind: judge(recording, truth, evidence=evidence, tolerances=tolerances)
        for kind, evidence in KINDS.items()
        if has(evidence, recording, truth)
    }


def judge_all(workers: int) -> tuple[dict[str, Results], dict[str, Results], dict[str, Tolerances]]:
    """Return the results with the usual tolerances, with the fitted ones, and these."""
    with ProcessPoolExecutor(workers) as pool:
        jobs = [(name, tolerances) for tolerances in candidates() for name in names()]
        judged: dict[Job, Results] = dict(zip(jobs, pool.map(_judge, jobs), strict=True))
        fitted = {name: fit(judged, name) for name in names()}
        rest = [job for job in fitted.items() if job not in judged]
        judged |= dict(zip(rest, pool.map(_judge, rest), strict=True))
    usual = {name: judged[name, USUAL] for name in names()}
    return usual, {name: judged[name, fitted[name]] for name in names()}, fitted


def table(left_out: Mapping[str, Results], usual: Mapping[str, Results]) -> str:
    """Return right / wrong by evidence: left out, and with the usual tolerances."""
    head = ("unloads", "polls can show", "**left out**", "quiet", "busy", "all", "quiet", "busy")
    lines = [f"| seen | {' | '.join(head)} | goal |", "|" + "---|" * (2 + len(head))]
    for kind in KINDS:
        both = [of_groups(results, kind) for results in (left_out, usual)]
        cells = [cell(found.get(group)) for found in both for group in COLUMNS]
        counts = f"{both[0]['together'].unloads} | {both[0]['together'].shown}"
        cells[0] = f"**{cells[0]}**"
        lines.append(f"| {kind} | {counts} | {' | '.join(cells)} | {GOALS.get(kind, '')} |")
    return "\n".join(lines) + "\n"


def by_recording(results: Mapping[str, Results]) -> str:
    """Return right / wrong of each recording and group, a column for each evidence."""
    lines = ["| recording | " + " | ".join(KINDS) + " |", "|" + "---|" * (1 + len(KINDS))]
    totals = {kind: of_groups(results, kind) for kind in KINDS}
    for group in totals["polls only"]:
        cells = " | ".join(cell(totals[kind].get(group)) for kind in KINDS)
        lines.append(f"| **{group}** | {cells} |")
    for name, result in results.items():
        lines.append(f"| {name} | {' | '.join(cell(result.get(kind)) for kind in KINDS)} |")
    return "\n".join(lines) + "\n"


def by_tolerance(fitted: Mapping[str, Tolerances]) -> str:
    """Return the value of each tolerance, and how often each value was fitted."""
    lines = ["| tolerance | value | tried | fitted, to how many recordings |", "|---|---|---|---|"]
    usual = asdict(USUAL)
    for name, values in GRID.items():
        chosen = [asdict(tolerances)[name] for tolerances in fitted.values()]
        times = {value: chosen.count(value) for value in values if value in chosen}
        tried = ", ".join(f"{value:g}" for value in values)
        found = ", ".join(f"{value:g}: {count}" for value, count in times.items())
        lines.append(f"| `{name}` | {usual[name]:g} | {tried} | {found} |")
    return "\n".join(lines) + "\n"


def of_groups(results: Mapping[str, Results], kind: str) -> dict[str, Score]:
    """Return the sums of one kind of evidence by group of recordings."""
    scores = {name: by_kind[kind] for name, by_kind in results.items() if kind in by_kind}
    return {
        group: sum((scores[name] for name in members), Score())
        for group, members in groups(scores.keys())
    }


def cell(score: Score | None) -> str:
    """Return right / wrong in percent."""
    if score is None or not score.judged:
        return ""
    return f"{100 * score.right / score.judged:.1f} / {100 * score.wrong / score.judged:.1f}"


def main() -> None:
    """Print the tables, or write them into a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--write", type=Path, help="put the tables between the marks of this page")
    arguments = parser.parse_args()
    usual, left_out, fitted = judge_all(arguments.workers)
    tables = {
        "left out": table(left_out, usual),
        "by recording": by_recording(left_out),
        "fitted": by_tolerance(fitted),
    }
    for name, text in tables.items():
        print(text)
        if arguments.write is not None:
            write_between(arguments.write, name, text)


if __name__ == "__main__":
    main()
