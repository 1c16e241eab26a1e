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
from bench.truth import KINDS, count, foreseen, groups, has, judge, names, read, truth_of
from ollama_exporter.recordings.format import Recording
from ollama_exporter.residency.tolerances import Tolerances

# The values that are tried of each tolerance.
GRID: Final[Mapping[str, Sequence[float]]] = {
    "before_deadline": (0.3, 0.6, 0.9, 1.2),
    "after_deadline": (0.4, 0.8, 1.2, 1.6),
    "least_load": (1.0, 2.0, 3.0, 4.0),
    "replaced_within": (6.0, 8.0, 10.0, 15.0, 30.0),
    "context_changes": (120.0, 300.0, 600.0, 1800.0),
    "coverage": (0.8, 0.9, 0.95, 1.0),
}
USUAL: Final = Tolerances()
POLLS: Final = "polls only"
TRACED: Final = "likewise, without crashes and out-of-memories"
TITLES: Final = {
    POLLS: POLLS,
    "all requests seen": "requests",
    "processes": "processes",
    "processes, all requests seen": "both",
    "processes, log at the default level": "log",
    "processes, log at the default level, all requests seen": "log, requests",
    "processes, log at debug level": "debug log",
}
GOALS: Final = {
    POLLS: "80 / 5",
    "all requests seen": "97 / 1.5",
    "processes": "97 / 1.5",
    "processes, all requests seen": "99.5 / 0.3",
}
LEAST: Final = (0.0, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
COLUMNS: Final = ("together", "quiet", "busy", "held out")
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


def by_evidence(results: Mapping[str, Results]) -> str:
    """Return right / wrong by evidence."""
    lines = [_row("seen", "unloads", "polls can show", *COLUMNS, "goal"), _rule(4 + len(COLUMNS))]
    for kind, title in TITLES.items():
        found = of_groups(results, kind)
        cells = [cell(found.get(group)) for group in COLUMNS]
        total = found["together"]
        lines.append(_row(title, total.unloads, total.shown, *cells, GOALS.get(kind, "")))
        if kind == POLLS:
            traced = {group: score.with_a_trace() for group, score in found.items()}
            cells = [cell(traced[group]) for group in COLUMNS]
            lines.append(_row(TRACED, "", traced["together"].judged, *cells, ""))
    return "".join(lines)


def by_recording(results: Mapping[str, Results]) -> str:
    """Return right / wrong of each recording and group, a column for each evidence."""
    lines = [_row("recording", *TITLES.values()), _rule(1 + len(TITLES))]
    totals = {kind: of_groups(results, kind) for kind in TITLES}
    for group in totals[POLLS]:
        cells = [cell(totals[kind].get(group)) for kind in TITLES]
        lines.append(_row(f"**{group}**", *cells))
    of_each = ((name, *map(cell, map(result.get, TITLES))) for name, result in results.items())
    lines += [_row(*cells) for cells in of_each]
    return "".join(lines)


def by_margin(results: Mapping[str, Results]) -> str:
    """Return right / wrong of polls alone, if what is less sure were unknown.

    How sure a reason is, the counts of the other recordings tell.
    """
    polls = {name: result[POLLS] for name, result in results.items()}
    everything = {name: sum(result.values(), Score()) for name, result in results.items()}
    counted = {name: count(score.verdicts) for name, score in everything.items()}
    lines = [_row("least sure", *COLUMNS), _rule(1 + len(COLUMNS))]
    members = dict(groups(polls.keys()))
    for least in LEAST:
        cells = []
        for group in COLUMNS:
            said = [pair for name in members[group] for pair in foreseen(polls, counted, name)]
            kept = [right for sure, right in said if sure >= least]
            judged = sum(polls[name].judged for name in members[group])
            cells.append(_shares(sum(kept), len(kept) - sum(kept), judged))
        lines.append(_row(f"{least:g}" if least else "any", *cells))
    return "".join(lines)


def by_tolerance(fitted: Mapping[str, Tolerances]) -> str:
    """Return the value of each tolerance, and how often each value was fitted."""
    lines = [_row("tolerance", "value", "tried", "fitted, how often"), _rule(4)]
    usual = asdict(USUAL)
    for name, values in GRID.items():
        chosen = [asdict(tolerances)[name] for tolerances in fitted.values()]
        times = {value: chosen.count(value) for value in values if value in chosen}
        tried = ", ".join(f"{value:g}" for value in values)
        found = ", ".join(f"{value:g}: {count}" for value, count in times.items())
        lines.append(_row(f"`{name}`", f"{usual[name]:g}", tried, found))
    return "".join(lines)


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |\n"


def _rule(columns: int) -> str:
    return f"|{'---|' * columns}\n"


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
    return _shares(score.right, score.wrong, score.judged)


def _shares(right: int, wrong: int, of: int) -> str:
    return f"{100 * right / of:.1f} / {100 * wrong / of:.1f}"


def main() -> None:
    """Print the tables, or write them into a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--write", type=Path, help="put the tables between the marks of this page")
    arguments = parser.parse_args()
    usual, left_out, fitted = judge_all(arguments.workers)
    tables = {
        "by evidence, left out": by_evidence(left_out),
        "by evidence": by_evidence(usual),
        "by recording": by_recording(left_out),
        "by tolerance": by_tolerance(fitted),
        "by margin": by_margin(left_out),
    }
    for name, text in tables.items():
        print(text)
        if arguments.write is not None:
            write_between(arguments.write, name, text)


if __name__ == "__main__":
    main()
