# SPDX-License-Identifier: Apache-2.0
"""A client's connection: parses requests, forwards them one after another, and sets limits.

llhttp rejects what smuggling needs; headers.py rejects what llhttp leaves open. Pipelined requests
wait here in order, within a bound.
"""

import asyncio
import ipaddress
from collections import deque
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from typing import Final, cast

from ollama_exporter.shim.proxy.forwarding import Forwarding
from ollama_exporter.shim.proxy.headers import WHY_REFUSED, RequestHead, RequestRejected
from ollama_exporter.shim.proxy.interfaces import ProxyContext
from ollama_exporter.shim.proxy.limits import HIGH_WATER, MAX_QUEUED
from ollama_exporter.shim.proxy.request_parser import RequestParser
from ollama_exporter.shim.proxy.response_parser import ResponseParser
from ollama_exporter.shim.proxy.socket_options import has_peer_closed, reset, set_socket_options

SLICE: Final = 16 << 10  # bytes that are parsed between two looks at the queue
OK: Final = 200
LINGER: Final = 2.0  # seconds that a client has to read a last response


class Input(Enum):
    """What becomes of bytes that a client sends."""

    PARSED = auto()
    IGNORED = auto()  # a request was rejected; the responses before it still go out
    ENDED = auto()  # likewise, and the last response was written


