# SPDX-License-Identifier: Apache-2.0
"""A client's connection: parses its requests, relays them one after another, bounds what it may do.

llhttp refuses what smuggling needs; what it leaves open is refused in heads.py. Requests behind the
one in hand (pipelining) wait here, in order, within a bound.
"""

import asyncio
import ipaddress
from collections import deque
from contextlib import suppress
from typing import Final, cast

from ollama_exporter.shim.proxy.forwarding import Forwarding
from ollama_exporter.shim.proxy.headers import RequestHead, RequestRejected, own_answer
from ollama_exporter.shim.proxy.interfaces import ProxyContext
from ollama_exporter.shim.proxy.limits import HIGH_WATER, MOST_QUEUED
from ollama_exporter.shim.proxy.request_parser import RequestParser
from ollama_exporter.shim.proxy.rewriting import RewritingForwarding
from ollama_exporter.shim.proxy.socket_options import has_left, keep_watch, reset

SLICE: Final = 16 << 10  # bytes that are parsed before a look at the queue
LINGER: Final = 2.0  # seconds that a client has to read a last answer before it is cut off


class ClientConnection(RequestParser, asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self, site: ProxyContext) -> None:
        super().__init__(site.limits)
        self._site = site
        self._current: RequestHead | None = None  # the one that is relayed
        self._relay = Forwarding(self, site)
        self._amending = False
        self._queue: deque[RequestHead] = deque()
        self._queued = 0  # bytes
        self._deaf = False  # nothing more is taken from this client
        self._closing = False  # its last answer was written
        self._deadline: float | None = None
        self._end_by = 0.0
        self.paused = self.stopped = False
        self.held_back = False  # the transport does not read
        self._backlog = b""  # read, and not yet parsed
        self.peer = b""
        self._on_loopback = False

    # -- the connection --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self.transport = transport
        address = transport.get_extra_info("peername")
        self.peer = str(address[0]).encode() if address else b"unknown"
        here = transport.get_extra_info("sockname")
        self._on_loopback = bool(here) and ipaddress.ip_address(here[0]).is_loopback
        transport.set_write_buffer_limits(HIGH_WATER)
        keep_watch(transport)
        self._deadline = self._site.coarse + self._limits.idle_time
        if not self._site.opened(self):
            self._say_last(RequestRejected(503, "too many connections"))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Give up whatever is under way."""
        self._deaf = self._closing = True
        if self._current is not None:
            self._current = None
            self._relay.client_left()
        self._site.closed(self)

    def eof_received(self) -> bool:
        """Take a half-closed client for one that left, as nginx does."""
        return False

    def pause_writing(self) -> None:
        """Stop the answer."""
        self.paused = True
        self._relay.pace(paused=True)

    def resume_writing(self) -> None:
        """Let it go on."""
        self.paused = False
        self._relay.pace(paused=False)

    def data_received(self, data: bytes) -> None:
        """Parse; one write to the server for each read."""
        if self._backlog:
            self._backlog += data
        elif not self._deaf:
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Parse slice by slice: one read may hold ten thousand requests."""
        try:
            for start in range(0, len(data), SLICE):
                if self._queued > MOST_QUEUED:
                    self._backlog = data[start:]  # until they are answered
                    break
                self._parse(data[start : start + SLICE])
        except RequestRejected as refusal:
            self._refuse(refusal)
        if self._current is not None:
            self._relay.flush()

    def _take_backlog(self) -> None:
        backlog, self._backlog = self._backlog, b""
        if not self._deaf:
            self._take(backlog)
        if not self._backlog and self.held_back and not self.stopped:
            self.held_back = False
            self.transport.resume_reading()

    # -- requests as they are parsed -------------------------------------------------------------

    def _began(self) -> None:
        self._deadline = self._site.coarse + self._limits.head_time

    def _headed(self, request: RequestHead) -> None:
        """Relay it, or put it behind the one in hand."""
        self._deadline = None
        self._site.admit(request, on_loopback=self._on_loopback)
        if self._current is None and not self._queue:
            self._begin(request)
        else:
            self._queue.append(request)
            self._count(request.size)

    def _piece(self, request: RequestHead, data: bytes) -> None:
        """Pass a piece of the body on, or keep it until its turn."""
        if request is self._current:
            self._relay.body(data)
        elif request.refusal is None:
            request.body.append(data)
            request.size += len(data)
            self._count(len(data))

    def _completed(self, request: RequestHead) -> None:
        if request is self._current:
            self._relay.complete()

    # -- requests in order -----------------------------------------------------------------------

    def _begin(self, request: RequestHead) -> None:
        self._current = request
        if self._site.ending:
            request.keep_alive = False
        if (self._site.amend is not None) is not self._amending:
            self._amending = not self._amending
            self._relay = (RewritingForwarding if self._amending else Forwarding)(self, self._site)
        self._relay.begin(request, self._site.exchange(request))

    def _count(self, size: int) -> None:
        self._queued += size
        if self._queued > MOST_QUEUED:
            self.stop_reading()

    def answered(self, *, keep_alive: bool) -> None:
        """Go on with the next request, or end in order."""
        self._current = None
        if self._closing:
            return
        if not keep_alive:
            self._end_in_order()
            return
        if not self._queue:
            if not self._in_head:
                self._deadline = self._site.coarse + self._limits.idle_time
            if self._site.ending:
                self._end_in_order()
            return
        # Not from in here: a thousand pipelined requests would be a stack of that depth.
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        if self._current is not None or self._closing or not self._queue:
            return
        request = self._queue.popleft()
        self._queued -= request.size
        if request.refusal is not None:
            self._say_last(request.refusal, request.method)
            return
        self._begin(request)
        relay = self._relay
        body, request.body = request.body, []
        for data in body:
            relay.body(data)
        if request.complete:
            relay.complete()
        relay.flush()
        if not relay.held:
            self.read_on()

    # -- what the relay asks for -----------------------------------------------------------------

    def stop_reading(self) -> None:
        """Take no more."""
        self.stopped = True
        if not self.held_back and not self._closing:
            self.held_back = True
            self.transport.pause_reading()

    def read_on(self) -> None:
        """Take more."""
        if not self.stopped or self._closing or self._queued > MOST_QUEUED:
            return
        self.stopped = False
        if self._backlog:
            asyncio.get_running_loop().call_soon(self._take_backlog)
        else:
            self.held_back = False
            self.transport.resume_reading()

    def cut(self, *, hard: bool) -> None:
        """End in the middle of an answer."""
        self._deaf = self._closing = True
        self._current = None
        self._bound_the_end()
        if hard:
            reset(self.transport)
        else:
            self.transport.close()

    # -- ends ------------------------------------------------------------------------------------

    def _refuse(self, refusal: RequestRejected) -> None:
        """Answer what cannot be relayed, after the requests before it. Nothing follows it."""
        self._deaf, self._deadline = True, None
        request = self._request
        if request.complete:  # what is refused stands behind it
            if not request.keep_alive:
                return  # and would not be answered anyway (RFC 9112 9.6)
            request = RequestHead()
        elif request is self._current:  # its body is broken, and its head has gone on
            self._relay.client_left()
            self._current = None
            if self._relay.head_sent:
                self.cut(hard=False)
            else:
                self._say_last(refusal, request.method)
            return
        request.refusal = refusal
        self._site.refused(request, refusal.status)
        if self._current is None and not self._queue:
            self._say_last(refusal, request.method)
        else:
            self._queue.append(request)

    def _say_last(self, refusal: RequestRejected, method: bytes = b"") -> None:
        self.transport.write(own_answer(refusal.status, refusal.text, method=method))
        self._end_in_order()

    def _end_in_order(self) -> None:
        """End the connection so that the client can read all of the answer.

        Closed with unread bytes, the kernel would reset it and the answer be lost.
        """
        self._deaf = self._closing = True
        self._bound_the_end()
        if self.held_back:
            self.stopped = self.held_back = False
            self.transport.resume_reading()
        if self.transport.can_write_eof():
            with suppress(OSError):  # reset in the same moment: that is told of next
                self.transport.write_eof()
        else:
            self.transport.close()

    def _bound_the_end(self) -> None:
        self._deadline = self._site.coarse + LINGER
        self._end_by = self._site.coarse + self._limits.silence

    def watch(self, now: float) -> None:
        """End what takes too long; called now and then."""
        if self.stopped and has_left(self.transport):
            self.transport.abort()
            return
        if self._current is not None:
            self._relay.watch(now)
        if self._deadline is None or now < self._deadline:
            return
        if self._closing:
            if not self.transport.get_write_buffer_size() or now > self._end_by:
                self.transport.abort()  # the kernel still delivers what it has
        elif self._in_head:
            self._refuse(RequestRejected(408, "the head did not come in time"))
        elif self._current is None:
            self._end_in_order()

    def finish(self) -> None:
        """End when the answer in hand is complete."""
        if self._current is None and not self._closing:
            self.transport.close()
