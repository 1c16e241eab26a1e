# SPDX-License-Identifier: Apache-2.0
"""Workloads: pure functions of a seed, each with the host that it is made for.

`demo` is a story told in two minutes; the others go on for as long as they are asked to.
"""

import random
from typing import Final, Protocol

from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.script import (
    Ask,
    Crash,
    OutOfMemory,
    Recreate,
    Restart,
    Script,
    Step,
    Stop,
    Via,
)
from ollama_exporter.simulator.state import Host, Signal

_COMPRESSED: Final = 3.0  # in the demo mistral loads in ten seconds
_SAME_CONVERSATION: Final = 0.8  # probability that another question follows
_SIGNALS: Final[tuple[Signal, ...]] = ("SIGTERM", "SIGKILL")
_AGENT_ROUTES: Final[tuple[Via, ...]] = ("v1", "v1", "chat", "generate")


def demo(seed: int = 0, duration: float = 126.0) -> Script:
    """Show every reason once, one after the other, each clearly.

    Deadlines and other events are seconds apart, so that polls can distinguish them.
    """
    del seed, duration  # the demo has one order and one length
    ctx = 8192
    steps: tuple[Step, ...] = (
        Ask(1, "llama3.2", note="llama3.2: cold, the first slow call"),
        Ask(9, "llama3.2", tokens=40, note="llama3.2: warm, a second"),
        Ask(11, "llama3.2", tokens=200, note="llama3.2: a long answer"),
        Crash(13, "llama3.2", note="llama3.2's runner dies meanwhile; it stays listed"),
        Ask(15, "llama3.2", note="llama3.2: the dead runner is noticed, reload"),
        Ask(23, "mistral", note="mistral: cold, loads beside llama3.2"),
        # llama3.2 expires at about 42; the server then waits 5 s for its memory
        Ask(49, "mistral", num_ctx=ctx, note=f"mistral with num_ctx {ctx}: reload"),
        Ask(63, "mistral", tokens=360, num_ctx=ctx, note="mistral: a long answer"),
        Stop(66, "mistral", note="ollama stop mistral, while it answers"),
        Ask(74, "qwen2.5:7b", note="qwen2.5: cold"),
        Ask(89, "mistral", note="mistral: does not fit beside qwen2.5"),
        Restart(104, down=1.5, note="the server is restarted"),
        Ask(108, "llama3.2", note="llama3.2: cold again, after the restart"),
        OutOfMemory(116, "llama3.2", note="the next answer of llama3.2 finds no memory"),
        Ask(117, "llama3.2", note="llama3.2: out of memory, so the server unloads everything"),
    )
    host = Host(memory=10 * GIB, keep_alive=20.0, endpoint_metrics=True)
    return Script("demo", steps, 126.0, host, default_catalogue().compressed(_COMPRESSED))


def first_slow_call(seed: int = 0, duration: float = 900.0) -> Script:
    """Slow call, quick calls, a pause longer than the keep-alive, slow call."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible workload, not a secret
    steps: list[Step] = []
    at = 1.0
    while at < duration:
        steps.extend(Ask(at + 45.0 * turn, "mistral", via="chat") for turn in range(3))
        at += 90.0 + 300.0 + rng.uniform(30.0, 120.0)
    return _script("seed", steps, duration)


def office(seed: int = 0, duration: float = 1800.0) -> Script:
    """Five people with think times, each with a model and habits of their own."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible workload, not a secret
    people: list[tuple[str, str | None]] = [
        ("mistral", None),
        ("mistral", "10m"),
        ("llama3.2", None),
        ("qwen2.5:7b", "5m"),
        ("llama3.2", "1h"),
    ]
    steps: list[Step] = []
    for model, keep_alive in people:
        at = rng.uniform(0.0, 60.0)
        while at < duration:
            tokens = rng.randint(40, 300)
            steps.append(Ask(at, model, tokens, via="chat", keep_alive=keep_alive))
            # the turns of a conversation are close together, conversations far apart
            goes_on = rng.random() < _SAME_CONVERSATION
            at += rng.expovariate(1 / 40) if goes_on else rng.uniform(300.0, 900.0)
    return _script("office", steps, duration)


