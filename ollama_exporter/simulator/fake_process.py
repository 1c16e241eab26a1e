# SPDX-License-Identifier: Apache-2.0
"""A process that looks like `ollama serve`, with children that look like its runners.

`process_manager.py` runs it as a module, with the server's listening socket open. It only exists.
Lines of JSON on its standard input start and end the children:

    {"start": KEY, "command": ["llama-server", "--model", …], "reads": BYTES, "seconds": SECONDS}
    {"end": KEY}

A child that dies by itself is a line of JSON on the standard output: {"died": KEY}.

A child reads so many bytes in so many seconds, as a load does, from a device that gives zeros.

A command line is overwritten in place, as setproctitle(3) does it, so that nothing needs to be
installed under that name. Linux only.
"""

import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

READY: Final = "ready"
PADDING: Final = 1024  # bytes of its own command line that another may overwrite
PR_SET_PDEATHSIG: Final = 1
PIECE: Final = 1 << 18  # bytes that are read at a time: they stay in the processor's cache
PAUSE: Final = 0.05  # seconds between two steps
SERVER: Final = ("/usr/local/bin/ollama", "serve")


def padded_command_line(command: Sequence[str], room: int) -> bytes:
    """Return a command line as the kernel keeps it, padded to `room` bytes."""
    text = b"".join(os.fsencode(word) + b"\0" for word in command)
    return text[: room - 1].ljust(room, b"\0")


def change_command_line(command: Sequence[str]) -> None:
    """Overwrite the command line and the name of this process."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # of the arguments, in our own memory
    ctypes.memmove(start, padded_command_line(command, end - start), end - start)
    Path("/proc/self/comm").write_text(Path(command[0]).name[:15], encoding="ascii")


@dataclass(frozen=True, slots=True)
class Reading:
    """How many bytes a child reads after its start, and in how many seconds."""

    total: int = 0
    seconds: float = 0.0

    def carry_out(self) -> None:
        """Read at an even pace."""
        buffer, done, begun = bytearray(PIECE), 0, time.monotonic()
        with open("/dev/zero", "rb", buffering=0) as zeros:  # noqa: PTH123 - no Path.open is cheaper
            while done < self.total:
                passed = time.monotonic() - begun
                wanted = (
                    self.total if passed >= self.seconds else self.total * passed / self.seconds
                )
                while done < wanted:
                    done += zeros.readinto(buffer) or PIECE
                time.sleep(PAUSE)


def start_as(command: Sequence[str], reading: Reading = Reading()) -> int:
    """Start a child with this command line and return its pid. It dies with its parent."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _stay_as(command, parent, reading)
    return pid


def _stay_as(
    command: Sequence[str], parent: int, reading: Reading
) -> NoReturn:  # pragma: no cover - killed, not ended
    """Wait until killed. A runner holds no descriptor of its server."""
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.closerange(0, os.sysconf("SC_OPEN_MAX"))
    change_command_line(command)
    reading.carry_out()
    while parent == os.getppid():
        signal.pause()
    os._exit(0)


def _lines(source: int, on_signal: Callable[[], None]) -> Iterator[bytes]:
    """Yield the lines of a pipe. Signals are handled while it waits; `on_signal` follows each.

    A signal that comes just before a read begins would wait for the next line: its handler is
    Python, and the read is not interrupted. A byte in a second pipe ends the wait.
    """
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    rest = b""
    while True:
        ready = select.select([source, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            on_signal()
        if source in ready:
            chunk = os.read(source, 65536)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines


class FakeProcess:
    """The server's process."""

    def __init__(self) -> None:
        self._runners: dict[str, int] = {}
        self._dead: set[int] = set()  # reaped children; another process may have the pid now

    def run(self) -> None:
        """Follow the input until it ends, or until SIGTERM."""
        change_command_line(SERVER)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.signal(signal.SIGCHLD, lambda *_: self._reap())
        print(READY, flush=True)  # noqa: T201 - the parent waits for it
        try:
            for line in _lines(sys.stdin.fileno(), self._report):
                self._take(json.loads(line))
        finally:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them
            for key in list(self._runners):
                self._end(key)

    def _take(self, order: dict[str, object]) -> None:
        if "start" in order:
            command = order["command"]
            assert isinstance(command, list)  # noqa: S101 - the parent wrote it
            reading = Reading(int(str(order.get("reads", 0))), float(str(order.get("seconds", 0))))
            pid = start_as(command, reading)
            self._dead.discard(pid)  # of an earlier child
            self._runners[str(order["start"])] = pid
        else:
            self._end(str(order["end"]))

    def _report(self) -> None:
        """Print which children died by themselves."""
        for key, pid in list(self._runners.items()):
            if pid in self._dead:
                del self._runners[key]
                self._dead.remove(pid)
                print(json.dumps({"died": key}), flush=True)  # noqa: T201 - the parent reads it

    def _end(self, key: str) -> None:
        pid = self._runners.pop(key, None)
        if pid is None:
            return  # it died by itself
        if pid in self._dead:
            self._dead.remove(pid)
        else:
            with suppress(ProcessLookupError):  # it has just died
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Reap dead children at once, as the real server does.

        A signal handler runs between any two steps, so it changes only the set.
        """
        with suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) > 0:
                self._dead.add(pid)


if __name__ == "__main__":
    FakeProcess().run()
