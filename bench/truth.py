# SPDX-License-Identifier: Apache-2.0
"""Accuracy of the reasons on each recording of a real server: see docs/unload-reasons.md.

python -m bench.truth [--interval 15] [--begin 0] [--folder tests/data/polls]
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.scoring import Score, score
from ollama_exporter.recordings.format import Recording
from ollama_exporter.recordings.read_recording import read_recording
from ollama_exporter.recordings.replayer import PollUsed, replay
from ollama_exporter.recordings.server_log import read_server_log
from ollama_exporter.residency.events import Loaded, Unloaded
from ollama_exporter.residency.facts import Snapshot
from ollama_exporter.residency.poll_schedule import Cadence

RECORDINGS: Final = Path(__file__).parents[1] / "tests" / "data" / "polls"
SUFFIX: Final = ".jsonl.gz"
# No rule was made for an unload of these, and no time was set by them.
HELD_OUT: Final = frozenset({"busy-4", "quiet-6", "sizes-2"})
BUSY: Final = frozenset({"busy-1", "busy-4"})  # the cores of the machine were taken


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is seen besides the polls. `log`: level of the server's log; None: not followed."""

    requests: bool = False
    processes: bool = False
    log: str | None = None


def log_beside(truth: Path) -> Path:
    """Return the path of the server's log."""
    return truth.with_name(truth.name.replace(".truth.jsonl", ".log.gz"))


def judge(recording: Recording, truth: Path, *, interval: float, evidence: Evidence) -> Score:
    """Replay one recording and score it against the truth beside it."""
    used: set[float] = set()
    said: list[Loaded | Unloaded] = []
    cadence = Cadence(interval=interval)
    lines = (
        read_server_log(log_beside(truth), debug=evidence.log == "debug") if evidence.log else ()
    )
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
    parser.add_argument("--interval", type=float, default=15.0, help="of the polls, seconds")
    parser.add_argument("--begin", type=float, default=0.0, help="seconds into each recording")
    parser.add_argument("--folder", type=Path, default=RECORDINGS)
    arguments = parser.parse_args()
    for title, evidence in KINDS.items():
        print(title)
        results: dict[str, Score] = {}
        for file in sorted(arguments.folder.glob(f"*{SUFFIX}")):
            name = file.name.removesuffix(SUFFIX)
            truth = file.with_name(f"{name}.truth.jsonl")
            recording = read_recording(file).since(arguments.begin)
            if evidence.log and not log_beside(truth).exists():
                continue
            if evidence.processes and not (recording.has_processes or evidence.log):
                continue
            result = judge(recording, truth, interval=arguments.interval, evidence=evidence)
            results[name] = result
            print(f"  {name:10} {_line(result)}")
        for group, members in (
            ("tried on", results.keys() - HELD_OUT),
            ("held out", results.keys() & HELD_OUT),
            ("busy", results.keys() & BUSY),
            ("together", results.keys()),
        ):
            if members:
                total = sum((results[name] for name in members), Score())
                print(f"  {group:10} {_line(total)}")


def _line(result: Score) -> str:
    judged = result.judged or 1
    return (
        f"{result.judged:4} unloads   right {100 * result.right / judged:5.1f} %   "
        f"wrong {100 * result.wrong / judged:4.1f} %   missed {result.missed}   "
        f"invented {result.invented}   "
        f"hidden found {result.hidden[True]} of {result.hidden.total()}   "
        f"expired called other {result.said_instead('expired')}   "
        f"evicted called expired {result.said_instead('evicted', 'expired')}"
    )


if __name__ == "__main__":
    main()
