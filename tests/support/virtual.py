# SPDX-License-Identifier: Apache-2.0
"""An event loop whose time passes at once: sleeping costs nothing."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")


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

    def run_in_executor(  # type: ignore[override]  # a future is enough for `to_thread`
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run at once, in this thread: another one would take real time."""
        del executor
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as err:  # noqa: BLE001 - it is the caller's
            future.set_exception(err)
        return future


def run_virtually(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine; its time passes at once."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)


def now() -> float:
    """Return the virtual time, seconds."""
    return asyncio.get_running_loop().time()
