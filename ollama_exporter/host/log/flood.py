# SPDX-License-Identifier: Apache-2.0
"""Keeps a log that floods from taking the processor: what of it is looked at. Pure.

A line that may be the server's costs some 20 µs, so 100 MB a second of them cannot be read. Most
floods are the output of a runner, and that is told from whole blocks at once.
"""

from typing import Final

RATE: Final = 5_000.0  # lines a second that are looked at for long; a server writes some hundred
BURST: Final = 50_000.0  # lines at once
CALM: Final = 10.0  # seconds without a skipped line that end a flood
# What the server's lines have in common, however they are wrapped or split.
MARKS: Final = (b"level", b"severity", b"\0", b" P ", b'"log"', b'"MESSAGE"')


class LineBudget:
    """Grants so many lines a second, and a burst."""

    def __init__(self) -> None:
        self._left, self._at = BURST, 0.0
        self._skipped_at: float | None = None

    def grant(self, lines: int, now: float) -> bool:
        """Return whether so many lines may be looked at."""
        self._left = min(BURST, self._left + RATE * max(0.0, now - self._at))
        self._at = now
        if self._left <= 0.0:
            self._skipped_at = now
            return False
        self._left -= lines
        return True

    def is_flooded(self, now: float) -> bool:
        """Return whether lines were skipped lately."""
        return self._skipped_at is not None and now - self._skipped_at < CALM


def is_noise(block: bytes) -> bool:
    """Return whether no line of a block can be the server's."""
    return not any(mark in block for mark in MARKS)
