# SPDX-License-Identifier: Apache-2.0
"""A client's requests and their answers on their way, one at a time.

Bodies are framed anew and never held back: one read of the server is one write to the client. A
dead server never makes a clean end: the answer breaks off.
"""

import asyncio
from typing import Final

import httptools

from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.proxy.headers import RequestHead, own_answer, request_head
from ollama_exporter.shim.proxy.interfaces import ForwardingContext, ProxyClient
from ollama_exporter.shim.proxy.limits import MOST_QUEUED, REPEATABLE
from ollama_exporter.shim.proxy.response_parser import NO_BODY, ResponseParser
from ollama_exporter.shim.proxy.upstream_pool import UpstreamConnection

LONGEST_HEAD: Final = 64 << 10  # bytes of the server's head
IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"PUT", b"TRACE"})
# A kept connection that had died shows it at once. What dies later may have been at work.
SOON: Final = 1.0  # seconds
PROTOCOL: Final = b"HTTP/1."  # llhttp takes others as well, RTSP among them
LAST_CHUNK: Final = b"0\r\n\r\n"


class Forwarding(ResponseParser):
    """The way of one client's requests, one after another."""

    held = False  # the server does not take what was sent
    _upstream: UpstreamConnection | None = None
    _connecting: asyncio.Task[None] | None = None
    _exchange: Exchange

    def __init__(self, client: ProxyClient, place: ForwardingContext) -> None:
        super().__init__()
        self._client, self._place = client, place
        self._out: list[bytes] = []  # of the request, not yet sent
        self._kept: list[bytes] | None = None  # what was sent, while it may be sent again
        self._sent = 0
        self._moved: tuple[int, float] | None = None  # bytes so far, and when that changed
        self._retried = False
        self._head_since = 0.0  # when the answer's head was first seen unfinished
        self._stray = 0  # bytes of the answer since the last ones of its body

    # -- the request -----------------------------------------------------------------------------

    def begin(self, request: RequestHead, exchange: Exchange) -> None:
        """Take a request; a connection to the server is at hand, or is opened."""
        self._request, self._exchange = request, exchange
        self._kept, self._sent, self._moved, self._retried = None, 0, None, False
        self._head_since, self._stray = 0.0, 0
        self._expect()
        self._out = [request_head(request, self._place.outward, self._client.peer)]
        upstream = self._place.pool.take()
        if upstream is not None:
            self._attach(upstream)
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            upstream = await self._place.pool.connect()
        except TimeoutError:
            self._connecting = None
            self._fail(504, "the server did not accept a connection in time", timeout=True)
            return
        except OSError as err:
            self._connecting = None
            self._fail(502, f"no connection to the server: {err.strerror or err}")
            return
        self._connecting = None
        self._attach(upstream)
        self.flush()
        if not self.held:
            self._client.read_on()

    def _attach(self, upstream: UpstreamConnection) -> None:
        self._upstream = upstream
        upstream.answering = self
        if self._client.paused:
            upstream.transport.pause_reading()

    def body(self, data: bytes) -> None:
        """Take bytes of the request's body."""
        self._exchange.on_request_body(data)
        if self._request.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._out.append(data)

    def complete(self) -> None:
        """Take that the request is complete."""
        self._request.complete = True
        self._exchange.on_request_complete()
        if self._request.chunked:
            self._out.append(LAST_CHUNK)

    def flush(self) -> None:
        """Send what was taken: once for each read of the client."""
        out = self._out
        if not out:
            return
        if self._upstream is None:
            if sum(map(len, out)) > MOST_QUEUED:
                self._client.stop_reading()
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        self._out = []
        if not self._upstream.fresh:  # only a kept connection can have died unnoticed
            if not self._sent:
                self._kept = [data]
            elif self._kept is not None:
                self._kept.append(data)
            self._sent += len(data)
            if self._sent > REPEATABLE:
                self._kept = None
        self._upstream.transport.write(data)

    def hold(self) -> None:
        """Stop the client: the server does not take its body."""
        self.held = True
        self._client.stop_reading()

    def go_on(self) -> None:
        """Let it send again."""
        self.held = False
        self._client.read_on()

    # -- the answer ------------------------------------------------------------------------------

    def _informed(self, head: bytes) -> None:
        self._client.transport.write(head)

    def answer(self, data: bytes) -> None:
        """Take bytes of the answer and write what they carry."""
        assert self._parser is not None  # noqa: S101 - there is one while an answer is expected
        known = self._heard or data.startswith(PROTOCOL[: len(data)])
        self._heard = True
        if not self.head_sent:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data if known else b"\0")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._parser = None
            if not self._ended:
                self._fail(502, "the server's answer is not HTTP")
                return
            self._ended_clean = False  # what follows the answer is nobody's
        parts = self._parts
        if self.head_sent and self._chunked and len(parts) == 1 and not self._ended:
            body = parts.pop()  # nearly every read: one chunk in, one chunk out
            self._stray = 0
            self._client.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
            self._exchange.on_response_body(body)
        elif self.head_sent:
            # llhttp collects a trailer without a bound; sizes of chunks may come by themselves.
            self._stray = 0 if parts else self._stray + len(data)
            if self._stray > LONGEST_HEAD and not self._ended:
                self._fail(502, "a trailer of the server's answer is too long")
                return
            self._pass_on(b"")
        elif self._has_head:
            self.head_sent, self._kept = True, None
            self._pass_on(self._head())
        elif self._head_size + self._told_size > LONGEST_HEAD:
            self._fail(502, "the head of the server's answer is too long")

    def _pass_on(self, head: bytes) -> None:
        parts, body = self._parts, b""
        if self._ended and len(parts) > self._length:  # a second answer, or a body of none
            del parts[self._length :]
            self._ended_clean = False
        if parts:
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
        out = body
        if self._chunked:
            out = b"%b%x\r\n%b\r\n" % (head, len(body), body) if body else head
            if self._ended:
                out += LAST_CHUNK
        elif head:
            out = head + body
        if out:
            self._client.transport.write(out)
        if head:
            noted = self._noted
            self._exchange.on_response_head(
                self._status, noted.get(b"content-type", b""), noted.get(b"content-encoding", b"")
            )
        if body:
            self._exchange.on_response_body(body)
        if self._ended:
            self._finish()

    def _finish(self) -> None:
        upstream, self._upstream = self._upstream, None
        request, exchange = self._request, self._exchange
        nothing = request.method == b"HEAD" or self._status in NO_BODY
        if nothing or not self._ended_clean:
            self._parser = None  # it may take what comes next for a body
        if upstream is not None:
            taken = request.complete and not upstream.transport.get_write_buffer_size()
            if self._keep_upstream and self._ended_clean and taken:
                if self._client.paused:
                    upstream.transport.resume_reading()
                self._place.pool.give_back(upstream)
            else:
                upstream.answering = None
                upstream.transport.abort()
        if not self._keep_upstream:
            self._parser = None
        exchange.on_response_complete()
        if self.held:
            self.held = False
            self._client.read_on()
        self._client.answered(keep_alive=request.keep_alive)

    # -- ends before the end ---------------------------------------------------------------------

    def lost(self, exc: Exception | None) -> None:
        """Take that the server's connection ended."""
        upstream, self._upstream = self._upstream, None
        self._parser = None
        if exc is None and self._until_close:
            self._ended = True
            self._pass_on(b"")
        elif upstream is not None and self._may_repeat(upstream):
            self._out, self._kept, self._retried = self._kept or [], None, True
            self._expect()
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
        else:
            how = "closed" if exc is None else "reset"
            self._fail(502, f"the server {how} the connection before it had answered")

    def _may_repeat(self, upstream: UpstreamConnection) -> bool:
        """Tell whether the request can be sent again: nobody can have acted on it.

        A kept connection may have died while nobody looked. Then nothing of an answer has come, and
        the death shows at once.
        """
        if upstream.fresh or self._heard or self._kept is None or self._retried:
            return False
        if not self._request.complete:
            return False
        soon = self._place.now() - self._exchange.started_at < SOON
        return self._request.method in IDEMPOTENT or (self._exchange.route.runs and soon)

    def client_left(self) -> None:
        """Give up: the client is gone. The server's connection is closed at once."""
        self._drop()
        self._exchange.on_client_gone()

    def watch(self, now: float) -> None:
        """Give up on what has been silent for too long; called now and then."""
        limits = self._place.limits
        if self._head_size and not self._has_head:
            self._head_since = self._head_since or now
            if now - self._head_since > limits.head_time:
                self._fail(504, "the head of the server's answer has no end", timeout=True)
            return
        self._head_since = 0.0
        so_far = self._exchange.response_bytes + self._exchange.request_bytes + self._head_size
        if self._moved is None or self._moved[0] != so_far:
            self._moved = (so_far, now)
            return
        waited = now - self._moved[1]
        if not self._request.complete and not self._client.stopped:
            if waited > limits.idle_time:
                self._fail(408, "the rest of the request's body did not come")
        elif waited > limits.silence:
            self._fail(504, "the server was silent for too long", timeout=True)

    def _fail(self, status: int, text: str, *, timeout: bool = False) -> None:
        self._drop()
        if self.head_sent:
            self._exchange.on_upstream_error(timeout=timeout)
            self._client.cut(hard=not self._framed)
            return
        self._exchange.on_upstream_error(code=status, timeout=timeout)
        self._client.transport.write(own_answer(status, text, method=self._request.method))
        self._client.answered(keep_alive=False)

    def _drop(self) -> None:
        self._parser = None
        self._parts.clear()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.answering = None
            upstream.transport.abort()
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None

    def pace(self, *, paused: bool) -> None:
        """Stop reading the answer while the client does not take it."""
        if self._upstream is not None:
            transport = self._upstream.transport
            (transport.pause_reading if paused else transport.resume_reading)()
