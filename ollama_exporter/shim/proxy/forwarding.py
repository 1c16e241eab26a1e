# SPDX-License-Identifier: Apache-2.0
"""One request on its way to the server, and its response on the way back.

Bodies are framed anew and never held back: one read from the server is one write to the client. If
the server dies, the response breaks off and never looks complete.
"""

import asyncio
from typing import Final

from ollama_exporter.descriptors import EXHAUSTED
from ollama_exporter.protocol.routes import Body
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.proxy.headers import RequestHead, RequestRejected, request_head
from ollama_exporter.shim.proxy.interfaces import ForwardingContext, ProxyClient
from ollama_exporter.shim.proxy.limits import MAX_QUEUED, MAX_RESENT
from ollama_exporter.shim.proxy.response_parser import (
    MALFORMED,
    MAX_HEAD,
    NO_BODY,
    ResponseParser,
)
from ollama_exporter.shim.proxy.rewriting import RequestRewrite
from ollama_exporter.shim.proxy.upstream_pool import UpstreamConnection
from ollama_exporter.shim.proxy.usage_filter import UsageFilter

IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"PUT", b"TRACE"})
# A stale kept connection fails at once. One that fails later may have been at work.
STALE_WITHIN: Final = 1.0  # seconds
LAST_CHUNK: Final = b"0\r\n\r\n"


