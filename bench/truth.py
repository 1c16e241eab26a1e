# SPDX-License-Identifier: Apache-2.0
"""Accuracy of the reasons on each recording of a real server: see docs/unload-reasons.md.

python -m bench.truth [--interval 15] [--begin 0] [--folder tests/data/polls]
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from bench.scoring import Score, Verdict, score
from ollama_exporter.poller.poll_schedule import Cadence
from ollama_exporter.recordings.format import Recording
from ollama_exporter.recordings.read_recording import read_recording
from ollama_exporter.recordings.replayer import PollUsed, replay
from ollama_exporter.recordings.server_log import read_server_log
from ollama_exporter.residency.events import Evidence as EvidenceOf
from ollama_exporter.residency.events import Loaded, Unloaded
from ollama_exporter.residency.facts import LogSaid, Snapshot
from ollama_exporter.residency.rules.sureness import Counts, share
from ollama_exporter.residency.tolerances import Tolerances

RECORDINGS: Final = Path(__file__).parents[1] / "tests" / "data" / "polls"
SUFFIX: Final = ".jsonl.gz"
# No rule was made for an unload of these, and no time was set by them.
HELD_OUT: Final = frozenset({"busy-4", "quiet-6", "sizes-2"})
BUSY: Final = frozenset({"busy-1", "busy-4"})  # the cores of the machine were taken
INTERVAL: Final = 15.0  # seconds
SURE: Final = ((0.9, 1.01), (0.8, 0.9), (0.6, 0.8), (0.0, 0.6))  # bounds


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is seen besides the polls. `log`: level of the server's log; None: not followed."""

    requests: bool = False
    processes: bool = False
    log: str | None = None


def log_beside(truth: Path) -> Path:
    """Return the path of the server's log."""
    return truth.with_name(truth.name.replace(".truth.jsonl", ".log.gz"))


@cache
def _log_of(truth: Path, *, debug: bool) -> tuple[LogSaid, ...]:
    return tuple(read_server_log(log_beside(truth), debug=debug))


def judge(
    recording: Recording,
    truth: Path,
    *,
    evidence: Evidence,
    interval: float = INTERVAL,
    tolerances: Tolerances | None = None,
) -> Score:
    """Replay one recording and score it against the truth beside it."""
    used: set[float] = set()
    said: list[Loaded | Unloaded] = []
    cadence = Cadence(interval=interval, tolerances=tolerances or Tolerances())
    lines = _log_of(truth, debug=evidence.log == "debug") if evidence.log else ()
    for event in replay(
        recording, cadence, requests=evidence.requests, processes=evidence.processes, log=lines
    ):
        if isinstance(event, PollUsed):
            used.add(event.t)
        elif isinstance(event, Loaded | Unloaded):
            said.append(event)
    polls = [
        (poll.started, poll.ended)
        for poll in recording.polls
        if poll.started in used and isinstance(poll, Snapshot)
    ]
    told = truth.read_text(encoding="utf-8").splitlines()
    return score([json.loads(line) for line in told], said, polls)


KINDS: Final = {
    "polls only": Evidence(),
    "all requests seen": Evidence(requests=True),
    "processes": Evidence(processes=True),
    "processes, all requests seen": Evidence(requests=True, processes=True),
    "processes, log at the default level": Evidence(processes=True, log="info"),
    "processes, log at the default level, all requests seen": Evidence(
        requests=True, processes=True, log="info"
    ),
    "processes, log at debug level": Evidence(processes=True, log="debug"),
}


