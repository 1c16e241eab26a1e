# SPDX-License-Identifier: Apache-2.0
"""The floor: relays that do one step more each. Arguments: port, port of the server, step, loop.

`bytes` parses nothing, `llhttp` parses both sides and passes the bytes on as they came, `heads`
collects the fields and writes heads and bodies anew. A client has one connection to the server.
"""

import asyncio
import sys
from typing import Final, cast

import httptools
import uvloop

STEP: Final = sys.argv[3] if len(sys.argv) > 3 else "bytes"
LOOP: Final = sys.argv[4] if len(sys.argv) > 4 else "uvloop"


class Silent:
    """Hears nothing of what llhttp parses."""


class Anew:
    """Collects a message and returns it as it would be written by a proxy."""

    def __init__(self, *, of_client: bool) -> None:
        self.request = httptools.HttpRequestParser(self) if of_client else None
        self.response = None if of_client else httptools.HttpResponseParser(self)
        self.first, self.lines, self.parts = b"", list[bytes](), list[bytes]()
        self.head, self.is_chunked, self.has_ended = b"", False, False

    def on_url(self, url: bytes) -> None:
        """Collect a piece of the target."""
        self.first += url

    def on_status(self, reason: bytes) -> None:
        """Collect a piece of the reason."""
        self.first += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field."""
        self.is_chunked = self.is_chunked or name.lower() == b"transfer-encoding"
        self.lines.append(name + b": " + value)

    def on_headers_complete(self) -> None:
        """Write the head."""
        if self.request is not None:
            first = self.request.get_method() + b" " + self.first + b" HTTP/1.1"
        elif self.response is not None:
            first = b"HTTP/1.1 %d %b" % (self.response.get_status_code(), self.first)
        self.head = b"\r\n".join([first, *self.lines, b"\r\n"])
        self.first = b""
        self.lines.clear()

    def on_body(self, data: bytes) -> None:
        """Collect a piece of the body."""
        self.parts.append(data)

    def on_message_complete(self) -> None:
        """Note the end."""
        self.has_ended = True

    def read(self, data: bytes) -> bytes:
        """Return what is written for a read."""
        parser = self.request or self.response
        assert parser is not None
        parser.feed_data(data)
        body, head, self.head = b"".join(self.parts), self.head, b""
        self.parts.clear()
        if self.is_chunked:
            end = b"0\r\n\r\n" if self.has_ended else b""
            body = b"%x\r\n%b\r\n%b" % (len(body), body, end) if body else end
        if self.has_ended:
            self.has_ended = self.is_chunked = False
        return head + body


class Side(asyncio.Protocol):
    """One side of a connection. What comes in here goes out on the other side."""

    def __init__(self, other: "Side | None" = None) -> None:
        self.other = other
        self.early: list[bytes] = []
        kind = httptools.HttpRequestParser if other is None else httptools.HttpResponseParser
        if STEP == "llhttp":
            self.parser = kind(Silent())
        elif STEP == "heads":
            self.anew = Anew(of_client=other is None)

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
        if STEP == "llhttp":
            self.parser.feed_data(data)
        elif STEP == "heads":
            data = self.anew.read(data)
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


with asyncio.Runner(loop_factory=uvloop.new_event_loop if LOOP == "uvloop" else None) as runner:
    runner.run(main())