class Forwarding:
    """Forwards one request and its response. The client's connection drives it."""

    __slots__ = (
        *("_client", "_connecting", "_context", "_exchange", "_has_retried", "_head_since"),
        *("_out", "_progress", "_resend", "_response", "_rewrite", "_sent", "_stray"),
        *("_upstream", "_usage", "is_head_sent", "is_upstream_full", "request"),
    )

    def __init__(
        self,
        client: ProxyClient,
        context: ForwardingContext,
        response: ResponseParser,
        request: RequestHead,
        exchange: Exchange,
    ) -> None:
        """`response`: the parser that the requests of one client share."""
        self._client, self._context, self._response = client, context, response
        self.request, self._exchange = request, exchange
        # The request
        rules = context.rewrite_rules
        asks = context.asks_usage and exchange.route.body is Body.OPENAI
        self._rewrite = (
            RequestRewrite(rules, request, exchange, context.held, asks_usage=asks)
            if asks or rules is not None
            else None
        )
        self._out: list[bytes] = []  # not yet sent
        self._resend: list[bytes] | None = None  # what was sent, while it may be sent again
        self._sent = 0  # bytes
        self._has_retried = False
        # The server's connection
        self._upstream: UpstreamConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self.is_upstream_full = False  # the server does not read what was sent
        # The response
        self._usage: UsageFilter | None = None  # takes out what the proxy asked for
        self.is_head_sent = False  # to the client
        self._stray = 0  # bytes since the last ones of the body: framing and trailers
        # Timeouts
        self._head_since = 0.0  # when the response head was first found unfinished
        self._progress: tuple[int, float] | None = None  # bytes so far, and when that changed

    # -- the request -----------------------------------------------------------------------------

    def start(self) -> None:
        """Send the head on an idle connection to the server, or open a connection."""
        self._response.expect(self.request)
        if self._rewrite is None or not self._rewrite.is_holding:
            self._out.append(self._head())
        elif self._rewrite.interim:
            self._client.transport.write(self._rewrite.interim)
        upstream = self._context.pool.reuse()
        if upstream is not None:
            self._attach(upstream)
        else:
            self._open_connection()

    def on_request_body(self, data: bytes) -> None:
        """Forward or hold a piece of the body."""
        self._exchange.on_request_body(data)
        rewrite = self._rewrite
        if rewrite is None:
            self._send_body(data)
        elif not rewrite.is_holding:
            self._send_body(rewrite.pass_on(data))
        elif not rewrite.hold(data):
            self._send_held(rewrite.pass_held())
            self._send_body(rewrite.pass_on(data))

    def on_request_end(self) -> None:
        """Send what was held, and end the body."""
        if self._rewrite is not None and self._rewrite.is_holding:
            self._send_held(self._rewrite.apply())
        self.request.is_complete = True
        self._exchange.on_request_complete()
        if self.request.is_chunked:
            self._out.append(LAST_CHUNK)

    def flush(self) -> None:
        """Write to the server: once for each read from the client."""
        out = self._out
        if not out:
            return
        if self._upstream is None:
            if sum(map(len, out)) > MAX_QUEUED:
                self._client.stop_reading()
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        self._out = []
        if not self._upstream.is_new:  # only a kept connection can be stale
            if not self._sent:
                self._resend = [data]
            elif self._resend is not None:
                self._resend.append(data)
            self._sent += len(data)
            if self._sent > MAX_RESENT:
                self._resend = None
        self._upstream.transport.write(data)

    def pause_sending(self) -> None:
        """Stop reading from the client: the server does not read the request."""
        self.is_upstream_full = True
        self._client.stop_reading()

    def resume_sending(self) -> None:
        """Read from the client again."""
        self.is_upstream_full = False
        self._client.resume_reading()

    def _head(self) -> bytes:
        return request_head(self.request, self._context.outgoing, self._client.peer)

    def _send_body(self, data: bytes) -> None:
        if self.request.is_chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._out.append(data)

    def _send_held(self, body: bytes) -> None:
        self._out.append(self._head())
        if body:
            self._send_body(body)

    # -- the server's connection -----------------------------------------------------------------

    def _open_connection(self) -> None:
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            upstream = await self._context.pool.connect()
        except TimeoutError:
            self._connecting = None
            self._fail(504, "Ollama did not accept a connection in time", timeout=True)
            return
        except OSError as err:
            self._connecting = None
            if err.errno in EXHAUSTED:
                self._fail(503, "the proxy has reached its limit of open files")
                return
            self._fail(502, f"cannot connect to Ollama ({err.strerror or err}); is it running?")
            return
        self._connecting = None
        self._attach(upstream)
        self.flush()
        if not self.is_upstream_full:
            self._client.resume_reading()

    def _attach(self, upstream: UpstreamConnection) -> None:
        self._upstream = upstream
        upstream.receiver = self
        if self._client.is_write_paused:
            upstream.transport.pause_reading()

    def on_upstream_lost(self, exc: Exception | None) -> None:
        """End the response if that is how it ends, else try again or fail."""
        upstream, self._upstream = self._upstream, None
        response = self._response
        response.drop_parser()
        if self._rewrite is not None and self._rewrite.is_holding:  # nothing was sent yet
            response.expect(self.request)
            self._open_connection()
        elif exc is None and response.is_until_close:
            response.has_ended = True
            self._pass_on(b"")
        elif upstream is not None and self._can_retry(upstream):
            self._out, self._resend, self._has_retried = self._resend or [], None, True
            response.expect(self.request)
            self._open_connection()
        else:
            how = "closed" if exc is None else "reset"
            self._fail(502, f"Ollama {how} the connection before the response was complete")

    def _can_retry(self, upstream: UpstreamConnection) -> bool:
        """Return whether the request can be sent again without being carried out twice.

        The kept connection may have been stale. Then it fails at once, and no byte of a response
        has come.
        """
        if upstream.is_new or self._response.has_started:
            return False
        if self._resend is None or self._has_retried or not self.request.is_complete:
            return False
        failed_at_once = self._context.now() - self._exchange.started_at < STALE_WITHIN
        return self.request.method in IDEMPOTENT or (self._exchange.route.runs and failed_at_once)

    # -- the response ----------------------------------------------------------------------------

    def on_response_data(self, data: bytes) -> None:
        """Parse one read and write what it carries."""
        if not self.is_head_sent:
            self._on_head_data(data)
            return
        response = self._response
        try:
            response.feed_data(data)
        except MALFORMED:
            if not self._is_over_despite_error():
                return
        parts = response.parts
        is_plain = self._usage is None and not response.has_ended
        if is_plain and response.is_chunked and len(parts) == 1:
            body = parts.pop()  # nearly every read: one chunk in, one chunk out
            self._stray = 0
            self._client.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
            self._exchange.on_response_body(body)
            return
        # llhttp collects a trailer without a bound. The sizes of chunks may come by themselves.
        self._stray = 0 if parts else self._stray + len(data)
        if self._stray > MAX_HEAD and not response.has_ended:
            self._fail(502, "Ollama's response has a trailer that is too long")
            return
        self._pass_on(b"")

    def _on_head_data(self, data: bytes) -> None:
        response = self._response
        is_malformed = False
        try:
            response.feed_start(data)
        except MALFORMED:
            is_malformed = True
        if response.interim_heads:
            self._client.transport.write(b"".join(response.interim_heads))
            response.interim_heads.clear()
        if is_malformed and not self._is_over_despite_error():
            return
        if response.has_head:
            self.is_head_sent, self._resend = True, None
            if self._rewrite is not None and self._rewrite.asked_usage and response.is_event_stream:
                self._usage = UsageFilter()
            fields = () if self._rewrite is None else self._rewrite.response_fields()
            if self._context.added_fields:
                fields = (*fields, *response.missing_of(self._context.added_fields))
            self._pass_on(response.head_for_client(*fields))
        elif response.is_head_too_long:
            self._fail(502, "Ollama's response head is too long")

    def _is_over_despite_error(self) -> bool:
        """Return whether llhttp failed only behind the end of the response; else fail."""
        response = self._response
        response.drop_parser()
        if response.has_ended:
            response.is_clean = False
            return True
        self._fail(502, "Ollama's response is not valid HTTP")
        return False

    def _pass_on(self, head: bytes) -> None:
        response = self._response
        body = response.take_body()
        out = shown = body if self._usage is None else self._without_usage(body)
        if response.is_chunked:
            out = b"%b%x\r\n%b\r\n" % (head, len(shown), shown) if shown else head
            if response.has_ended:
                out += LAST_CHUNK
        elif head:
            out = head + shown
        if out:
            self._client.transport.write(out)
        if head:
            noted = response.noted
            self._exchange.on_response_head(
                response.status,
                noted.get(b"content-type", b""),
                noted.get(b"content-encoding", b""),
            )
        if body:
            self._exchange.on_response_body(body)
        if response.has_ended:
            self._finish()

    def _without_usage(self, body: bytes) -> bytes:
        assert self._usage is not None  # noqa: S101 - its caller looked
        shown = self._usage.feed(body)
        return shown + self._usage.end() if self._response.has_ended else shown

    def _finish(self) -> None:
        """Keep or close the server's connection, and report the end."""
        upstream, self._upstream = self._upstream, None
        request, response = self.request, self._response
        has_no_body = request.method == b"HEAD" or response.status in NO_BODY
        if has_no_body or not (response.is_clean and response.can_reuse_upstream):
            response.drop_parser()  # it could take what comes next for a body
        if upstream is not None:
            is_sent = request.is_complete and not upstream.transport.get_write_buffer_size()
            if response.can_reuse_upstream and response.is_clean and is_sent:
                if self._client.is_write_paused:
                    upstream.transport.resume_reading()
                self._context.pool.release(upstream)
            else:
                upstream.receiver = None
                upstream.transport.abort()
        self._drop_held()
        self._exchange.on_response_complete()
        if self.is_upstream_full:
            self.is_upstream_full = False
            self._client.resume_reading()
        self._client.on_response_end(keep_alive=request.keep_alive)

    def pace_response(self, *, paused: bool) -> None:
        """Stop reading the response while the client does not read it."""
        if self._upstream is not None:
            transport = self._upstream.transport
            (transport.pause_reading if paused else transport.resume_reading)()

    # -- ends before the end ---------------------------------------------------------------------

    def on_client_gone(self) -> None:
        """Give up. The server's connection is closed at once, so that it stops computing."""
        self._drop_upstream()
        self._exchange.on_client_gone()

    def check_timeouts(self, now: float) -> None:
        """Give up on a side that has been silent for too long."""
        limits, response = self._context.limits, self._response
        if response.head_size and not response.has_head:
            self._head_since = self._head_since or now
            if now - self._head_since > limits.head_timeout:
                self._fail(504, "Ollama's response head was not complete in time", timeout=True)
            return
        self._head_since = 0.0
        exchange = self._exchange
        so_far = exchange.response_bytes + exchange.request_bytes + response.head_size
        if self._progress is None or self._progress[0] != so_far:
            self._progress = (so_far, now)
            return
        waited = now - self._progress[1]
        if not self.request.is_complete and not self._client.is_read_stopped:
            if waited > limits.idle_timeout:
                self._fail(408, "the request body was not complete in time")
        elif waited > limits.silence_timeout:
            self._fail(504, "Ollama was silent for too long", timeout=True)

    def _fail(self, status: int, text: str, *, timeout: bool = False) -> None:
        self._drop_upstream()
        if self.is_head_sent:
            self._write_held_back()
            self._exchange.on_upstream_error(timeout=timeout)
            self._client.abort_response(hard=not self._response.is_framed)
            return
        self._exchange.on_upstream_error(code=status, timeout=timeout)
        rejection = RequestRejected(status, text)
        own = self._context.own_response(rejection, method=self.request.method)
        self._client.transport.write(own)
        self._client.on_response_end(keep_alive=False)

    def _write_held_back(self) -> None:
        """Write the unfinished line of a stream that breaks off."""
        rest = b"" if self._usage is None else self._usage.end()
        if rest:
            framed = b"%x\r\n%b\r\n" % (len(rest), rest)
            self._client.transport.write(framed if self._response.is_chunked else rest)

    def _drop_held(self) -> None:
        if self._rewrite is not None and self._rewrite.is_holding:
            self._rewrite.release()

    def _drop_upstream(self) -> None:
        self._drop_held()
        self._response.drop_parser()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.receiver = None
            upstream.transport.abort()
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
