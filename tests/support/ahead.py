# SPDX-License-Identifier: Apache-2.0
"""An event loop on real sockets whose clock a test puts forward: no timeout is waited for."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class AheadLoop(asyncio.SelectorEventLoop):
    """An event loop on the real time, and what was added to it."""

    ahead = 0.0

    def time(self) -> float:
        """Return its time."""
        return super().time() + self.ahead


def run_ahead(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on such a loop."""
    with asyncio.Runner(loop_factory=AheadLoop) as runner:
        runner.run(main)


def put_forward(seconds: float) -> None:
    """Put the clock of the running loop forward: what is due by then happens in its next turn."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, AheadLoop)
    loop.ahead += seconds
