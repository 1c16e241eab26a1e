# SPDX-License-Identifier: Apache-2.0
"""Accuracy of the reasons live: exporters run as processes beside a server that knows the truth.

python -m bench.live [--minutes 5] [--seed 1] [--busy 2] [--processes-only]

Replay of a recording never shows what it costs to notice late. Here the simulated server with real
processes plays random clients, stops and crashes, `--busy` further processes take the cores, and
what each exporter logged is compared with what the scheduler did: first on the machine as it is,
then with its cores taken.
"""

import argparse
import asyncio
import json
import math
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench.scoring import Incarnation, divide
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.script import Ask, Crash, Script, Step, Stop, Via
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host, Load, Truth, Unload

ROOT: Final = Path(__file__).parents[1]
MODELS: Final = ("mistral", "llama3.2", "qwen2.5:7b", "nomic-embed-text")
EVIDENCE: Final = {"polls": ("--collector.processes=off",), "processes": ()}
SLACK: Final = 1.5  # seconds by which a moment may lie outside the bounds that were logged
SETTLING: Final = 70.0  # seconds after which every reason is settled
BURNING: Final = (
    "import time\nwhile 1:\n e=time.time()+.8\n while time.time()<e: pass\n time.sleep(.2)"
)
Line = dict[str, Any]


@dataclass(slots=True)
class Comparison:
    """What one exporter logged, beside the truth."""

    unloads: int = 0
    right: int = 0
    wrong: int = 0
    unknown: int = 0
    missed: int = 0
    invented: int = 0
    mistakes: list[str] = field(default_factory=list)
    crashes_invented: int = 0  # `crashed` where no runner did
    shown: int = 0  # polls of that exporter could show them
    shown_right: int = 0
    shown_wrong: int = 0

    def line(self) -> str:
        """Return the counts as a line of text."""
        all_ = self.unloads or 1
        return (
            f"{self.unloads:4} unloads   right {100 * self.right / all_:5.1f} %   "
            f"wrong {100 * self.wrong / all_:4.1f} %   unknown {self.unknown}   "
            f"missed {self.missed}   invented {self.invented}   "
            f"crashes invented {self.crashes_invented}   polls could show {self.shown}, of these "
            f"right {_percent(self.shown_right, self.shown)} %   "
            f"wrong {_percent(self.shown_wrong, self.shown)} %"
        )

    def cells(self) -> tuple[str, str]:
        """Return right / wrong in percent: of all, and of what its polls could show."""
        return (
            f"{_percent(self.right, self.unloads)} / {_percent(self.wrong, self.unloads)}",
            f"{_percent(self.shown_right, self.shown)} / {_percent(self.shown_wrong, self.shown)}",
        )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / (whole or 1):.0f}"


def workload(seed: int, duration: float) -> Script:
    """Write random clients of a host on which two or three models fit, with stops and crashes."""
    rng = random.Random(seed)
    steps: list[Step] = []
    at = 3.0
    while at < duration - 5.0:
        model = rng.choice(MODELS)
        chance = rng.random()
        if chance < 0.08:
            steps.append(Stop(at, model))
        elif chance < 0.13:
            steps.append(Crash(at, model))
        else:
            keep_alive = rng.choice([None, "3s", "3s", "8s", 0, "5m"])
            num_ctx = rng.choice([None, None, None, 8192])
            tokens = 1 if model == "nomic-embed-text" else rng.choice([5, 40, 120])
            via: Via = "embed" if model == "nomic-embed-text" else "generate"
            steps.append(Ask(at, model, tokens, 40.0, via, keep_alive, num_ctx))
        at += rng.expovariate(1 / 1.5)
    host = Host(memory=10 * GIB, keep_alive=12.0, recovery=1.0)
    return Script("live", tuple(steps), duration, host, default_catalogue().compressed(6.0))


@contextmanager
def exporter(url: str, log: Path, *options: str) -> Iterator[None]:
    """Run one, its log in a file."""
    command = [sys.executable, "-m", "ollama_exporter", f"--ollama.url={url}"]
    command += ["--web.listen-address=127.0.0.1:0", "--log.format=json", "--log.level=debug"]
    command += options
    with log.open("wb") as file, subprocess.Popen(command, cwd=ROOT, stderr=file) as popen:
        try:
            yield
        finally:
            popen.terminate()


@contextmanager
def busy() -> Iterator[None]:
    """Take most of a core."""
    with subprocess.Popen([sys.executable, "-c", BURNING]) as popen:
        try:
            yield
        finally:
            popen.kill()


