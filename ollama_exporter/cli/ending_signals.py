# SPDX-License-Identifier: Apache-2.0
"""Signals that end a command in order: Ctrl-C, SIGTERM, and the terminal that is closed."""

import signal


def ending_signals() -> tuple[signal.Signals, ...]:
    """Return them. Under `nohup`, a terminal that is closed ends nothing."""
    usual = (signal.SIGINT, signal.SIGTERM)
    hangup: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return usual
    return (*usual, hangup)
