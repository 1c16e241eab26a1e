# SPDX-License-Identifier: Apache-2.0
"""Mac and Windows: processes as psutil reads them. The same facts, slower and coarser."""

import ipaddress
from collections.abc import Iterable
from contextlib import suppress

import psutil

from ollama_exporter.clock import Timeline
from ollama_exporter.host.processes.command_lines import is_server
from ollama_exporter.host.processes.listening_sockets import reaches
from ollama_exporter.host.processes.reader import Process, Usage


class PsutilReader:
    """Reads by psutil."""

    slow = True

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline

    def servers(self) -> list[Process]:
        """Return every Ollama server."""
        found = [self.look(process.pid) for process in psutil.process_iter() if _named(process)]
        return [each for each in found if each is not None and is_server(each.command)]

    def children(self, pid: int) -> Iterable[int] | None:
        """Return the children of a process."""
        try:
            return [child.pid for child in psutil.Process(pid).children()]
        except psutil.Error:
            return None

    def look(self, pid: int) -> Process | None:
        """Return a process."""
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                if process.status() == psutil.STATUS_ZOMBIE:
                    return None
                start = process.create_time()
                command = tuple(process.cmdline())
                return Process(pid, start, self._timeline.moment(start), process.ppid(), command)
        except psutil.Error:
            return None

    def usage(self, process: Process) -> Usage | None:
        """Return what a process has used."""
        try:
            found = psutil.Process(process.pid)
            if found.create_time() != process.start:
                return None
            times = found.cpu_times()
            return Usage(found.memory_info().rss, times.user + times.system)
        except psutil.Error:
            return None

    def listens(self, pid: int, host: str, port: int) -> bool | None:
        """Tell whether a process listens there."""
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
        """Know of nothing that hides processes."""
        return None


def _named(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.name().lower().startswith("ollama")
    return False
