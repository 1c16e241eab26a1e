# SPDX-License-Identifier: Apache-2.0
"""A client's connection: parses its requests, relays them one after another, bounds what it may do.

llhttp refuses what smuggling needs; what it leaves open is refused in heads.py. Requests behind the
one in hand (pipelining) wait here, in order, within a bound.
"""

import asyncio
from collections import deque
from typing import Final, cast

import httptools

from ollama_exporter.shim.proxy.heads import Refusal, Request, own_answer
from ollama_exporter.shim.proxy.limits import HIGH_WATER, MOST_QUEUED
from ollama_exporter.shim.proxy.relay import Relay
from ollama_exporter.shim.proxy.site import Site
from ollama_exporter.shim.proxy.sockets import keep_watch, reset

LINGER: Final = 2.0  # seconds that a client has to read a last answer before it is cut off
VERSIONS: Final = frozenset({"1.0", "1.1"})


class Downstream(asyncio.Protocol):
    """One connection."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()  # the one that is parsed
        self._current: Request | None = None  # the one that is relayed
        self._relay = Relay(self, site)
        self._queue: deque[Request] = deque()
        self._queued = 0
        self._head_size = 0  # of the fields that are parsed
        self._raw_size = 0  # of the reads that a head spans
        self._fields = 0
        self._in_head = False
        self._deaf = False  # nothing more is taken from this client
        self._closing = False  # its last answer was written
        self.paused = self.stopped = False
        self.peer = b""

    # -- the connection --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self.transport = transport
        address = transport.get_extra_info("peername")
        self.peer = str(address[0]).encode() if address else b"unknown"
        transport.set_write_buffer_limits(HIGH_WATER)
        keep_watch(transport)
        self._deadline: float | None = self._site.coarse + self._site.limits.idle_time
        if not self._site.opened(self):
            self._say_last(Refusal(503, "too many connections"))

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
        self._relay.pause_answer()

    def resume_writing(self) -> None:
        """Let it go on."""
        self.paused = False
        self._relay.resume_answer()

    def data_received(self, data: bytes) -> None:
        """Parse; one write to the server for each read."""
        if self._deaf:
            return
        before = self._in_head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as err:
            self._refuse(err.__context__)
        except httptools.HttpParserUpgrade as upgrade:
            # Upgrade is ignored, as RFC 9110 7.8 allows: Java's clients offer h2c each time.
            self._parser = httptools.HttpRequestParser(self)
            rest = data[upgrade.args[0] :]
            if rest:
                self.data_received(rest)
                return
        except httptools.HttpParserError:
            self._refuse(Refusal(400, "the request is not HTTP/1.1"))
        if self._in_head and not self._deaf:
            self._raw_size += len(data) if before else 0
            if self._raw_size > self._site.limits.head_bytes:
                self._refuse(Refusal(431, "the head is too long"))
        if self._current is not None:
            self._relay.flush()

    # -- callbacks of the parser -----------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._request = Request()
        self._head_size = self._raw_size = self._fields = 0
        self._in_head = True
        self._deadline = self._site.coarse + self._site.limits.head_time

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._request.target += url
        if len(self._request.target) > self._site.limits.url_bytes:
            raise Refusal(414, "the URL is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field; those behind the body are dropped."""
        if not self._in_head:
            return
        self._head_size += len(name) + len(value)
        self._fields += 1
        limits = self._site.limits
        if self._fields > limits.head_fields:
            raise Refusal(431, "the head has too many fields")
        if self._head_size > limits.head_bytes:
            raise Refusal(431, "the head is too long")
        self._request.field(name, value)

    def on_headers_complete(self) -> None:
        """Relay it, or put it behind the one in hand."""
        self._in_head, self._deadline = False, None
        request, parser = self._request, self._parser
        request.method = parser.get_method()
        version = parser.get_http_version()
        if version not in VERSIONS:
            raise Refusal(505, "HTTP/1.0 and 1.1 alone are spoken here")
        request.http11 = version == "1.1"
        request.keep_alive = parser.should_keep_alive()
        request.check()
        self._site.admit(request)
        if self._current is None and not self._queue:
            self._begin(request)
        else:
            self._queue.append(request)
            self._count(len(request.target) + self._head_size)

    def on_body(self, data: bytes) -> None:
        """Pass a piece of the body on, or keep it until its turn."""
        if self._request is self._current:
            self._relay.body(data)
        elif not self._closing:
            self._request.body.append(data)
            self._count(len(data))

    def on_message_complete(self) -> None:
        """Take the end of a request."""
        self._request.complete = True
        if self._request is self._current:
            self._relay.complete()

    # -- requests in order -----------------------------------------------------------------------

    def _begin(self, request: Request) -> None:
        self._current = request
        if self._site.ending:
            request.keep_alive = False
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
            self._deadline = self._site.coarse + self._site.limits.idle_time
            if self._site.ending:
                self._end_in_order()
            return
        # Not from in here: a thousand pipelined requests would be a stack of that depth.
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        if self._current is not None or self._closing or not self._queue:
            return
        request = self._queue.popleft()
        self._queued -= sum(map(len, request.body)) + len(request.target)
        if request.refusal is not None:
            self._say_last(request.refusal)
            return
        self._begin(request)
        relay = self._relay
        body, request.body = request.body, []
        for data in body:
            relay.body(data)
        if request.complete:
            relay.complete()
        relay.flush()
        if self._queued <= MOST_QUEUED:
            self.read_on()

    # -- what the relay asks for -----------------------------------------------------------------

    def stop_reading(self) -> None:
        """Take no more."""
        if not self.stopped and not self._closing:
            self.stopped = True
            self.transport.pause_reading()

    def read_on(self) -> None:
        """Take more."""
        if self.stopped and not self._closing:
            self.stopped = False
            self.transport.resume_reading()

    def cut(self, *, hard: bool) -> None:
        """End in the middle of an answer."""
        self._deaf = self._closing = True
        self._current = None
        if hard:
            reset(self.transport)
        else:
            self.transport.close()

    # -- ends ------------------------------------------------------------------------------------

    def _refuse(self, why: BaseException | None) -> None:
        """Answer a request that cannot be relayed, after those before it. Nothing follows it."""
        refusal = why if isinstance(why, Refusal) else Refusal(400, "the request is not HTTP/1.1")
        self._deaf, self._deadline = True, None
        if self._request is self._current:  # its body is broken, and its head has gone on
            self._relay.client_left()
            if self._relay.head_sent:
                self.cut(hard=False)
            else:
                self._say_last(refusal)
            return
        self._request.refusal = refusal
        self._site.refused(self._request, refusal.status)
        if self._current is None and not self._queue:
            self._say_last(refusal)
        else:
            self._queue.append(self._request)

    def _say_last(self, refusal: Refusal) -> None:
        self.transport.write(own_answer(refusal.status, refusal.text))
        self._end_in_order()

    def _end_in_order(self) -> None:
        """End the connection so that the client can read all of the answer.

        Closed with unread bytes, the kernel would reset it and the answer be lost.
        """
        self._deaf = self._closing = True
        self._deadline = self._site.coarse + LINGER
        self._end_by = self._site.coarse + self._site.limits.silence
        if self.stopped:
            self.stopped = False
            self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def watch(self, now: float) -> None:
        """End what takes too long; called now and then."""
        if self._current is not None:
            self._relay.watch(now)
        if self._deadline is None or now < self._deadline:
            return
        if self._closing:
            if not self.transport.get_write_buffer_size() or now > self._end_by:
                self.transport.abort()  # the kernel still delivers what it has
        elif self._in_head:
            self._refuse(Refusal(408, "the head did not come in time"))
        elif self._current is None:
            self.transport.close()

    def finish(self) -> None:
        """End when the answer in hand is complete."""
        if self._current is None and not self._closing:
            self.transport.close()