def agents(seed: int = 0, duration: float = 1800.0) -> Script:
    """Bursts of parallel requests and long generations; memory for two models."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible workload, not a secret
    steps: list[Step] = []
    at = 5.0
    while at < duration:
        model = rng.choice(["mistral", "qwen2.5:7b", "llama3.2"])
        for turn in range(rng.randint(3, 8)):
            when = at + 2.0 * turn
            steps.append(Ask(when, "nomic-embed-text", 1, via="embed"))
            via: Via = rng.choice(_AGENT_ROUTES)
            steps.append(Ask(when + 0.5, model, rng.randint(60, 300), 60.0, via=via))
        at += rng.uniform(60.0, 240.0)
    return _script("agents", steps, duration, Host(max_loaded=2))


def batch(seed: int = 0, duration: float = 3600.0) -> Script:
    """Periodic jobs on a machine without a GPU."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible workload, not a secret
    steps: list[Step] = []
    for model, period in (("llama3.2", 600.0), ("qwen2.5:7b", 900.0), ("mistral", 420.0)):
        at = rng.uniform(0.0, period)
        while at < duration:
            steps.extend(Ask(at + 12.0 * item, model, 80, 10.0) for item in range(4))
            at += period * rng.uniform(0.95, 1.05)
    return _script("batch", steps, duration, Host(memory=32 * GIB, gpu=False, max_loaded=2))


def thrash(seed: int = 0, duration: float = 600.0) -> Script:
    """Two clients with different num_ctx, which reload each other's model."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible workload, not a secret
    steps: list[Step] = []
    for num_ctx in (None, 8192):
        at = rng.uniform(0.0, 10.0)
        while at < duration:
            steps.append(Ask(at, "llama3.2", 40, num_ctx=num_ctx))
            at += rng.uniform(25.0, 60.0)
    return _script("thrash", steps, duration)


def faults(seed: int = 0, duration: float = 1200.0) -> Script:
    """Crashes, out of memory, stops, clients that leave, new weights, restarts."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible workload, not a secret
    names = ["mistral", "llama3.2", "qwen2.5:7b"]
    steps: list[Step] = []
    at = 2.0
    while at < duration:
        model = rng.choice(names)
        steps.append(Ask(at, model, rng.randint(40, 200)))
        later = at + rng.uniform(1.0, 40.0)
        other = rng.choice(names)
        restart = Restart(
            later,
            signal=rng.choice(_SIGNALS),
            down=rng.choice([0.02, 2.0, 20.0]),
            silent=rng.choice([0.0, 3.0]),
        )
        choices: list[Step] = [
            Crash(later, model),
            OutOfMemory(later, model),
            Stop(later, model),
            Recreate(later, model),
            Ask(later, other, 0),
            Ask(later, other, 200, leave_after=rng.uniform(0.5, 8.0)),
            Ask(later, model, keep_alive=0),
            restart,
        ]
        steps.append(rng.choice(choices))
        at += rng.uniform(20.0, 60.0)
    return _script("faults", steps, duration, Host(memory=12 * GIB, keep_alive=60.0))


def _script(name: str, steps: list[Step], duration: float, host: Host | None = None) -> Script:
    ordered = sorted((step for step in steps if step.at < duration), key=lambda step: step.at)
    return Script(name, tuple(ordered), duration, host or Host())


class Workload(Protocol):
    """A pure function of its seed; `duration` in seconds."""

    def __call__(self, seed: int = 0, duration: float = ...) -> Script:
        """Return the script."""


WORKLOADS: Final[dict[str, Workload]] = {
    "demo": demo,
    "seed": first_slow_call,
    "office": office,
    "agents": agents,
    "batch": batch,
    "thrash": thrash,
    "faults": faults,
}
