# SPDX-License-Identifier: Apache-2.0
"""A process that looks like `ollama serve`, and whose children look like its runners.

Run as a module by `crew.py`, with the server's listening socket among its descriptors. It does
nothing but be there. Lines of JSON on its standard input say what is to be:

    {"start": KEY, "command": ["llama-server", "--model", …]}
    {"end": KEY}

A command line is overwritten in place, as setproctitle(3) does it, so that nothing needs to be
installed under that name. Linux only.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

READY: Final = "ready"
PADDING: Final = 1024  # bytes of its own command line that others may take
PR_SET_PDEATHSIG: Final = 1
SERVER: Final = ("/usr/local/bin/ollama", "serve")


def laid_out(command: Sequence[str], room: int) -> bytes:
    """Return a command line as the kernel keeps it, filled up to `room` bytes."""
    text = b"".join(os.fsencode(word) + b"\0" for word in command)
    return text[: room - 1].ljust(room, b"\0")


def disguise(command: Sequence[str]) -> None:
    """Take another command line and name."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # of the arguments, in our own memory
    ctypes.memmove(start, laid_out(command, end - start), end - start)
    Path("/proc/self/comm").write_text(Path(command[0]).name[:15], encoding="ascii")


def run_as(command: Sequence[str]) -> int:
    """Start a child that looks like that; return its pid. It dies with its parent."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be(command, parent)
    return pid


def _be(command: Sequence[str], parent: int) -> NoReturn:  # pragma: no cover - killed, not ended
    """Be that, until the end. A runner holds none of its server's descriptors."""
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.closerange(0, os.sysconf("SC_OPEN_MAX"))
    disguise(command)
    while parent == os.getppid():
        signal.pause()
    os._exit(0)


class FakeProcess:
    """The server's process."""

    def __init__(self) -> None:
        self._runners: dict[str, int] = {}
        self._dead: set[int] = set()  # reaped: their pids may be another's by now

    def run(self) -> None:
        """Do what is said until the input ends, or SIGTERM comes."""
        disguise(SERVER)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.signal(signal.SIGCHLD, lambda *_: self._reap())
        print(READY, flush=True)  # noqa: T201 - the word that its parent waits for
        try:
            for line in sys.stdin:
                self._take(json.loads(line))
        finally:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them
            for key in list(self._runners):
                self._end(key)

    def _take(self, order: dict[str, object]) -> None:
        if "start" in order:
            command = order["command"]
            assert isinstance(command, list)  # noqa: S101 - our own parent wrote it
            pid = run_as(command)
            self._dead.discard(pid)  # of who had it before
            self._runners[str(order["start"])] = pid
        else:
            self._end(str(order["end"]))

    def _end(self, key: str) -> None:
        pid = self._runners.pop(key)
        if pid in self._dead:
            self._dead.remove(pid)
        else:
            with suppress(ProcessLookupError):  # it died just now
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Take note of children that died, as the real server does at once.

        A signal's handler runs between any two steps of the rest: it changes nothing but the set.
        """
        with suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) > 0:
                self._dead.add(pid)


if __name__ == "__main__":
    FakeProcess().run()
