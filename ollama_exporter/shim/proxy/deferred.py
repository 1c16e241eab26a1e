# SPDX-License-Identifier: Apache-2.0
"""Runs recording a moment later: it takes longer than forwarding and must not hold bytes up.

The calls run in order. A client that asks again at once is served first.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

PAUSE: Final = 0.002  # seconds
MIN_CALLS: Final = 4  # calls in each turn of the loop
SHARE: Final = 4  # or this fraction of the queue, so that a long queue becomes shorter under load


class Deferred:
    """A queue of calls."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], None]] = deque()
        self._is_scheduled = False

    def __call__(self, call: Callable[[], None]) -> None:
        """Queue a call."""
        self._calls.append(call)
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_later(PAUSE, self._run_some)

    def _run_some(self) -> None:
        for _ in range(min(len(self._calls), max(MIN_CALLS, len(self._calls) // SHARE))):
            self._calls.popleft()()
        self._is_scheduled = bool(self._calls)
        if self._is_scheduled:
            asyncio.get_running_loop().call_soon(self._run_some)

    def finish(self) -> None:
        """Run all calls that are left."""
        while self._calls:
            self._calls.popleft()()
