# SPDX-License-Identifier: Apache-2.0
"""Real processes for the simulated server and its runners."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Self

from ollama_exporter.simulator import fake_process
from ollama_exporter.simulator.listing import BLOBS
from ollama_exporter.simulator.state import Generation, Signal

PATIENCE: Final = 10.0  # seconds for the process to start, and to end


class ProcessManager:
    """The process of one server, with a child for each runner."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._runners: frozenset[int] = frozenset()
        self._deaths: asyncio.Task[None] | None = None  # reads which runners died by themselves

    @classmethod
    async def start(cls, listener: int, on_death: Callable[[int], None] = lambda _: None) -> Self:
        """Start the server's process, which also holds the listening socket. Linux only.

        `on_death`: called with the scheduler's pid of a runner that somebody else killed.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            fake_process.__name__,
            "x" * fake_process.PADDING,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=[listener],
            # It imports what this process imports, wherever a package has put that.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C goes to the simulator, which ends it in order
        )
        manager = cls(process)
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            async with asyncio.timeout(PATIENCE):
                await process.stdout.readline()
        except BaseException:
            await manager.stop("SIGKILL")
            raise
        manager._deaths = asyncio.create_task(manager._read_deaths(process.stdout, on_death))
        return manager

    @property
    def pid(self) -> int:
        """The pid of the server's process."""
        return self._process.pid

    def set_runners(
        self,
        runners: Mapping[int, Sequence[str]],
        reading: Mapping[int, fake_process.Reading] | None = None,
    ) -> None:
        """Start and end children so that exactly these run: commands by the scheduler's pid.

        `reading`: what those that start read first.
        """
        wanted = frozenset(runners)
        for number in self._runners - wanted:
            self._order({"end": str(number)})
        for number in sorted(wanted - self._runners):
            reads = (reading or {}).get(number, fake_process.Reading())
            order = {"start": str(number), "command": list(runners[number])}
            self._order(order | {"reads": reads.total, "seconds": reads.seconds})
        self._runners = wanted

    async def stop(self, how: Signal) -> None:
        """End the process and its children with this signal."""
        with suppress(ProcessLookupError):
            self._process.send_signal(getattr(signal, how))
        try:
            async with asyncio.timeout(PATIENCE):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        if self._deaths is not None:
            await self._deaths  # it ends with the process

    async def _read_deaths(
        self, output: asyncio.StreamReader, on_death: Callable[[int], None]
    ) -> None:
        async for line in output:
            number = int(json.loads(line)["died"])
            if number in self._runners:  # else it was to end anyway
                on_death(number)

    def _order(self, order: Mapping[str, object]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        if not self._process.stdin.is_closing():
            self._process.stdin.write(json.dumps(order).encode() + b"\n")


def runner_command(
    generation: Generation, weights: str, port: int, *, slots: int = 1, context: int = 4096
) -> list[str]:
    """Return the command line of a runner of this generation. `context`: tokens of one slot."""
    model = ["--model", f"{BLOBS}/{weights}", "--port", str(port)]
    if generation == "old":
        return ["/usr/local/bin/ollama", "runner", "--ollama-engine", *model]
    program = ["/usr/local/lib/ollama/llama-server", *model, "--host", "127.0.0.1"]
    room = ["-c", str(context * slots), "-np", str(slots)]
    more = ["--flash-attn", "auto", "-b", "1024", "-ub", "1024", "--context-shift", "--keep", "4"]
    return [*program, "--no-webui", "--offline", *room, *more]