class ClientConnection(asyncio.Protocol):
    """One client's connection."""

    transport: asyncio.Transport

    def __init__(self, context: ProxyContext) -> None:
        # Per server
        self._context, self._limits = context, context.limits
        # Per connection
        self._parser = RequestParser(context.limits, self)
        self._response = ResponseParser(context.known_heads)
        self._input = Input.PARSED
        self._deadline: float | None = None  # for the client to send or to read something
        self._end_by = 0.0  # for a client that reads its last response slowly
        self.is_write_paused = False
        self.is_read_stopped = False  # by back-pressure or by a long queue
        self._is_transport_paused = False  # also while a backlog is being parsed
        self._backlog = b""  # read and not yet parsed
        self.peer = b""
        self._on_loopback = False
        # Per request
        self._current: Forwarding | None = None
        self._queue: deque[RequestHead] | None = None  # few pipeline, and an empty one takes 0.7 kB
        self._queued = 0  # bytes

    # -- asyncio's callbacks ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self.transport = transport
        address = transport.get_extra_info("peername")
        self.peer = str(address[0]).encode() if address else b"unknown"
        here = transport.get_extra_info("sockname")
        self._on_loopback = bool(here) and ipaddress.ip_address(here[0]).is_loopback
        transport.set_write_buffer_limits(HIGH_WATER)
        set_socket_options(transport)
        self._deadline = self._context.coarse_now + self._limits.idle_timeout
        if not self._context.on_connection_open(self):
            self._write_last(RequestRejected(503, "too many connections"))
        elif not self._context.is_peer_allowed(transport.get_extra_info("peercert")):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Give up the current request."""
        self._input = Input.ENDED
        current, self._current = self._current, None
        if current is not None:
            current.on_client_gone()
        self._context.on_connection_close(self)

    def eof_received(self) -> bool:
        """Treat a half-closed client as one that left, as nginx does."""
        return False

    def pause_writing(self) -> None:
        """Stop reading the response."""
        self.is_write_paused = True
        if self._current is not None:
            self._current.pace_response(paused=True)

    def resume_writing(self) -> None:
        """Read the response again."""
        self.is_write_paused = False
        if self._current is not None:
            self._current.pace_response(paused=False)

    def data_received(self, data: bytes) -> None:
        """Parse a read. It is one write to the server."""
        if self._backlog:
            self._backlog += data
        elif self._input is Input.PARSED:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        """Parse slice by slice: one read may hold ten thousand requests."""
        try:
            for start in range(0, len(data), SLICE):
                if self._queued > MAX_QUEUED:
                    self._backlog = data[start:]  # until the queue is shorter
                    break
                self._parser.feed(data[start : start + SLICE])
        except RequestRejected as rejection:
            self._reject(rejection)
        if self._current is not None:
            self._current.flush()

    def _parse_backlog(self) -> None:
        backlog, self._backlog = self._backlog, b""
        if self._input is Input.PARSED:
            self._parse(backlog)
        if not self._backlog and self._is_transport_paused and not self.is_read_stopped:
            self._is_transport_paused = False
            self.transport.resume_reading()

    # -- the parser's callbacks ------------------------------------------------------------------

    def on_head_start(self) -> None:
        """Give the head a deadline."""
        self._deadline = self._context.coarse_now + self._limits.head_timeout

    def on_request_start(self, request: RequestHead) -> None:
        """Forward the request, or queue it behind the current one."""
        self._deadline = None
        login = self._context.check_access(request, peer=self.peer, on_loopback=self._on_loopback)
        if self._current is None and not self._queue and login is None:
            self._forward(request)
            return
        self._enqueue(request)
        self._count(request.size)
        if login is not None:
            request.is_pending = True
            login.add_done_callback(partial(self._on_login_checked, request))

    def _on_login_checked(self, request: RequestHead, login: asyncio.Task[int]) -> None:
        request.is_pending = False
        has_failed = login.cancelled() or login.exception() is not None  # noqa: LOG004 - no log
        status = 503 if has_failed else login.result()
        if status != OK and request.rejection is None:
            request.rejection = RequestRejected(status, WHY_REFUSED[status])
            self._context.on_reject(request, status)
        self._forward_next()

    def on_request_body(self, request: RequestHead, data: bytes) -> None:
        """Forward a piece of the body, or keep it until its request's turn."""
        if self._current is not None and request is self._current.request:
            self._current.on_request_body(data)
        elif request.rejection is None:
            request.body.append(data)
            request.size += len(data)
            self._count(len(data))

    def on_request_end(self, request: RequestHead) -> None:
        """End the current request's body."""
        if self._current is not None and request is self._current.request:
            self._current.on_request_end()

    # -- requests in order -----------------------------------------------------------------------

    def _forward(self, request: RequestHead) -> Forwarding:
        if self._context.is_shutting_down:
            request.keep_alive = False
        exchange = self._context.start_exchange(request)
        current = Forwarding(self, self._context, self._response, request, exchange)
        self._current = current
        current.start()
        return current

    def _enqueue(self, request: RequestHead) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append(request)

    def _count(self, size: int) -> None:
        self._queued += size
        if self._queued > MAX_QUEUED:
            self.stop_reading()

    def on_response_end(self, *, keep_alive: bool) -> None:
        """Go on with the next request, or end the connection."""
        self._current = None
        if self._input is Input.ENDED:
            return
        if not keep_alive:
            self._end_in_order()
            return
        if not self._queue:
            if not self._parser.is_in_head:
                self._deadline = self._context.coarse_now + self._limits.idle_timeout
            if self._context.is_shutting_down:
                self._end_in_order()
            return
        # Not from in here: a thousand pipelined requests would make a stack of that depth.
        asyncio.get_running_loop().call_soon(self._forward_next)

    def _forward_next(self) -> None:
        if self._current is not None or self._input is Input.ENDED or not self._queue:
            return
        if self._queue[0].is_pending and self._queue[0].rejection is None:
            return
        request = self._queue.popleft()
        self._queued -= request.size
        if request.rejection is not None:
            self._write_last(request.rejection, request.method)
            return
        current = self._forward(request)
        body, request.body = request.body, []
        for data in body:
            current.on_request_body(data)
        if request.is_complete:
            current.on_request_end()
        current.flush()
        if not current.is_upstream_full:
            self.resume_reading()

    # -- back-pressure ---------------------------------------------------------------------------

    def stop_reading(self) -> None:
        """Read no more for now."""
        self.is_read_stopped = True
        if not self._is_transport_paused and self._input is not Input.ENDED:
            self._is_transport_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, unless the queue is too long."""
        is_needless = not self.is_read_stopped or self._input is Input.ENDED
        if is_needless or self._queued > MAX_QUEUED:
            return
        self.is_read_stopped = False
        if self._backlog:
            asyncio.get_running_loop().call_soon(self._parse_backlog)
        else:
            self._is_transport_paused = False
            self.transport.resume_reading()

    # -- ends ------------------------------------------------------------------------------------

    def abort_response(self, *, hard: bool) -> None:
        """End the connection in the middle of a response."""
        self._input = Input.ENDED
        self._current = None
        self._set_last_deadlines()
        if hard:
            reset(self.transport)
        else:
            self.transport.close()

    def _reject(self, rejection: RequestRejected) -> None:
        """Answer a request that cannot be forwarded, after those before it. It is the last one."""
        if self._input is Input.PARSED:
            self._input = Input.IGNORED
        self._deadline = None
        request, current = self._parser.request, self._current
        if request.is_complete:  # what is rejected stands behind it
            if not request.keep_alive:
                return  # and gets no response (RFC 9112 9.6)
            request = RequestHead()
        elif current is not None and request is current.request:  # its body is malformed
            current.on_client_gone()
            self._current = None
            if current.is_head_sent:
                self.abort_response(hard=False)
            else:
                self._write_last(rejection, request.method)
            return
        request.rejection = rejection
        self._context.on_reject(request, rejection.status)
        if self._current is None and not self._queue:
            self._write_last(rejection, request.method)
        else:
            self._enqueue(request)

    def _write_last(self, rejection: RequestRejected, method: bytes = b"") -> None:
        self.transport.write(self._context.own_response(rejection, method=method))
        self._end_in_order()

    def _end_in_order(self) -> None:
        """End the connection so that the client can read the whole response.

        If it were closed with unread bytes, the kernel would reset it and the response be lost.
        """
        self._input = Input.ENDED
        self._set_last_deadlines()
        if self._is_transport_paused:
            self.is_read_stopped = self._is_transport_paused = False
            self.transport.resume_reading()
        if self.transport.can_write_eof():
            with suppress(OSError):  # reset in the same moment: connection_lost comes next
                self.transport.write_eof()
        else:
            self.transport.close()

    def _set_last_deadlines(self) -> None:
        self._deadline = self._context.coarse_now + LINGER
        self._end_by = self._context.coarse_now + self._limits.silence_timeout

    def check_timeouts(self, now: float) -> None:
        """End what takes too long."""
        if self.is_read_stopped and has_peer_closed(self.transport):
            self.transport.abort()
            return
        if self._current is not None:
            self._current.check_timeouts(now)
        if self._deadline is None or now < self._deadline:
            return
        if self._input is Input.ENDED:
            if not self.transport.get_write_buffer_size() or now > self._end_by:
                self.transport.abort()  # the kernel still delivers what it has
        elif self._parser.is_in_head and self._is_transport_paused:
            self._deadline = now + self._limits.head_timeout  # its rest waits for us to read it
        elif self._parser.is_in_head:
            self._reject(RequestRejected(408, "the request head was not complete in time"))
        elif self._current is None:
            self._end_in_order()

    def shut_down(self) -> None:
        """End the connection now if it is idle, else after the current response."""
        if self._current is None and self._input is not Input.ENDED:
            self.transport.close()
