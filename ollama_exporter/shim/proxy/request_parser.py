# SPDX-License-Identifier: Apache-2.0
"""Parses a client's requests with llhttp, and adds the limits and rejections that llhttp lacks."""

from typing import Final, Protocol

import httptools

from ollama_exporter.shim.proxy.headers import CHUNKED, RequestHead, RequestRejected
from ollama_exporter.shim.proxy.limits import Limits

VERSIONS: Final = frozenset({"1.0", "1.1"})
REQUEST_SIZE: Final = 500  # bytes of memory that a queued request costs besides its own
MAX_KNOWN: Final = 1024  # bytes of a request that is remembered
NO_HEAD: Final = RequestHead()
MALFORMED: Final = "the request is not valid HTTP/1.1"
HEAD_TOO_LONG: Final = "the request head is too long"


class RequestHandler(Protocol):
    """What a RequestParser calls."""

    def on_head_start(self) -> None:
        """Handle the first byte of a head."""

    def on_request_start(self, request: RequestHead) -> None:
        """Handle a complete head. May raise RequestRejected."""

    def on_request_body(self, request: RequestHead, data: bytes) -> None:
        """Handle a piece of a body."""

    def on_request_end(self, request: RequestHead) -> None:
        """Handle the end of a request."""


class RequestParser:
    """Parses the requests of one connection, one after another."""

    def __init__(self, limits: Limits, handler: RequestHandler) -> None:
        # Per connection
        self._limits, self._handler = limits, handler
        self._llhttp = httptools.HttpRequestParser(self)
        self._is_between = True  # no request has begun, or the last one has ended
        # The last read that was one whole request without a body, and its head. Clients that poll
        # send the same bytes again and again.
        self._known_read = b""
        self._known_head = NO_HEAD
        # Per request
        self.request = RequestHead()  # the one being parsed, or parsed last
        self.is_in_head = False
        self._head_size = 0  # bytes of its fields so far
        self._fields = 0
        self._has_hidden_body = False  # llhttp saw an upgrade, and takes the head for all of it
        self._is_replaying_head = False  # llhttp parses a head that we made
        # Per read
        self._unread_size = 0  # bytes since llhttp last reported something
        self._has_progress = False  # llhttp reported something in this read
        self._begun = 0  # requests that began in it
        self._bare_head: RequestHead | None = None  # of the last of them, if it has no body

    def feed(self, data: bytes) -> None:
        """Parse one read. Raises RequestRejected: nothing behind it can be understood."""
        was_between = self._is_between
        if was_between and data == self._known_read:
            self._repeat()
            return
        self._begun, self._has_progress, self._bare_head = 0, False, None
        while True:
            try:
                self._llhttp.feed_data(data)
                break
            except httptools.HttpParserCallbackError as err:
                raise (err.__context__ or err) from None
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                was_between = False  # not to be remembered
                self._ignore_upgrade()
            except httptools.HttpParserError:
                raise RequestRejected(400, MALFORMED) from None
        if was_between and self._is_between and self._begun == 1:
            self._remember(data)
        if self._has_progress or not (self.is_in_head or self.request.is_chunked):
            return
        # Half a field, a trailer or a chunk extension: llhttp collects these without a bound.
        self._unread_size += len(data)
        if self._unread_size > self._limits.max_raw_head_bytes:
            raise RequestRejected(431, HEAD_TOO_LONG)

    def _remember(self, data: bytes) -> None:
        """Remember a read that was one request: the same bytes are the same request again.

        llhttp stands between two requests before and after it, so it need not see the bytes again.
        Whether the request may pass is decided each time.
        """
        head = self._bare_head
        if head is None or len(data) > MAX_KNOWN:
            return
        if head.keep_alive and head.is_http11:
            self._known_read, self._known_head = data, head

    def _repeat(self) -> None:
        """Hand the known request on once more."""
        request = self.request = self._known_head.again()
        self._unread_size = 0
        self._handler.on_request_start(request)
        request.is_complete = True
        self._handler.on_request_end(request)

    def _ignore_upgrade(self) -> None:
        """Parse on behind the head of a request that offers another protocol.

        RFC 9110 7.8 lets a server ignore the offer, and Java's clients make it with each request.
        llhttp accepts the offer and does not parse the body. A new parser is fed a head with the
        same framing, and then the body.
        """
        self._llhttp = httptools.HttpRequestParser(self)
        if not self._has_hidden_body:
            return
        self._has_hidden_body = False
        request = self.request
        length = request.noted.get(b"content-length", b"0")
        framing = CHUNKED if request.is_chunked else b"Content-Length: " + length
        close = b"" if request.keep_alive else b"Connection: close\r\n"
        self._is_replaying_head = True
        self._llhttp.feed_data(b"POST / HTTP/1.1\r\nHost: -\r\n%b%b\r\n\r\n" % (close, framing))
        self._is_replaying_head = False

    # -- llhttp's callbacks ----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Start a request."""
        if self._is_replaying_head:
            return
        self.request = RequestHead()
        self._head_size = self._unread_size = self._fields = 0
        self.is_in_head = self._has_progress = True
        self._is_between = False
        self._begun += 1
        self._handler.on_head_start()

    def on_url(self, url: bytes) -> None:
        """Collect a piece of the target."""
        if self._is_replaying_head:
            return
        self.request.target += url
        if len(self.request.target) > self._limits.max_url_bytes:
            raise RequestRejected(414, "the URL is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field. Trailers are dropped."""
        if not self.is_in_head:
            return
        self._head_size += len(name) + len(value)
        self._fields += 1
        if self._fields > self._limits.max_head_fields:
            raise RequestRejected(431, "the request head has too many fields")
        if self._head_size > self._limits.max_head_bytes:
            raise RequestRejected(431, HEAD_TOO_LONG)
        self.request.add_field(name, value)

    def on_headers_complete(self) -> None:
        """Validate the head and hand it on."""
        if self._is_replaying_head:
            return
        self.is_in_head, self._has_progress = False, True
        request, llhttp = self.request, self._llhttp
        request.method = llhttp.get_method()
        version = llhttp.get_http_version()
        if version not in VERSIONS:
            raise RequestRejected(505, "only HTTP/1.0 and HTTP/1.1 are supported")
        request.is_http11 = version == "1.1"
        request.keep_alive = llhttp.should_keep_alive()
        request.size = REQUEST_SIZE + len(request.target) + self._head_size
        request.validate()
        self._has_hidden_body = llhttp.should_upgrade() and (
            request.is_chunked or request.noted.get(b"content-length", b"0").strip(b"0") != b""
        )
        if not (request.is_chunked or b"content-length" in request.noted):
            self._bare_head = request.again()  # now, because the handler may change it
        self._handler.on_request_start(request)

    def on_body(self, data: bytes) -> None:
        """Hand a piece of the body on."""
        self._has_progress, self._unread_size = True, 0
        self._handler.on_request_body(self.request, data)

    def on_message_complete(self) -> None:
        """Hand the end of the request on."""
        self._has_progress = True
        if not self._has_hidden_body:
            self._is_between = True
            self.request.is_complete = True
            self._handler.on_request_end(self.request)
