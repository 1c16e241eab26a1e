# SPDX-License-Identifier: Apache-2.0
"""The floor: a relay on uvloop that parses nothing. Arguments: port, port of the server."""

import asyncio
import sys
from typing import cast

import uvloop


class Side(asyncio.Protocol):
    """One side of a connection. What comes in here goes out on the other side."""

    def __init__(self, other: "Side | None" = None) -> None:
        self.other = other
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the other side, if this is the client's."""
        self.transport = cast("asyncio.Transport", transport)
        if self.other is None:
            self.task = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, self.other = await loop.create_connection(
            lambda: Side(self), "127.0.0.1", int(sys.argv[2])
        )
        self.other.transport.writelines(self.early)

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        if self.other is None:
            self.early.append(data)
        else:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """End the other side."""
        if self.other is not None:
            self.other.transport.abort()


async def main() -> None:
    """Relay for ever."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Side, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


uvloop.run(main())
