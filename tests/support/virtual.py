# SPDX-License-Identifier: Apache-2.0
"""An event loop whose time passes at once: sleeping costs nothing."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class Instant(selectors.SelectSelector):
    """Waits in no time: the clock goes on instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready, or let the time pass."""
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing will ever happen"
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on that clock."""

    def __init__(self) -> None:
        self._instant = Instant()
        super().__init__(self._instant)

    def time(self) -> float:
        """Return the virtual time."""
        return self._instant.now


def run_virtually(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine; its time passes at once."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)


def now() -> float:
    """Return the virtual time, seconds."""
    return asyncio.get_running_loop().time()
