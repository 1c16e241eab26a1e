# SPDX-License-Identifier: Apache-2.0
"""One request and its answer on their way between a client and the server.

Bodies are framed anew and never held back: one read of the server is one write to the client. A
dead server never makes a clean end: the answer breaks off.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import httptools

from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.proxy.heads import Fields, Outward, Request, own_answer, request_head
from ollama_exporter.shim.proxy.heads import response_head as head_of
from ollama_exporter.shim.proxy.limits import MOST_QUEUED, REPEATABLE, Limits
from ollama_exporter.shim.proxy.upstream import Pool, Upstream

LONGEST_HEAD: Final = 64 << 10  # bytes of the server's head
NO_BODY: Final = frozenset({204, 304})
IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"PUT", b"TRACE"})
# A kept connection that had died shows it at once. What dies later may have been at work.
SOON: Final = 1.0  # seconds


class Client(Protocol):
    """The client's connection, as a relay needs it."""

    peer: bytes
    paused: bool  # it does not take what was written
    stopped: bool  # nothing is read from it

    def write(self, data: bytes) -> None:
        """Send bytes of the answer."""

    def stop_reading(self) -> None:
        """Take no more of the request."""

    def read_on(self) -> None:
        """Take more of it."""

    def answered(self, *, keep_alive: bool) -> None:
        """Take that the answer is complete."""

    def cut(self, *, hard: bool) -> None:
        """End the connection in the middle of an answer; `hard`: its end must not look like one."""


