# SPDX-License-Identifier: Apache-2.0
"""Linux: processes as /proc shows them to everybody. Never opens an `environ`."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from ollama_exporter.host.processes.command_lines import is_server
from ollama_exporter.host.processes.listening_sockets import listeners, reaches
from ollama_exporter.host.processes.reader import Process, Usage

PAGE: Final = 4096
LONGEST_COMMAND: Final = 32 * 1024  # a runner's has its weights at the beginning
LONGEST_TABLE: Final = 256 * 1024  # of connections: what listens comes first
FIRST_NAMESPACE: Final = "pid:[4026531836]"  # the kernel's constant for the machine's own
DEAD: Final = frozenset({b"Z", b"X", b"x"})


@dataclass(frozen=True, slots=True)
class Stat:
    """Of `/proc/PID/stat`; the numbers are ticks and pages as the kernel writes them."""

    state: bytes
    parent: int
    start: int
    ticks: int
    pages: int


class ProcFs:
    """Reads /proc. `now`: the timeline; `since_boot`: seconds since the machine started."""

    slow = False

    def __init__(
        self,
        now: Callable[[], float],
        *,
        root: str = "/proc",
        since_boot: Callable[[], float] | None = None,
    ) -> None:
        self._now, self._root = now, root
        self._since_boot = since_boot or _since_boot
        self._tick, self._page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        self._parents: dict[int, int] = {}  # of the last scan, where there are no lists of children

    def servers(self) -> list[Process]:
        """Return every Ollama server. Costs an open for each process of the machine."""
        found = (self.look(pid) for pid in self._pids() if is_server(self._command(pid)))
        # A child that was forked and did not become a runner yet still looks like its parent.
        servers = {process.pid: process for process in found if process is not None}
        return [process for process in servers.values() if process.parent not in servers]

    def children(self, pid: int) -> Iterable[int] | None:
        """Return the children of a process: of each of its threads, any of them may fork."""
        threads = self._list(f"{pid}/task")
        if threads is None:
            return None
        found: list[int] = []
        unreadable = 0
        for thread in threads:
            listed = self._read(f"{pid}/task/{thread}/children")
            unreadable += listed is None  # the thread ended meanwhile, or there are no such files
            found += map(int, (listed or b"").split())
        return self._by_parent(pid) if unreadable == len(threads) else found

    def look(self, pid: int) -> Process | None:
        """Return a process, read twice: a pid that passes to another process is noticed."""
        stat = self._stat(pid)
        if stat is None or stat.state in DEAD:
            return None
        command = self._command(pid)
        again = self._stat(pid)
        if again is None or again.start != stat.start:
            return None
        born = self._now() - self._since_boot() + stat.start / self._tick
        return Process(pid, float(stat.start), born, stat.parent, command)

    def usage(self, process: Process) -> Usage | None:
        """Return what a process has used."""
        stat = self._stat(process.pid)
        if stat is None or stat.state in DEAD or stat.start != process.start:
            return None
        return Usage(stat.pages * self._page, stat.ticks / self._tick)

    def listens(self, pid: int, host: str, port: int) -> bool | None:
        """Tell whether a process listens there, in its own network namespace."""
        tables = [self._read(f"{pid}/net/{name}", LONGEST_TABLE) for name in ("tcp", "tcp6")]
        if tables == [None, None]:
            return None
        wanted = {
            f"socket:[{each.inode}]"
            for table in tables
            for each in listeners(table or b"")
            if each.port == port and reaches(host, each.address)
        }
        descriptors = self._list(f"{pid}/fd") if wanted else ()
        if descriptors is None:  # of another user: only he and root may know
            return None
        return any(self._link(f"{pid}/fd/{number}") in wanted for number in descriptors)

    def why_hidden(self) -> str | None:
        """Return what hides processes of others from us."""
        mounts = self._read("self/mountinfo", LONGEST_TABLE) or b""
        if any(_hides(line) for line in mounts.splitlines()) and not self._command(1):
            return "/proc is mounted with hidepid, or systemd's ProtectProc= is on"
        namespace = self._link("self/ns/pid")
        if namespace is not None and namespace != FIRST_NAMESPACE:
            return "the exporter has a PID namespace of its own, as in a container"
        return None

    # -- files -----------------------------------------------------------------------------------

    def _pids(self) -> list[int]:
        return [int(name) for name in self._list("") or () if name.isdigit()]

    def _by_parent(self, parent: int) -> list[int]:
        """Find the children of a process where the kernel lists none: by what is new."""
        pids = self._pids()
        known = {pid: self._parents[pid] for pid in pids if pid in self._parents}
        for pid in pids:
            if pid not in known and (stat := self._stat(pid)) is not None:
                known[pid] = stat.parent
        self._parents = known
        return [pid for pid, above in known.items() if above == parent]

    def _command(self, pid: int) -> tuple[str, ...]:
        line = self._read(f"{pid}/cmdline", LONGEST_COMMAND) or b""
        return tuple(line.rstrip(b"\0").decode(errors="replace").split("\0")) if line else ()

    def _stat(self, pid: int) -> Stat | None:
        line = self._read(f"{pid}/stat")
        if line is None:
            return None
        fields = line[line.rfind(b")") + 2 :].split()  # a program's name may hold anything
        return Stat(
            fields[0],
            int(fields[1]),
            start=int(fields[19]),
            ticks=int(fields[11]) + int(fields[12]),
            pages=int(fields[21]),
        )

    def _read(self, path: str, limit: int = PAGE) -> bytes | None:
        """Return the beginning of a file; None: it is gone, or closed to us.

        The kernel hands out a page at a time; what fits into one is there at once.
        """
        try:
            file = os.open(f"{self._root}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            content = part = os.read(file, PAGE)
            while part and len(content) < limit > PAGE:
                content += (part := os.read(file, PAGE))
        except OSError:
            return None
        finally:
            os.close(file)
        return content

    def _list(self, path: str) -> list[str] | None:
        try:
            return os.listdir(f"{self._root}/{path}")  # noqa: PTH208 - names, and no object for each
        except OSError:
            return None

    def _link(self, path: str) -> str | None:
        try:
            return os.readlink(f"{self._root}/{path}")  # noqa: PTH115 - no path: socket:[INODE]
        except OSError:
            return None


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _hides(line: bytes) -> bool:
    """Tell whether a line of mountinfo is a /proc that hides the processes of others."""
    before, _, after = line.partition(b" - ")
    options = after.split()[-1:] if after.startswith(b"proc ") else []
    fields = before.split()
    here = len(fields) > 4 and fields[4] == b"/proc"  # noqa: PLR2004 - the mount point is the fifth
    return here and any(
        option.startswith(b"hidepid=") and option not in (b"hidepid=0", b"hidepid=off")
        for each in options
        for option in each.split(b",")
    )
