# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 as Go's server speaks it: one connection, its requests, and the framing of answers.

h11 parses and frames; what is written when, and in which chunks, is decided here, because shims
and pollers are tested on exactly that.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final
from urllib.parse import unquote

import h11

BODY_LIMIT: Final = 32 << 20  # bytes; larger requests are dropped with the connection
BUFFERED: Final = 2048  # bytes; Go sends shorter bodies with a length and chunks longer ones

JSON_UTF8: Final = "application/json; charset=utf-8"
JSON: Final = "application/json"
TEXT: Final = "text/plain"

_REASONS: Final = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, its body read to the end."""

    method: str
    path: str  # without the query
    host: str
    body: bytes
    origin: str = ""  # of the page whose script asks


class HttpExchange:
    """One request and its answer."""

    def __init__(
        self,
        request: HttpRequest,
        conn: h11.Connection,
        writer: asyncio.StreamWriter,
        clock: Callable[[], float],
    ) -> None:
        self.request = request
        self.started = False
        self._conn = conn
        self._writer = writer
        self._clock = clock

    async def respond(
        self, status: int, body: bytes, content_type: str | None = JSON_UTF8, *, allow: str = ""
    ) -> None:
        """Send a whole answer, with a length where Go sends one."""
        head = self._head(content_type, allow=allow)
        if len(body) <= BUFFERED:
            head.append((b"Content-Length", str(len(body)).encode()))
        self._begin(status, head)
        if body and self.request.method != "HEAD":
            self._put(h11.Data(data=body))
        await self.end()

    async def begin(self, status: int, content_type: str, *, cache_control: bool = False) -> None:
        """Begin an answer of unknown length."""
        self._begin(status, self._head(content_type, cache_control=cache_control))

    async def write(self, data: bytes) -> None:
        """Write one chunk and flush it."""
        self._put(h11.Data(data=data))
        await self._writer.drain()

    async def end(self) -> None:
        """End the answer."""
        self._put(h11.EndOfMessage())
        await self._writer.drain()

    def cut(self) -> None:
        """Break the connection in the middle of the answer."""
        self._writer.transport.abort()

    def _head(
        self, content_type: str | None, *, allow: str = "", cache_control: bool = False
    ) -> Headers:
        """Return the fields in Go's order: the handler's alphabetically, then the server's."""
        head: Headers = []
        if allow:
            head.append((b"Allow", allow.encode()))
        if cache_control:
            head.append((b"Cache-Control", b"no-cache"))
            head.append((b"Connection", b"keep-alive"))  # for its last answer h11 says close
        if content_type is not None:
            head.append((b"Content-Type", content_type.encode()))
        head.append((b"Date", formatdate(self._clock(), usegmt=True).encode()))
        return head

    def _begin(self, status: int, head: Headers) -> None:
        self.started = True
        reason = _REASONS.get(status, b"")
        self._put(h11.Response(status_code=status, headers=head, reason=reason))

    def _put(self, event: h11.Event) -> None:
        data = self._conn.send(event)
        if data:
            self._writer.write(data)


Handler = Callable[[HttpExchange], Awaitable[None]]


class HttpConnection:
    """A client's connection, open until one side closes it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handler: Handler,
        clock: Callable[[], float],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._clock = clock
        self._conn = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)

    async def run(self) -> None:
        """Serve requests one after the other."""
        try:
            while (request := await self._next_request()) is not None:
                exchange = HttpExchange(request, self._conn, self._writer, self._clock)
                if not await self._attend(exchange) or self._conn.our_state is not h11.DONE:
                    return
                self._conn.start_next_cycle()
        except (ConnectionError, h11.LocalProtocolError):
            return  # the client or a fault broke it
        finally:
            self._writer.close()

    async def _next_request(self) -> HttpRequest | None:
        """Read the next request; None: the connection ends."""
        head: h11.Request | None = None
        body = bytearray()
        while True:
            try:
                event = self._conn.next_event()
            except h11.RemoteProtocolError:
                await self._refuse()
                return None
            if event is h11.NEED_DATA:
                if self._conn.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    self._writer.write(self._conn.send(go_on) or b"")
                self._conn.receive_data(await self._reader.read(65536))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > BODY_LIMIT:
                    return None
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return _request(head, bytes(body))
            else:
                return None

    async def _refuse(self) -> None:
        """Answer as Go answers what is not HTTP."""
        text = b"400 Bad Request"
        self._writer.write(
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b"Connection: close\r\n\r\n" + text
        )
        with suppress(ConnectionError):
            await self._writer.drain()

    async def _attend(self, exchange: HttpExchange) -> bool:
        """Run the handler until it ends or the client leaves. False: the client left."""
        task = asyncio.ensure_future(self._handler(exchange))
        watch = asyncio.ensure_future(self._reader.read(65536))
        gone = False
        try:
            await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done() and not task.done() and not _read_by(watch):
                gone = True
                task.cancel()
            await asyncio.wait({task})
        finally:
            watch.cancel()
            await asyncio.wait({watch})  # two reads at once are not possible
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
            if not task.cancelled():  # on the way out, nothing else looks at its error
                error = task.exception()
                if error is not None and not isinstance(error, ConnectionError):
                    raise error
        if early := _read_by(watch):  # the beginning of the next request
            self._conn.receive_data(early)
        if task.cancelled():
            return False
        task.result()
        return not gone


def _read_by(watch: asyncio.Future[bytes]) -> bytes:
    """Return what was read; empty if the client left or the read was cancelled."""
    if watch.cancelled() or isinstance(watch.exception(), ConnectionError):
        return b""
    return watch.result()


def _request(head: h11.Request, body: bytes) -> HttpRequest:
    fields = {name.decode(): value.decode("latin-1") for name, value in head.headers}
    return HttpRequest(
        method=head.method.decode(),
        path=_path(head.target.decode("latin-1")),
        host=fields.get("host", ""),
        body=body,
        origin=fields.get("origin", ""),
    )


def _path(target: str) -> str:
    """Return the decoded path of a target, which may be a whole URL, as Go does."""
    if not target.startswith("/"):
        target = "/" + target.partition("://")[2].partition("/")[2]
    return unquote(target.partition("?")[0])
