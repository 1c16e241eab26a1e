# SPDX-License-Identifier: Apache-2.0
"""A machine made of values: processes that are there because a test says so."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from ollama_exporter.host.processes.reader import Process, Usage

SERVE = ("/usr/local/bin/ollama", "serve")
BLOB = "/root/.ollama/models/blobs/sha256-"


def hexed(letter: str) -> str:
    """Return weights made of one letter."""
    return f"sha256-{letter * 64}"


def runner(letter: str) -> tuple[str, ...]:
    """Return the command line of a runner of 0.33."""
    return ("/usr/lib/ollama/llama-server", "--model", f"{BLOB}{letter * 64}", "--port", "40000")


def process(
    pid: int, command: tuple[str, ...] = SERVE, *, start: float = 1.0, parent: int = 1
) -> Process:
    """Make a process."""
    return Process(pid, start, start, parent, command)


class NoWeights:
    """A lookup that knows no weights."""

    def __init__(self) -> None:
        self.started = asyncio.Event()

    def resident_weights(self) -> frozenset[str]:
        """Return nothing."""
        return frozenset()

    def start(self) -> None:
        """Note that the weights are needed."""
        self.started.set()

    async def catch_up(self) -> None:
        """Do nothing."""

    def on_runner(self, weights: str) -> None:
        """Do nothing."""


@dataclass(slots=True)
class FakeMachine:
    """A reader of processes that are listed here."""

    living: dict[int, Process] = field(default_factory=dict)
    listening: dict[int, bool | None] = field(default_factory=dict)
    hidden: str | None = None
    slow: bool = False  # so that no scan is under way while a test changes something
    pidfds: bool = False  # so that no real process is watched
    looks: int = 0

    def add(self, *processes: Process) -> None:
        """Let processes live."""
        self.living |= {each.pid: each for each in processes}

    def servers(self) -> list[Process]:
        """Return the servers."""
        return [each for each in self.living.values() if each.command == SERVE]

    def children(self, pid: int) -> Iterable[int] | None:
        """Return the children of a process."""
        if pid not in self.living:
            return None
        return [each.pid for each in self.living.values() if each.parent == pid]

    def process(self, pid: int) -> Process | None:
        """Return a process."""
        self.looks += 1
        return self.living.get(pid)

    def usage(self, process: Process) -> Usage | None:
        """Return what it has used."""
        return Usage(1000, 0.5) if self.living.get(process.pid) == process else None

    def is_listening(self, pid: int, host: str, port: int) -> bool | None:
        """Return whether it listens."""
        assert (host, port) == ("127.0.0.1", 11434)
        return self.listening.get(pid)

    def why_hidden(self) -> str | None:
        """Return what hides processes."""
        return self.hidden
