# SPDX-License-Identifier: Apache-2.0
"""Reads processes on Linux from the parts of /proc that every user may read.

It never opens an `environ`.
"""

import os
import time
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from ollama_exporter.host.processes.command_lines import is_server
from ollama_exporter.host.processes.listening_sockets import listeners, reaches
from ollama_exporter.host.processes.reader import Process, Usage

PAGE: Final = 4096
LONGEST_COMMAND: Final = 32 * 1024  # bytes; a runner names its weights at the beginning
LONGEST_TABLE: Final = 256 * 1024  # bytes of connections; listening sockets come first
FIRST_NAMESPACE: Final = "pid:[4026531836]"  # the kernel's constant for the initial namespace
DEAD: Final = frozenset({b"Z", b"X", b"x"})


class Stat(Struct, frozen=True):
    """Fields of `/proc/PID/stat`, in clock ticks and pages as the kernel writes them."""

    state: bytes
    parent: int
    start: int
    ticks: int
    pages: int


class ProcFs:
    """Reads /proc. `now`: the timeline; `since_boot`: seconds since the machine started."""

    slow = False
    pidfds = True

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
        self._parents: dict[
            int, int
        ] = {}  # by pid, of the last scan; only used where the kernel lists no children

    def servers(self) -> list[Process]:
        """Return every Ollama server. This opens one file for each process of the machine."""
        found = (self.process(pid) for pid in self._pids() if is_server(self._command(pid)))
        # A forked child looks like its parent until it calls exec.
        servers = {process.pid: process for process in found if process is not None}
        return [process for process in servers.values() if process.parent not in servers]

    def children(self, pid: int) -> Iterable[int] | None:
        """Return the children of a process, of all its threads, since any thread may fork."""
        threads = self._list(f"{pid}/task")
        if threads is None:
            return None
        found: list[int] = []
        unreadable = 0  # of a thread that ended, or the kernel lacks these files
        for thread in threads:
            listed = self._read(f"{pid}/task/{thread}/children")
            unreadable += listed is None
            found += (int(pid) for pid in (listed or b"").split() if pid.isdigit())
        return self._by_parent(pid) if unreadable == len(threads) else found

    def process(self, pid: int) -> Process | None:
        """Return a process. Its start is read twice, to notice a reused pid."""
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
        """Return what a process uses."""
        stat = self._stat(process.pid)
        if stat is None or stat.state in DEAD or stat.start != process.start:
            return None
        read = self._bytes_read(process.pid)
        return Usage(stat.pages * self._page, stat.ticks / self._tick, read)

    def is_listening(self, pid: int, host: str, port: int) -> bool | None:
        """Return whether a process listens there, in its own network namespace."""
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
        if descriptors is None:  # of another user: only that user and root may read it
            return None
        return any(self._link(f"{pid}/fd/{number}") in wanted for number in descriptors)

    def why_hidden(self) -> str | None:
        """Return what hides the processes of other users."""
        mounts = self._read("self/mountinfo", LONGEST_TABLE) or b""
        if any(_hides(line) for line in mounts.splitlines()) and not self._command(1):
            return "/proc is mounted with hidepid, or systemd's ProtectProc= is on"
        namespace = self._link("self/ns/pid")
        if namespace is not None and namespace != FIRST_NAMESPACE:
            return "the exporter runs in a PID namespace of its own, as in a container"
        return None

    def _bytes_read(self, pid: int) -> int:
        """Return the bytes of all read(2) calls; 0: not permitted to know."""
        for line in (self._read(f"{pid}/io") or b"").splitlines():
            name, _, value = line.partition(b": ")
            if name == b"rchar" and value.isdigit():
                return int(value)
        return 0

    # -- files -----------------------------------------------------------------------------------

    def _pids(self) -> list[int]:
        return [int(name) for name in self._list("") or () if name.isdigit()]

    def _by_parent(self, parent: int) -> list[int]:
        """Return the children of a process by reading the parent of each new process."""
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
        fields = line[line.rfind(b")") + 2 :].split()  # the program's name may contain anything
        try:
            return Stat(
                fields[0],
                int(fields[1]),
                start=int(fields[19]),
                ticks=int(fields[11]) + int(fields[12]),
                pages=int(fields[21]),
            )
        except (ValueError, IndexError):  # a kernel of another make: as if it could not be read
            return None

    def _read(self, path: str, limit: int = PAGE) -> bytes | None:
        """Return the beginning of a file; None: it is gone, or we may not read it.

        The kernel returns one page at a time.
        """
        try:
            file = os.open(f"{self._root}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            pages = [os.read(file, PAGE)]
            while pages[-1] and len(pages) * PAGE < limit:
                pages.append(os.read(file, PAGE))
        except OSError:
            return None
        finally:
            os.close(file)
        return b"".join(pages)[:limit]

    def _list(self, path: str) -> list[str] | None:
        try:
            return os.listdir(f"{self._root}/{path}")  # noqa: PTH208 - names only
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
    """Return whether a line of mountinfo is a /proc that hides the processes of others."""
    before, _, after = line.partition(b" - ")
    options = after.split()[-1:] if after.startswith(b"proc ") else []
    fields = before.split()
    here = len(fields) > 4 and fields[4] == b"/proc"  # noqa: PLR2004 - the mount point is the fifth
    return here and any(
        option.startswith(b"hidepid=") and option not in (b"hidepid=0", b"hidepid=off")
        for each in options
        for option in each.split(b",")
    )
