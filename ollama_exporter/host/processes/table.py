# SPDX-License-Identifier: Apache-2.0
"""From scans of processes to facts: who was born, who died. Pure.

A process is known by its pid and its start: a pid that passes to another process is a death and a
birth. Every death is of somebody whose birth was told.
"""

from dataclasses import dataclass
from typing import Final

from ollama_exporter.host.processes.command_lines import is_server, weights_in
from ollama_exporter.host.processes.reader import Process
from ollama_exporter.residency.facts import ProcessExited, ProcessStarted

MOST_PROCESSES: Final = 512  # held at once; a server has a handful
Fact = ProcessStarted | ProcessExited


@dataclass(slots=True)
class TrackedProcess:
    """A process that lives, or did when it was last looked at."""

    process: Process
    weights: str | None  # None: the server, or a child that is no runner
    told: bool  # its birth was told
    alive: float  # when it was last known to live


class ProcessTable:
    """The server and its children, by pid."""

    def __init__(self) -> None:
        self._held: dict[int, TrackedProcess] = {}
        self.server: Process | None = None

    def runners(self) -> list[Process]:
        """Return the runners that live."""
        return [each.process for each in self._held.values() if each.weights is not None]

    def pids(self) -> tuple[int, ...]:
        """Return everybody who is held."""
        return tuple(self._held)

    def holds(self, pid: int) -> bool:
        """Tell whether somebody of that pid is held."""
        return pid in self._held

    def process(self, pid: int) -> Process | None:
        """Return who is held under a pid."""
        held = self._held.get(pid)
        return None if held is None else held.process

    def start(self, at: float, server: Process) -> tuple[Fact, ...]:
        """Take the server that is watched from now on."""
        replaced = self._replace(at, server)
        self.server = server
        self._held[server.pid] = TrackedProcess(server, None, told=True, alive=at)
        return (*replaced, ProcessStarted(at, server.born, server.pid, None))

    def born(self, at: float, process: Process) -> tuple[Fact, ...]:
        """Take a child of the server. One that has not become a program of its own is left."""
        replaced = self._replace(at, process)
        if is_server(process.command) or len(self._held) >= MOST_PROCESSES:
            return replaced
        weights = weights_in(process.command)
        self._held[process.pid] = TrackedProcess(
            process, weights, told=weights is not None, alive=at
        )
        if weights is None:  # it looks for GPUs, or is of a kind that is not known
            return replaced
        return (*replaced, ProcessStarted(at, process.born, process.pid, weights))

    def confirm(self, at: float, pid: int, process: Process | None) -> tuple[Fact, ...]:
        """Take what a look at somebody who is held found under that pid; None: nobody."""
        held = self._held.get(pid)
        if held is not None and held.process == process:
            held.alive = at
            return ()
        return self.died(at, pid, noticed=False)

    def died(self, at: float, pid: int, *, noticed: bool = True) -> tuple[Fact, ...]:
        """Take a death; not `noticed`: it was found missing, some time after it happened."""
        held = self._held.pop(pid, None)
        if held is None:
            return ()
        if held.process == self.server:
            self.server = None
        if not held.told:
            return ()
        return (ProcessExited(at, pid, None if noticed else held.alive),)

    def _replace(self, at: float, process: Process) -> tuple[Fact, ...]:
        """End whoever had that pid before."""
        return self.died(at, process.pid, noticed=False)
