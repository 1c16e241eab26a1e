# SPDX-License-Identifier: Apache-2.0
"""A client's requests as llhttp reads them, with the bounds and refusals that it lacks."""

from typing import Final

import httptools

from ollama_exporter.shim.proxy.headers import RequestHead, RequestRejected
from ollama_exporter.shim.proxy.limits import Limits

VERSIONS: Final = frozenset({"1.0", "1.1"})
REQUEST_SIZE: Final = 500  # bytes of memory that a request costs besides what it says
BROKEN: Final = "the request is not HTTP/1.1"


class RequestParser:
    """Parses what it is fed. What a subclass overrides is called as requests come."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._request = RequestHead()  # the one that is parsed, or was last
        self._in_head = False
        self._head_size = 0  # of the fields that are parsed
        self._fields = 0
        self._raw_size = 0  # of the reads since something was understood
        self._understood = False  # something was, in this read
        self._muted = False  # a head of our own is parsed
        self._skipped = False  # llhttp has taken the end of the head for that of the request

    def _began(self) -> None:
        """Take that a head begins."""
        raise NotImplementedError

    def _headed(self, request: RequestHead) -> None:
        """Take a head. May raise Refusal."""
        raise NotImplementedError

    def _piece(self, request: RequestHead, data: bytes) -> None:
        """Take a piece of a body."""
        raise NotImplementedError

    def _completed(self, request: RequestHead) -> None:
        """Take the end of a request."""
        raise NotImplementedError

    def _parse(self, data: bytes) -> None:
        """Parse one read. Raises Refusal: nothing that follows can be understood."""
        self._understood = False
        while True:
            try:
                self._parser.feed_data(data)
                break
            except httptools.HttpParserCallbackError as err:
                raise (err.__context__ or err) from None
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._ignore_upgrade()
            except httptools.HttpParserError:
                raise RequestRejected(400, BROKEN) from None
        if self._understood or not (self._in_head or self._request.chunked):
            return
        # Half a field, a trailer or the extension of a chunk: llhttp collects it without a bound.
        self._raw_size += len(data)
        if self._raw_size > self._limits.raw_head_bytes:
            raise RequestRejected(431, "the head is too long")

    def _ignore_upgrade(self) -> None:
        """Go on behind the head of a request that offers another protocol.

        RFC 9110 7.8 lets a server ignore the offer, and Java's clients make it with each request.
        llhttp takes it, and leaves the body unparsed. A new parser gets a head of the same framing.
        """
        self._parser = httptools.HttpRequestParser(self)
        if not self._skipped:
            return
        self._skipped = False
        request = self._request
        length = request.noted.get(b"content-length", b"0")
        framing = b"Transfer-Encoding: chunked" if request.chunked else b"Content-Length: " + length
        close = b"" if request.keep_alive else b"Connection: close\r\n"
        self._muted = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\nHost: -\r\n%b%b\r\n\r\n" % (close, framing))
        self._muted = False

    # -- callbacks of the parser -----------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self._muted:
            return
        self._request = RequestHead()
        self._head_size = self._raw_size = self._fields = 0
        self._in_head = self._understood = True
        self._began()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        if self._muted:
            return
        self._request.target += url
        if len(self._request.target) > self._limits.url_bytes:
            raise RequestRejected(414, "the URL is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field; those behind the body are dropped."""
        if not self._in_head:
            return
        self._head_size += len(name) + len(value)
        self._fields += 1
        if self._fields > self._limits.head_fields:
            raise RequestRejected(431, "the head has too many fields")
        if self._head_size > self._limits.head_bytes:
            raise RequestRejected(431, "the head is too long")
        self._request.field(name, value)

    def on_headers_complete(self) -> None:
        """Take a head."""
        if self._muted:
            return
        self._in_head, self._understood = False, True
        request, parser = self._request, self._parser
        request.method = parser.get_method()
        version = parser.get_http_version()
        if version not in VERSIONS:
            raise RequestRejected(505, "HTTP/1.0 and 1.1 alone are spoken here")
        request.http11 = version == "1.1"
        request.keep_alive = parser.should_keep_alive()
        request.size = REQUEST_SIZE + len(request.target) + self._head_size
        request.check()
        self._skipped = parser.should_upgrade() and (
            request.chunked or request.noted.get(b"content-length", b"0").strip(b"0") != b""
        )
        self._headed(request)

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        self._understood, self._raw_size = True, 0
        self._piece(self._request, data)

    def on_message_complete(self) -> None:
        """Take the end of a request."""
        self._understood = True
        if not self._skipped:
            self._request.complete = True
            self._completed(self._request)
