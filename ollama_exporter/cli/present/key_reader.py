# SPDX-License-Identifier: Apache-2.0
"""Reads keys from the terminal as they are pressed. The terminal is left as it was."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

MOST_AT_ONCE: Final = 1024  # bytes; somebody may paste a book


@contextmanager
def reading_keys(on_keys: Callable[[str], None]) -> Iterator[bool]:
    """Call `on_keys` with what is typed. Yield whether that is possible here.

    Not on Windows, where the event loop cannot watch the console: Ctrl-C ends the view there.
    """
    try:
        import termios  # noqa: PLC0415 - POSIX alone has it
        import tty  # noqa: PLC0415 - likewise
    except ImportError:
        yield False
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    loop = asyncio.get_running_loop()

    def on_readable() -> None:
        typed = os.read(terminal, MOST_AT_ONCE)
        if typed:
            on_keys(typed.decode("utf-8", "ignore"))
        else:  # the terminal is gone
            loop.remove_reader(terminal)

    tty.setcbreak(terminal, termios.TCSANOW)
    mode = termios.tcgetattr(terminal)
    mode[3] &= ~termios.ISIG  # Ctrl-C is a key like others: the screen must be put back first
    termios.tcsetattr(terminal, termios.TCSANOW, mode)
    loop.add_reader(terminal, on_readable)
    try:
        yield True
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
