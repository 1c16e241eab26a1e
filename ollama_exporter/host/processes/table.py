# SPDX-License-Identifier: Apache-2.0
"""Turns scans of processes into facts about starts and exits. Pure.

A process is identified by pid and start, so a reused pid is an exit and a start. Only a process
whose start was reported gets its exit reported.
"""

from typing import Final

from msgspec import Struct

from ollama_exporter.host.processes.command_lines import is_server, weights_in
from ollama_exporter.host.processes.reader import Process
from ollama_exporter.residency.facts import ProcessExited, ProcessStarted

MOST_PROCESSES: Final = 512  # tracked at once; a server has a handful
Fact = ProcessStarted | ProcessExited


class TrackedProcess(Struct):
    """A process that is alive, or was when it was last seen."""

    process: Process
    weights: str | None  # None: the server itself, or a child that is not a runner
    reported: bool  # its start was reported
    last_seen: float


class ProcessTable:
    """The server and its children, by pid."""

    def __init__(self) -> None:
        self._tracked: dict[int, TrackedProcess] = {}
        self.server: Process | None = None

    def runners(self) -> list[Process]:
        """Return the living runners."""
        return [each.process for each in self._tracked.values() if each.weights is not None]

    def pids(self) -> tuple[int, ...]:
        """Return the pids of all tracked processes."""
        return tuple(self._tracked)

    def is_tracked(self, pid: int) -> bool:
        """Return whether a process with this pid is tracked."""
        return pid in self._tracked

    def process(self, pid: int) -> Process | None:
        """Return the tracked process with this pid."""
        tracked = self._tracked.get(pid)
        return None if tracked is None else tracked.process

    def on_server(self, at: float, server: Process) -> tuple[Fact, ...]:
        """Track the server that was found."""
        replaced = self._end_previous(at, server.pid)
        self.server = server
        self._tracked[server.pid] = TrackedProcess(server, None, reported=True, last_seen=at)
        return (*replaced, ProcessStarted(at, server.born, server.pid, None))

    def on_child(self, at: float, process: Process) -> tuple[Fact, ...]:
        """Track a new child of the server. A child before its exec is left for the next scan."""
        replaced = self._end_previous(at, process.pid)
        if is_server(process.command) or len(self._tracked) >= MOST_PROCESSES:
            return replaced
        weights = weights_in(process.command)
        self._tracked[process.pid] = TrackedProcess(
            process, weights, reported=weights is not None, last_seen=at
        )
        if weights is None:  # the discovery of GPUs, or an unknown kind of runner
            return replaced
        return (*replaced, ProcessStarted(at, process.born, process.pid, weights))

    def on_scan(self, at: float, pid: int, process: Process | None) -> tuple[Fact, ...]:
        """Compare a tracked process with what a scan found under its pid; None: nothing."""
        tracked = self._tracked.get(pid)
        if tracked is not None and tracked.process == process:
            tracked.last_seen = at
            return ()
        return self.on_exit(at, pid, at_once=False)

    def on_exit(self, at: float, pid: int, *, at_once: bool = True) -> tuple[Fact, ...]:
        """Stop tracking a process. Not `at_once`: it exited at some time since the last scan."""
        tracked = self._tracked.pop(pid, None)
        if tracked is None:
            return ()
        if tracked.process == self.server:
            self.server = None
        if not tracked.reported:
            return ()
        return (ProcessExited(at, pid, None if at_once else tracked.last_seen),)

    def _end_previous(self, at: float, pid: int) -> tuple[Fact, ...]:
        """End the process that had this pid before."""
        return self.on_exit(at, pid, at_once=False)
