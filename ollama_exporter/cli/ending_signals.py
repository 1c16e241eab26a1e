# SPDX-License-Identifier: Apache-2.0
"""Signals that end a command in order: Ctrl-C, SIGTERM, and the terminal that is closed."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress


def ending_signals() -> tuple[signal.Signals, ...]:
    """Return them. Under `nohup`, a terminal that is closed ends nothing."""
    usual = (signal.SIGINT, signal.SIGTERM)
    hangup: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return usual
    return (*usual, hangup)


def on_ending_signal(end: Callable[[], object]) -> None:
    """Call `end` at each of them, on the running loop."""
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt there
        for number in ending_signals():
            loop.add_signal_handler(number, end)
