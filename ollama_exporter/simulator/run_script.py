# SPDX-License-Identifier: Apache-2.0
"""Plays a script against a server over real sockets, in real time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from ollama_exporter.simulator.script import Ask, Crash, Fault, OutOfMemory, Restart, Script, Step
from ollama_exporter.simulator.workload_client import PATIENCE, ask

Phase = Literal["begins", "ended"]


@dataclass(frozen=True, slots=True)
class Played:
    """A step of the script, when it begins and when it has ended."""

    step: Step
    phase: Phase
    at: float  # seconds since the script's start
    seconds: float = 0.0  # how long it took
    error: str | None = None


OnStep = Callable[[Played], None]
ApplyFault = Callable[[Fault], Awaitable[None]]


async def play(
    script: Script, url: str, *, apply: ApplyFault | None = None, on_step: OnStep | None = None
) -> None:
    """Run every step at its moment, and return when the script's duration is over.

    Without `apply`, faults are skipped, as on a real server. At the end, or if the caller is
    cancelled, unfinished requests are cancelled.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()
    report = on_step or _ignore
    tasks: set[asyncio.Task[None]] = set()

    async def do(step: Step) -> None:
        begun = loop.time()
        report(Played(step, "begins", begun - start))
        error = await _do(step, url, apply)
        ended = loop.time()
        report(Played(step, "ended", ended - start, ended - begun, error))

    try:
        for step in script.steps:
            await asyncio.sleep(max(0.0, start + step.at - loop.time()))
            if isinstance(step, Fault) and apply is None:
                continue
            task = asyncio.create_task(do(step))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(max(0.0, start + script.duration - loop.time()))
    finally:
        under_way = list(tasks)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _do(step: Step, url: str, apply: ApplyFault | None) -> str | None:
    """Run one step and return the error that its client sees."""
    if isinstance(step, Crash | OutOfMemory | Restart):
        if apply is not None:
            await apply(step)
        return None
    path, body = step.body()
    patience = PATIENCE
    if isinstance(step, Ask) and step.leave_after is not None:
        patience = step.leave_after
    return (await ask(url, path, body, patience=patience)).error


def _ignore(played: Played) -> None:
    del played