class Relay:
    """One exchange over two connections. Its Exchange hears of all that passes."""

    __slots__ = (
        *("_chunked", "_client", "_connecting", "_ended", "_exchange", "_fields", "_framed"),
        *(
            "_has_head",
            "head_sent",
            "_head_size",
            "_kept",
            "_keep_upstream",
            "_limits",
            "_moved_at",
        ),
        *("_now", "_out", "_outward", "_parser", "_parts", "_pool", "_reason", "_request", "_seen"),
        *("_sent", "_sent_at", "_size", "_status", "_upstream", "_until_close", "retried"),
    )

    def __init__(
        self,
        client: Client,
        request: Request,
        exchange: Exchange,
        *,
        pool: Pool,
        outward: Outward,
        limits: Limits,
        now: Callable[[], float],
    ) -> None:
        self._client, self._request, self._exchange = client, request, exchange
        self._pool, self._limits, self._outward, self._now = pool, limits, outward, now
        self._upstream: Upstream | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._out: list[bytes] = [request_head(request, outward, client.peer)]
        self._size = len(self._out[0])
        self._kept: list[bytes] | None = []  # what was sent, while it may be sent again
        self._sent = 0
        self._sent_at = self._moved_at = now()
        self._seen = -1
        self.retried = False
        self._expect_answer()

    def _expect_answer(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._fields: Fields = []
        self._reason = b""
        self._status = self._head_size = 0
        self._has_head = self.head_sent = self._ended = self._framed = False
        self._chunked = self._until_close = self._keep_upstream = False
        self._parts: list[bytes] = []  # of the answer, decoded and not yet written

    # -- the request -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Take a connection to the server, or open one."""
        upstream = self._pool.take()
        if upstream is not None:
            self._attach(upstream)
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            upstream = await self._pool.connect()
        except TimeoutError:
            self._connecting = None
            self._fail(504, "the server did not accept a connection in time", timeout=True)
            return
        except OSError as err:
            self._connecting = None
            self._fail(502, f"no connection to the server: {err.strerror or err}")
            return
        if self._exchange.over:  # its client left in the same moment
            upstream.transport.abort()
            return
        self._connecting = None
        self._attach(upstream)
        self.flush()
        self._client.read_on()

    def _attach(self, upstream: Upstream) -> None:
        self._upstream = upstream
        upstream.answering = self
        if self._client.paused:
            upstream.transport.pause_reading()

    def body(self, data: bytes) -> None:
        """Take bytes of the request's body."""
        self._exchange.request_body(data)
        if self._request.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._out.append(data)
        self._size += len(data)

    def complete(self) -> None:
        """Take that the request is complete."""
        self._request.complete = True
        self._exchange.request_complete()
        if self._request.chunked:
            self._out.append(b"0\r\n\r\n")

    def flush(self) -> None:
        """Send what was taken: once for each read of the client."""
        if self._upstream is None:
            if self._size > MOST_QUEUED:
                self._client.stop_reading()
            return
        if not self._out:
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out, self._size = [], 0
        self._sent += len(data)
        if self._kept is not None:
            if self._sent > REPEATABLE:
                self._kept = None
            else:
                self._kept.append(data)
        self._sent_at = self._now()
        self._upstream.transport.write(data)

    def hold(self) -> None:
        """Stop the client: the server does not take its body."""
        self._client.stop_reading()

    def go_on(self) -> None:
        """Let it send again."""
        self._client.read_on()

    # -- the answer: callbacks of the parser -----------------------------------------------------

    def on_status(self, reason: bytes) -> None:
        """Keep the reason phrase."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field; those behind the body are dropped."""
        if not self._has_head:
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Decide how the body is framed for the client."""
        status = self._parser.get_status_code()
        if status < 200:  # noqa: PLR2004 - informational: the answer is still to come
            return
        self._has_head, self._status = True, status
        content_type = content_encoding = b""
        for name, value in self._fields:
            lower = name.lower()
            if lower == b"content-length":
                self._framed = True
            elif lower == b"content-type":
                content_type = value
            elif lower == b"content-encoding":
                content_encoding = value
            elif lower == b"transfer-encoding":
                self._chunked = True
        if self._chunked:
            self._framed = False
        nothing = self._request.method == b"HEAD" or status in NO_BODY
        self._until_close = not (self._framed or self._chunked or nothing)
        self._chunked = not (self._framed or nothing) and self._request.http11
        self._exchange.head(
            status,
            content_type=content_type.decode("latin-1"),
            content_encoding=content_encoding.decode("latin-1"),
        )
        if nothing:
            self._ended = True
            self._keep_upstream = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        """Keep a piece until the read is parsed."""
        self._parts.append(data)

    def on_message_complete(self) -> None:
        """Take the end of the answer, or of an informational one."""
        if self._has_head:
            self._ended = True
            # Only right in here: right behind it llhttp has forgotten the framing.
            self._keep_upstream = self._parser.should_keep_alive()
            return
        self._inform()

    def _inform(self) -> None:
        status, fields, reason = self._parser.get_status_code(), self._fields, self._reason
        self._fields, self._reason = [], b""
        if self._request.http11 and status != 101:  # noqa: PLR2004 - nobody asked for an upgrade
            head = head_of(status, reason, fields, chunked=False, connection=None)
            self._client.write(head)

    # -- the answer: what becomes of it ----------------------------------------------------------

    def answer(self, data: bytes) -> None:
        """Take bytes of the answer and write what they carry."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._ended:
                self._fail(502, "the server's answer is not HTTP")
                return
            self._keep_upstream = False  # what follows the answer is nobody's
        if self.head_sent:
            self._pass_on(b"")
        elif self._has_head:
            self.head_sent, self._kept = True, None
            self._pass_on(self._head())
        else:
            self._head_size += len(data)
            if self._head_size > LONGEST_HEAD:
                self._fail(502, "the head of the server's answer is too long")

    def _head(self) -> bytes:
        request = self._request
        if self._until_close and not self._chunked:
            request.keep_alive = False
        connection = None
        if not (request.keep_alive and request.complete):
            connection = b"close"
        elif not request.http11:
            connection = b"keep-alive"
        return head_of(
            self._status,
            self._reason,
            self._fields,
            chunked=self._chunked,
            connection=connection,
        )

    def _pass_on(self, head: bytes) -> None:
        parts, body = self._parts, b""
        if parts:
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            self._parts = []
        last = b"0\r\n\r\n" if self._ended and self._chunked else b""
        if body and self._chunked:
            self._client.write(b"%b%x\r\n%b\r\n%b" % (head, len(body), body, last))
        elif head or body or last:
            self._client.write(head + body + last if head or last else body)
        if body:
            self._exchange.feed(body)
        if self._ended:
            self._finish()

    def _finish(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            if self._keep_upstream and self._request.complete:
                if self._client.paused:
                    upstream.transport.resume_reading()
                self._pool.give_back(upstream)
            else:
                upstream.answering = None
                upstream.transport.abort()
        self._exchange.completed()
        self._client.answered(keep_alive=self._request.keep_alive and self._request.complete)

    # -- ends before the end ---------------------------------------------------------------------

    def lost(self, exc: Exception | None) -> None:
        """Take that the server's connection ended."""
        upstream, self._upstream = self._upstream, None
        if exc is None and self._until_close and not self._ended:
            self._ended = True
            self._pass_on(b"")
        elif self._may_repeat(upstream):
            self.retried = True
            self._out, self._kept = self._kept or [], None
            self._expect_answer()
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
        else:
            why = "closed" if exc is None else "reset"
            self._fail(502, f"the server {why} the connection before it had answered")

    def _may_repeat(self, upstream: Upstream | None) -> bool:
        """Tell whether the request can be sent again: nobody can have acted on it.

        A kept connection may have died while nobody looked. Then nothing of an answer has come, and
        the death shows at once.
        """
        if upstream is None or upstream.fresh or self._head_size or not self._kept:
            return False
        if self.retried or not self._request.complete:
            return False
        soon = self._now() - self._sent_at < SOON
        return self._request.method in IDEMPOTENT or (self._exchange.route.runs and soon)

    def client_left(self) -> None:
        """Give up: the client is gone. The server's connection is closed at once."""
        self._drop()
        self._exchange.left()

    def watch(self, now: float) -> None:
        """Give up on a server that has been silent for too long; called now and then."""
        moved = self._exchange.received + self._exchange.sent + self._head_size
        waited = now - self._moved_at
        if moved != self._seen:
            self._seen, self._moved_at = moved, now
        elif not self._request.complete and not self._client.stopped:
            if waited > self._limits.idle_time:
                self._fail(408, "the rest of the request's body did not come")
        elif self._head_size and not self._has_head:
            if waited > self._limits.head_time:
                self._fail(504, "the head of the server's answer has no end", timeout=True)
        elif waited > self._limits.silence:
            self._fail(504, "the server was silent for too long", timeout=True)

    def _fail(self, status: int, text: str, *, timeout: bool = False) -> None:
        self._drop()
        if self.head_sent:
            self._exchange.broken(timeout=timeout)
            self._client.cut(hard=not (self._chunked or self._framed))
            return
        self._exchange.broken(code=status, timeout=timeout)
        self._client.write(own_answer(status, text))
        self._client.answered(keep_alive=False)

    def _drop(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.answering = None
            upstream.transport.abort()
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None

    def pause_answer(self) -> None:
        """Stop reading the answer: the client does not take it."""
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def resume_answer(self) -> None:
        """Read it again."""
        if self._upstream is not None:
            self._upstream.transport.resume_reading()
