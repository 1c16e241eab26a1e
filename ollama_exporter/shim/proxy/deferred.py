# SPDX-License-Identifier: Apache-2.0
"""Work that must not hold bytes up: understanding and recording take longer than relaying.

It is done in order, a moment later: a client that asks again at once is served first.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

PAUSE: Final = 0.002  # seconds
LEAST: Final = 4  # calls for each turn of the loop
SHARE: Final = 4  # and this part of what waits: a long queue becomes shorter, whatever comes


class Deferred:
    """A queue of calls."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], None]] = deque()
        self._due = False

    def __call__(self, call: Callable[[], None]) -> None:
        """Do it a moment later."""
        self._calls.append(call)
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(PAUSE, self._turn)

    def _turn(self) -> None:
        for _ in range(min(len(self._calls), max(LEAST, len(self._calls) // SHARE))):
            self._calls.popleft()()
        self._due = bool(self._calls)
        if self._due:
            asyncio.get_running_loop().call_soon(self._turn)

    def finish(self) -> None:
        """Do what is left."""
        while self._calls:
            self._calls.popleft()()
