# SPDX-License-Identifier: Apache-2.0
"""A program of ours in a pseudo-terminal."""

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from typing import Final

import pyte

from tests.support.patience import PATIENCE

PROGRAM: Final = [sys.executable, "-m", "ollama_exporter"]


class Terminal:
    """A pseudo-terminal with a program in it, and what its screen shows."""

    def __init__(self, command: list[str], *, columns: int, rows: int, **more: str) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.written = bytearray()
        self._master, slave = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "PYTHONFAULTHANDLER": "1", **more},
        )
        self._slave = slave
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while chunk := os.read(self._master, 65536):
                self.written += chunk
                self._stream.feed(chunk)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size, as a window manager does."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def until(self, *wanted: str) -> str:
        """Wait until the screen shows all of these; return it."""
        end = time.monotonic() + PATIENCE
        while not all(text in (shown := "\n".join(self.screen.display)) for text in wanted):
            assert time.monotonic() < end, shown
            assert self.process.poll() in (None, 0), shown
            time.sleep(0.02)
        return shown

    def until_gone(self, unwanted: str) -> None:
        """Wait until the screen does not show this any more."""
        end = time.monotonic() + PATIENCE
        while unwanted in (shown := "\n".join(self.screen.display)):
            assert time.monotonic() < end, shown
            time.sleep(0.02)

    def left(self) -> int:
        """Wait for the end of what took the whole screen; return its code.

        The terminal must be as it was: the alternate screen left, the cursor shown.
        """
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # it prints where each thread is
            self.process.wait(PATIENCE)
            raise AssertionError(bytes(self.written[-4096:])) from None
        assert termios.tcgetattr(self._slave) == self.before
        self._until_written(b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h")
        return code

    def _until_written(self, *codes: bytes) -> None:
        """Wait for these: the program may have ended before all that it wrote is read."""
        end = time.monotonic() + PATIENCE
        while not all(code in self.written for code in codes):
            assert time.monotonic() < end, bytes(self.written)
            time.sleep(0.02)

    def close(self) -> None:
        """End the program if it still runs."""
        self.process.kill()
        self.process.wait(PATIENCE)
        for descriptor in (self._slave, self._master):
            os.close(descriptor)


@contextlib.contextmanager
def terminal(*arguments: str, columns: int = 80, rows: int = 24, **more: str) -> Iterator[Terminal]:
    """Run a command in a terminal."""
    found = Terminal([*PROGRAM, *arguments], columns=columns, rows=rows, **more)
    try:
        yield found
    finally:
        found.close()
