# SPDX-License-Identifier: Apache-2.0
"""The event loops that the proxy runs on."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import uvloop

Run = Callable[[Coroutine[Any, Any, None]], None]
LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def run_on(loop: str, main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on a loop of that kind."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main)
