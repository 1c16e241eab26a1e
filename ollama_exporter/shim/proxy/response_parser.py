# SPDX-License-Identifier: Apache-2.0
"""The server's answer as llhttp reads it, and its head as the client gets it."""

from typing import Final

import httptools

from ollama_exporter.shim.proxy.headers import HOP, RequestHead, nominated, without

STATUSES: Final = range(100, 600)
INFORMATIONAL: Final = range(100, 200)
SWITCHING: Final = 101
NO_BODY: Final = frozenset({204, 304})
CHUNKED: Final = b"Transfer-Encoding: chunked"


class ResponseParser:
    """One answer after another; the parser is kept while the server's connections are."""

    head_sent = False  # the client has got the head
    _parser: httptools.HttpResponseParser | None = None
    _request: RequestHead

    def __init__(self) -> None:
        self._lines: list[bytes] = []  # fields that are passed on
        self._noted: dict[bytes, bytes] = {}  # those that matter here, names in lower case
        self._parts: list[bytes] = []  # of the body, decoded and not yet written
        self.on_body = self._parts.append  # called for each piece: no frame of ours in between
        self._expect()

    def _expect(self) -> None:
        """Begin to wait for an answer."""
        self._status = self._head_size = 0
        self._told_size = 0  # of informational answers
        self._reason = b""
        self._has_head = self.head_sent = self._ended = False
        self._chunked = self._until_close = self._keep_upstream = False
        self._ended_clean = self._heard = False
        self._length = 0
        if self._lines:
            self._lines = []
        if self._noted:
            self._noted = {}
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)

    # -- callbacks of the parser: what follows the answer is nobody's ----------------------------

    def on_message_begin(self) -> None:
        """Notice a second answer: this one's connection is not to be trusted."""
        if self._has_head:
            self._ended_clean = False

    def on_status(self, reason: bytes) -> None:
        """Keep the reason phrase."""
        if not self._has_head:
            self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field; those behind the body are dropped."""
        if self._has_head:
            return
        lower = name.lower()
        if lower in HOP:
            value = self._noted[lower] + b"," + value if lower in self._noted else value
            self._noted[lower] = value
            return
        if lower.startswith(b"content-"):
            self._noted[lower] = value
        self._lines.append(name + b": " + value)

    def on_headers_complete(self) -> None:
        """Decide how the body is framed for the client."""
        if self._has_head:
            return
        assert self._parser is not None  # noqa: S101 - it calls
        status = self._status = self._parser.get_status_code()
        if status in INFORMATIONAL:  # the answer is still to come
            return
        noted, request = self._noted, self._request
        coding = noted.get(b"transfer-encoding")
        if status not in STATUSES or (coding is not None and coding.lower() != b"chunked"):
            raise ValueError(status, coding)  # nobody asked for another coding
        self._has_head = True
        nothing = request.method == b"HEAD" or status in NO_BODY
        if not (nothing or (b"content-length" in noted and coding is None)):
            self._until_close = coding is None
            self._chunked = request.http11
            if not request.http11:
                request.keep_alive = False
        if nothing:
            self._end()

    def on_message_complete(self) -> None:
        """Take the end of the answer, or of an informational one."""
        if not self._has_head:
            self._inform()
        elif not self._ended:
            self._end()

    def _end(self) -> None:
        assert self._parser is not None  # noqa: S101 - it calls
        self._ended = self._ended_clean = True
        self._length = len(self._parts)  # what comes behind it in this read is not its body
        # Only right in here: right behind it llhttp has forgotten the framing.
        self._keep_upstream = self._parser.should_keep_alive() or self._has_no_body()

    def _has_no_body(self) -> bool:
        """Tell what llhttp does not know: an answer that needs no end of the connection."""
        if self._request.method != b"HEAD" or b"content-length" in self._noted:
            return False
        assert self._parser is not None  # noqa: S101 - it calls
        close = b"close" in self._noted.get(b"connection", b"").lower()
        return self._parser.get_http_version() == "1.1" and not close

    def _inform(self) -> None:
        if self._request.http11 and self._status != SWITCHING:  # nobody asked for an upgrade
            self._informed(self._head_of(self._lines))
        self._lines, self._noted, self._reason = [], {}, b""
        self._told_size += self._head_size
        self._head_size = 0

    def _head(self) -> bytes:
        """Return the head for the client; what it says of the connection is then settled."""
        request, lines, noted = self._request, self._lines, self._noted
        if b"connection" in noted and (names := nominated(noted[b"connection"])):
            lines = without(lines, names)
        if self._chunked:
            if b"content-length" in noted:  # beside a transfer coding: it means nothing
                lines = without(lines, frozenset({b"content-length"}))
            lines = [*lines, CHUNKED]
        request.keep_alive = request.keep_alive and request.complete
        if not request.keep_alive:
            lines = [*lines, b"Connection: close"]
        elif not request.http11:
            lines = [*lines, b"Connection: keep-alive"]
        return self._head_of(lines)

    def _head_of(self, lines: list[bytes]) -> bytes:
        first = b"HTTP/1.1 %d %b" % (self._status, self._reason)
        return b"\r\n".join([first, *lines, b"\r\n"])

    @property
    def _framed(self) -> bool:
        """Tell whether a client notices that the body has broken off."""
        return self._chunked or b"content-length" in self._noted

    def _informed(self, head: bytes) -> None:
        """Take the head of an informational answer."""
        raise NotImplementedError
