# SPDX-License-Identifier: Apache-2.0
"""The processes of the simulated server: real ones, for whoever watches processes."""

import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Self

from ollama_exporter.simulator import fake_process
from ollama_exporter.simulator.listing import BLOBS
from ollama_exporter.simulator.state import Generation, Signal

PATIENCE: Final = 10.0  # seconds for the stand-in to start, and to end
FIRST_PORT: Final = 34000  # that command lines name; nobody listens there


class ProcessManager:
    """One life of the server: its process, and a child of that for each runner."""

    def __init__(self, process: asyncio.subprocess.Process, generation: Generation) -> None:
        self._process, self._generation = process, generation
        self._runners: frozenset[int] = frozenset()

    @classmethod
    async def hire(cls, listener: int, generation: Generation) -> Self:
        """Start the server's process; it holds the listening socket as well. Linux only."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            fake_process.__name__,
            "x" * fake_process.PADDING,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=[listener],
            start_new_session=True,  # Ctrl-C is for the simulator, which then ends it in order
        )
        crew = cls(process, generation)
        try:
            assert process.stdout is not None  # noqa: S101 - it was asked for
            async with asyncio.timeout(PATIENCE):
                await process.stdout.readline()
        except BaseException:
            await crew.dismiss("SIGKILL")
            raise
        return crew

    @property
    def pid(self) -> int:
        """The pid of the server's process."""
        return self._process.pid

    def follow(self, runners: Mapping[int, str]) -> None:
        """Start and end processes so that these are there: weights by the scheduler's number."""
        wanted = frozenset(runners)
        for number in self._runners - wanted:
            self._order({"end": str(number)})
        for number in sorted(wanted - self._runners):
            command = runner_command(self._generation, runners[number], FIRST_PORT + number)
            self._order({"start": str(number), "command": command})
        self._runners = wanted

    async def dismiss(self, how: Signal) -> None:
        """End it by that signal, its children with it."""
        with suppress(ProcessLookupError):
            self._process.send_signal(getattr(signal, how))
        try:
            async with asyncio.timeout(PATIENCE):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def _order(self, order: Mapping[str, object]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        if not self._process.stdin.is_closing():
            self._process.stdin.write(json.dumps(order).encode() + b"\n")


def runner_command(generation: Generation, weights: str, port: int) -> list[str]:
    """Return the command line that a runner of that generation has."""
    model = ["--model", f"{BLOBS}/{weights}", "--port", str(port)]
    if generation == "old":
        return ["/usr/local/bin/ollama", "runner", "--ollama-engine", *model]
    return ["/usr/local/lib/ollama/llama-server", *model, "--host", "127.0.0.1", "-np", "1"]
