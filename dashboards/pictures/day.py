# SPDX-License-Identifier: Apache-2.0
"""A day on three servers: an office, a machine that holds too little, batch jobs without a GPU."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from ollama_exporter.simulator.model_files import GIB
from ollama_exporter.simulator.script import (
    Ask,
    Crash,
    OutOfMemory,
    Restart,
    Script,
    Step,
    Stop,
    Via,
)
from ollama_exporter.simulator.state import Host

NO_MEMORY: Final = "cudaMalloc failed: out of memory"  # how its server fails the marked request
HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
NIGHT: Final = 9 * HOUR  # quiet at the beginning; the day ends in the afternoon


@dataclass(frozen=True, slots=True)
class Question(Ask):
    """A request with a prompt of some length. `reading`: seconds that reading it takes.

    `client`: its name, as the proxy knows it by its token; empty: none.
    """

    reading: float = 0.2
    client: str = ""

    def body(self) -> tuple[str, dict[str, Any]]:
        """Make path and JSON body."""
        path, body = Ask.body(self)
        words = "lorem " * int(400 * self.reading)
        text = f"{words}[[n={self.tokens} tps={self.rate:g} ttft={self.reading:.2f}]]"
        if "messages" in body:
            body["messages"] = [{"role": "user", "content": text}]
        elif "prompt" in body and self.tokens:
            body["prompt"] = text
        return path, body


def fleet() -> dict[str, Script]:
    """Write the scripts, by the name of the server."""
    return {"gpu-1:11487": office(1), "gpu-2:11487": too_small(2), "cpu-1:11487": batch(3)}


def office(seed: int) -> Script:
    """People with conversations and pauses on a GPU that holds what they use."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible day, no secret
    steps: list[Step] = []
    people: list[tuple[str, str, str | None, Via]] = [
        ("chat", "mistral", None, "chat"),
        ("chat", "mistral", None, "chat"),
        ("support", "llama3.2", "30m", "generate"),
        ("research", "qwen2.5:7b", None, "chat"),
        ("support", "llama3.2", None, "generate"),
        ("research", "qwen2.5:7b", None, "chat"),
    ]
    for client, model, keep_alive, via in people:
        at = NIGHT + rng.uniform(-0.5, 1.0) * HOUR
        while at < DAY:
            reading = rng.uniform(0.1, 1.5)
            leaves = rng.uniform(1.0, 9.0) if rng.random() < 0.03 else None
            steps.append(
                Question(
                    at,
                    model,
                    rng.randint(60, 400),
                    rng.uniform(45, 60),
                    via,
                    keep_alive,
                    leave_after=leaves,
                    reading=reading,
                    client=client,
                )
            )
            at += rng.expovariate(1 / 60) if rng.random() < 0.85 else rng.uniform(400, 3000)
    for at in _every(rng, NIGHT, DAY, 1200):  # documents are indexed
        steps += [Ask(at + 2 * n, "nomic-embed-text", 1, via="embed") for n in range(6)]
    steps.append(Stop(17.2 * HOUR, "llama3.2"))
    return _script("office", steps, Host(memory=24 * GIB, max_loaded=4))


def too_small(seed: int) -> Script:
    """Two teams whose models do not fit together, and clients that differ in num_ctx."""
    rng = random.Random(seed)  # noqa: S311 - as above
    steps: list[Step] = []
    for client, model, first, last in (
        ("chat", "mistral", 10 * HOUR, DAY),
        ("research", "qwen2.5:7b", 20.5 * HOUR, 21.9 * HOUR),
        ("support", "llama3.2", NIGHT, 15 * HOUR),
    ):
        for at in _every(rng, first, last, 210):
            leaves = 20.0 if rng.random() < 0.2 else None
            tokens = rng.randint(40, 250)
            steps.append(
                Question(at, model, tokens, 50, leave_after=leaves, reading=0.4, client=client)
            )
    steps += [  # an editor with a context of its own
        Question(at, "mistral", 80, 50, num_ctx=8192, reading=0.8, client="editor")
        for at in _every(rng, 18.9 * HOUR, 19.6 * HOUR, 240)
    ]
    steps += [
        Question(15.3 * HOUR, "mistral", 900, 50),
        Crash(15.3 * HOUR + 50, "mistral"),
        Question(22.8 * HOUR, "mistral", 900, 50),
        Crash(22.8 * HOUR + 50, "mistral"),
        OutOfMemory(18.7 * HOUR, "mistral"),
        Question(18.7 * HOUR + 1, "mistral", 90, 50, note=NO_MEMORY),
        Restart(23.1 * HOUR, down=90.0),
        Ask(19.8 * HOUR, "mistral", 40, keep_alive=-1),
        Ask(22.1 * HOUR, "mistral", 40, keep_alive=0),
    ]
    for at in (20.6 * HOUR, 21.7 * HOUR):  # a burst: more than one load waits
        steps += [
            Question(at + n, "qwen2.5:7b", 150, 50, reading=1.0, client="research")
            for n in range(8)
        ]
    return _script("too_small", steps, Host(memory=10 * GIB, parallel=1))


def batch(seed: int) -> Script:
    """Jobs by the clock, without a GPU."""
    rng = random.Random(seed)  # noqa: S311 - as above
    steps: list[Step] = []
    for model, period in (("llama3.2", 1500.0), ("mistral", 900.0)):
        for at in _every(rng, 0.0, DAY, period, spread=0.05):
            steps += [
                Question(
                    at + 25.0 * n, model, 90, 8, leave_after=240.0, reading=4.0, client="nightly"
                )
                for n in range(3)
            ]
    return _script("batch", steps, Host(memory=16 * GIB, gpu=False, max_loaded=2))


def _every(
    rng: random.Random, first: float, last: float, period: float, spread: float = 0.9
) -> Iterator[float]:
    at = first
    while at < last:
        yield at
        at += period * rng.uniform(1 - spread, 1 + spread)


def _script(name: str, steps: list[Step], host: Host) -> Script:
    ordered = tuple(sorted((s for s in steps if 0 < s.at < DAY), key=lambda step: step.at))
    return Script(name, ordered, DAY, host)