def main() -> None:
    """Print one line for each recording and evidence, and the sums of groups of recordings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", type=float, default=INTERVAL, help="of the polls, seconds")
    parser.add_argument("--begin", type=float, default=0.0, help="seconds into each recording")
    parser.add_argument("--folder", type=Path, default=RECORDINGS)
    parser.add_argument("--evidence", action="store_true", help="print how often each was right")
    arguments = parser.parse_args()
    everything: dict[str, Score] = defaultdict(Score)
    recordings = {name: read(name, arguments.folder) for name in names(arguments.folder)}
    for title, evidence in KINDS.items():
        print(title)
        results = {
            name: judge(
                recorded.since(arguments.begin),
                truth_of(name, arguments.folder),
                evidence=evidence,
                interval=arguments.interval,
            )
            for name, recorded in recordings.items()
            if has(evidence, recorded, truth_of(name, arguments.folder))
        }
        for name, result in results.items():
            everything[name] += result
            print(f"  {name:10} {_line(result)}")
        for group, members in groups(results.keys()):
            total = sum((results[name] for name in members), Score())
            print(f"  {group:10} {_line(total)}")
    counted = {name: count(result.verdicts) for name, result in everything.items()}
    print("how sure, by the counts of the other recordings")
    for group, members in groups(everything.keys()):
        for low, high in SURE:
            print(f"  {group:10} {_sure_line(everything, counted, sorted(members), low, high)}")
    if arguments.evidence:
        for kind, (right, of) in sorted(add(counted.values()).items()):
            print(f"    Evidence.{kind.name}: ({right}, {of}),")


def names(folder: Path = RECORDINGS) -> list[str]:
    """Return the names of the recordings."""
    return sorted(file.name.removesuffix(SUFFIX) for file in folder.glob(f"*{SUFFIX}"))


def read(name: str, folder: Path = RECORDINGS) -> Recording:
    """Read a recording."""
    return read_recording(folder / f"{name}{SUFFIX}")


def truth_of(name: str, folder: Path = RECORDINGS) -> Path:
    """Return the path of the truth beside a recording."""
    return folder / f"{name}.truth.jsonl"


def has(evidence: Evidence, recording: Recording, truth: Path) -> bool:
    """Return whether a recording has all that evidence."""
    if evidence.log and not log_beside(truth).exists():
        return False
    return not evidence.processes or recording.has_processes or evidence.log is not None


def groups(names: AbstractSet[str]) -> list[tuple[str, AbstractSet[str]]]:
    found = (
        ("held out", names & HELD_OUT),
        ("tried on", names - HELD_OUT),
        ("quiet", names - BUSY),
        ("busy", names & BUSY),
        ("together", names),
    )
    return [(group, members) for group, members in found if members]


def count(verdicts: Iterable[Verdict]) -> Counts:
    """Count how often each evidence was right; an unload counts once for each."""
    last = {(x.evidence, x.model, x.t): x.right for x in verdicts}
    of = Counter(evidence for evidence, _, _ in last)
    right = Counter(evidence for (evidence, _, _), good in last.items() if good)
    return {evidence: (right[evidence], of[evidence]) for evidence in of}


def add(counts: Iterable[Counts]) -> Counts:
    """Add the counts of several recordings."""
    right, of = Counter[EvidenceOf](), Counter[EvidenceOf]()
    for each in counts:
        for evidence, (good, all_) in each.items():
            right[evidence] += good
            of[evidence] += all_
    return {evidence: (right[evidence], of[evidence]) for evidence in of}


def foreseen(
    results: Mapping[str, Score], counted: Mapping[str, Counts], name: str
) -> list[tuple[float, bool]]:
    """Return how sure each reason of a recording is by the others, and whether it is right."""
    others = add(counts for other, counts in counted.items() if other != name)
    return [(share(x.evidence, others), x.right) for x in results[name].verdicts]


def _sure_line(
    results: Mapping[str, Score],
    counted: Mapping[str, Counts],
    names: Iterable[str],
    low: float,
    high: float,
) -> str:
    said = [pair for name in names for pair in foreseen(results, counted, name)]
    within = [(sure, right) for sure, right in said if low <= sure < high]
    if not within:
        return f"{low:.1f} to {high:.1f}: none"
    mean, right = (sum(values) / len(within) for values in zip(*within, strict=True))
    return (
        f"{low:.1f} to {high:.1f}: {len(within):5} reasons   sure {mean:.3f} on average   "
        f"right {right:.3f}"
    )


def _line(result: Score) -> str:
    judged = result.judged or 1
    return (
        f"{result.unloads:4} unloads   polls can show {result.shown:4}   "
        f"right {100 * result.right / judged:5.1f} %   "
        f"wrong {100 * result.wrong / judged:4.1f} %   missed {result.missed}   "
        f"invented {result.invented}   "
        f"hidden found {result.hidden[True]} of {result.hidden.total()}   "
        f"expired called other {result.said_instead('expired')}   "
        f"evicted called expired {result.said_instead('evicted', 'expired')}"
    )


if __name__ == "__main__":
    main()
