# SPDX-License-Identifier: Apache-2.0
"""Reads processes with psutil on macOS and Windows: slower and coarser than /proc."""

import ipaddress
from collections.abc import Iterable
from contextlib import suppress

import psutil

from ollama_exporter.clock import Timeline
from ollama_exporter.host.processes.command_lines import is_server
from ollama_exporter.host.processes.listening_sockets import reaches
from ollama_exporter.host.processes.reader import Process, Usage


class PsutilReader:
    """Reads with psutil."""

    slow = True
    pidfds = False

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline

    def servers(self) -> list[Process]:
        """Return every Ollama server."""
        found = [self.process(process.pid) for process in psutil.process_iter() if _named(process)]
        return [each for each in found if each is not None and is_server(each.command)]

    def children(self, pid: int) -> Iterable[int] | None:
        """Return the children of a process."""
        try:
            return [child.pid for child in psutil.Process(pid).children()]
        except psutil.Error:
            return None

    def process(self, pid: int) -> Process | None:
        """Return a process."""
        try:
            found = psutil.Process(pid)
            with found.oneshot():
                if found.status() == psutil.STATUS_ZOMBIE:
                    return None
                start = found.create_time()
                command = tuple(found.cmdline())
                return Process(pid, start, self._timeline.moment(start), found.ppid(), command)
        except psutil.Error:
            return None

    def usage(self, process: Process) -> Usage | None:
        """Return what a process uses."""
        try:
            found = psutil.Process(process.pid)
            if found.create_time() != process.start:
                return None
            times = found.cpu_times()
            return Usage(found.memory_info().rss, times.user + times.system)
        except psutil.Error:
            return None

    def is_listening(self, pid: int, host: str, port: int) -> bool | None:
        """Return whether a process listens there."""
        try:
            connections = psutil.Process(pid).net_connections("tcp")
        except psutil.Error:
            return None
        return any(
            each.status == psutil.CONN_LISTEN
            and each.laddr.port == port
            and reaches(host, ipaddress.ip_address(each.laddr.ip))
            for each in connections
        )

    def why_hidden(self) -> str | None:
        """Return None: these systems hide no process."""
        return None


def _named(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.name().lower().startswith("ollama")
    return False
