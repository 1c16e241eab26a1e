# SPDX-License-Identifier: Apache-2.0
"""The event loops that the proxy runs on."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Self, TypeVar

import uvloop

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, None]], None]
LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class Watched:
    """A loop of one kind on which nothing may go wrong unseen.

    What a transport's callback raises ends its connection and is logged; here it fails the test.
    """

    def __init__(self, kind: str) -> None:
        self._runner = asyncio.Runner(loop_factory=LOOPS[kind])
        self.unseen: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._runner.__enter__()
        self._runner.get_loop().set_exception_handler(
            lambda _, context: self.unseen.append(context)
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.close()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine; raise what went wrong beside it."""
        self.unseen.clear()
        result = self._runner.run(main)
        for context in self.unseen:
            raise AssertionError(context) from context.get("exception")
        return result


def run_on(kind: str, main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on a loop of that kind."""
    with Watched(kind) as loop:
        loop.run(main)