async def run(
    *, seed: int, seconds: float, burners: int, evidence: Iterable[str] = EVIDENCE
) -> dict[str, Comparison]:
    """Run exporters beside the simulated server; return a comparison for each evidence."""
    script = workload(seed, seconds)
    config = Config(host=script.host, catalogue=script.catalogue, processes=True, seed=seed)
    with TemporaryDirectory() as name, ExitStack() as running:
        logs = {kind: Path(name) / f"{kind}.log" for kind in evidence}
        async with Simulator(config) as sim:
            for _ in range(burners):
                running.enter_context(busy())
            for kind, log in logs.items():
                running.enter_context(exporter(sim.url, log, *EVIDENCE[kind]))
            await asyncio.sleep(3.0)  # they start
            await sim.play(script)
            await asyncio.sleep(SETTLING)
            truth = list(sim.truth)
            running.close()
        return {kind: compare(truth, logged(log), polls=polled(log)) for kind, log in logs.items()}


def logged(log: Path, message: str = "Model unloaded") -> list[Line]:
    """Return the lines that an exporter has logged so far: its unloads, or others."""
    written = log.read_text(encoding="utf-8").splitlines(keepends=True)
    lines = [json.loads(line) for line in written if line.startswith("{") and line.endswith("\n")]
    return [line for line in lines if line.get("msg") == message]


def polled(log: Path) -> list[tuple[float, float]]:
    """Return start and end of each answered poll that an exporter has logged at level debug."""
    polls = [line for line in logged(log, "Polled") if line["up"]]
    return [(_moment(line["time"]) - line["took"], _moment(line["time"])) for line in polls]


def shown_by(polls: Sequence[tuple[float, float]], truth: Sequence[Truth]) -> set[int]:
    """Return the pids of the runners whose unloads these polls could show: see scoring.py."""
    ends = {event.pid: event for event in truth if isinstance(event, Unload)}
    lives = [
        Incarnation(
            normalise(load.name),
            load.weights,
            load.num_ctx,
            load.at,
            math.inf if end is None else end.at,
            None if end is None else {"pid": end.pid, "reason": end.reason.value},
        )
        for load in truth
        if isinstance(load, Load)
        for end in [ends.get(load.pid)]
    ]
    return {record["pid"] for record in divide(lives, polls)[0]} if polls else set()


def compare(
    truth: Sequence[Truth],
    said: Sequence[Line],
    *,
    polls: Sequence[tuple[float, float]] = (),
    settling: float = SETTLING,
) -> Comparison:
    """Pair each true unload with a logged one of its model whose bounds hold it.

    `polls`: start and end of those that were answered.
    `settling`: seconds before the end of the truth in which an unload need not be settled yet.
    """
    result, shown = Comparison(), shown_by(polls, truth)
    taken: set[int] = set()
    # The last ones may not be settled when the exporter ends.
    last = max((event.at for event in truth), default=math.inf) - settling
    for event in truth:
        if not isinstance(event, Unload):
            continue
        number = _match(event, said, taken)
        if number is not None:
            taken.add(number)
        if event.at > last and number is None:
            continue
        result.unloads += 1
        result.shown += event.pid in shown
        if number is None:
            result.missed += 1
            continue
        reason = said[number]["reason"]
        if reason == event.reason.value:
            result.right += 1
            result.shown_right += event.pid in shown
        elif reason == "unknown":
            result.unknown += 1
        else:
            result.wrong += 1
            result.shown_wrong += event.pid in shown
            result.crashes_invented += reason == "crashed"
            result.mistakes.append(
                f"{event.name}: {event.reason.value}, said {reason}: {said[number]['evidence']}"
            )
    for number, line in enumerate(said):
        if number not in taken:
            result.invented += 1
            result.crashes_invented += line["reason"] == "crashed"
            result.mistakes.append(
                f"{line['model']}: invented {line['reason']}: {line['evidence']}"
            )
    return result


def _match(event: Unload, said: Sequence[Line], taken: set[int]) -> int | None:
    for number, line in enumerate(said):
        if number in taken or line["model"] != normalise(event.name):
            continue
        low, high = _moment(line["not_before"]) - SLACK, _moment(line["not_after"]) + SLACK
        if any(low <= moment <= high for moment in (event.at, event.decided)):
            return number
    return None


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def main() -> None:
    """Print a line for each evidence, and each mistake."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--busy", type=int, default=2, help="processes that take 80 %% of a core")
    parser.add_argument("--processes-only", action="store_true", help="no exporter with polls only")
    given = parser.parse_args()
    evidence = ["processes"] if given.processes_only else list(EVIDENCE)
    machines = {"as it is": 0, "busy": given.busy} if given.busy else {"as it is": 0}
    found = {
        machine: asyncio.run(
            run(seed=given.seed, seconds=60 * given.minutes, burners=burners, evidence=evidence)
        )
        for machine, burners in machines.items()
    }
    for machine, results in found.items():
        for kind, result in results.items():
            print(f"{machine:8} {kind:10} {result.line()}")
            for text, count in Counter(result.mistakes).items():
                print(f"  {count} x {text}")
    titles = [f"{machine}, {of}" for machine in found for of in ("all", "polls can show")]
    print("right / wrong in %", *titles, sep=" | ")
    for kind in evidence:
        cells = [cell for results in found.values() for cell in results[kind].cells()]
        print(kind, *cells, sep=" | ")


if __name__ == "__main__":
    main()
