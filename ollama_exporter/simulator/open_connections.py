# SPDX-License-Identifier: Apache-2.0
"""The open connections of a server that may end at any moment."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

TURNS: Final = 3  # of the loop, from a connection's acceptance to its protocol
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class OpenConnections:
    """Serves each connection in a task.

    A task that asyncio starts itself is known only once it runs: a server that ends before leaves
    the connection open for ever.
    """

    def __init__(self, serve: Serve) -> None:
        self._serve, self._ended = serve, False
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begin to serve a connection, unless the server has ended meanwhile."""
        if self._ended:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._open[task] = writer
        task.add_done_callback(self._on_end)

    def begin(self) -> None:
        """Accept connections, again."""
        self._ended = False

    def end(self) -> list[asyncio.Task[None]]:
        """Break all connections off; return the tasks that end now."""
        self._ended = True
        for task, writer in self._open.items():
            writer.transport.abort()
            task.cancel()
        return list(self._open)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self._open.pop(task).close()


async def close_listener(server: asyncio.Server) -> None:
    """Stop listening. asyncio would lose, and not close, what it is accepting at that moment."""
    loop = asyncio.get_running_loop()
    for each in server.sockets:
        loop.remove_reader(each.fileno())
    for _ in range(TURNS):
        await asyncio.sleep(0)
    server.close()
