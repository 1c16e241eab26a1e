# SPDX-License-Identifier: Apache-2.0
"""Parses the server's responses with llhttp, and decides how the client gets the body."""

from collections.abc import Iterable
from typing import Final

import httptools
from msgspec import Struct

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.shim.proxy.headers import HOP, RequestHead, response_head

STATUSES: Final = range(100, 600)
INFORMATIONAL: Final = range(100, 200)
SWITCHING: Final = 101
NO_BODY: Final = frozenset({204, 304})
END_OF_HEAD: Final = b"\r\n\r\n"
MAX_KNOWN: Final = 1024  # bytes of a head that is remembered
MOST_KNOWN: Final = 16  # heads
MAX_HEAD: Final = 64 << 10  # bytes of a response head, or of a trailer
PROTOCOL: Final = b"HTTP/1."  # llhttp accepts others as well, RTSP among them
PLAIN: Final = (b"", b"identity")
MALFORMED: Final = (httptools.HttpParserError, httptools.HttpParserUpgrade)


class KnownHead(Struct):
    """The head of a response with a length, as it was parsed."""

    status: int
    reason: bytes
    fields: list[bytes]  # as the next: replaced by others, but never changed
    noted: dict[bytes, bytes]
    length: int  # of the body
    for_client: bytes = b""  # as an HTTP/1.1 client gets it on a kept connection; empty: not made


# A server writes the same head, date included, for a second: a busy one need not be parsed again.
KnownHeads = BoundedDict[bytes, KnownHead]


class ResponseParser:
    """Parses the responses to one client's requests, one after another.

    What follows a response in the stream belongs to no request: it is never passed on, and its
    connection is not used again.
    """

    __slots__ = (
        *("_interim_size", "_known", "_known_head", "_length", "_llhttp", "_reason"),
        *("can_reuse_upstream", "feed_data", "fields", "has_ended", "has_head", "has_started"),
        *("head_size", "interim_heads", "is_chunked", "is_clean", "is_until_close", "noted"),
        *("on_body", "parts", "request", "status"),
    )

    def __init__(self, known: KnownHeads) -> None:
        """`known`: heads that were parsed, of all clients."""
        # Per connection
        self._known = known
        self._llhttp: httptools.HttpResponseParser | None = None
        self.parts: list[bytes] = []  # pieces of the body that were parsed and not yet taken
        self.on_body = self.parts.append  # llhttp calls it for each piece, without a frame of ours

    def expect(self, request: RequestHead) -> None:
        """Start to wait for the response to a request."""
        # Per response
        self.parts.clear()
        self.request = request
        self._known_head: KnownHead | None = None
        self.status = 0
        self._reason = b""
        self.fields: list[bytes] = []  # those that are passed on
        self.noted: dict[bytes, bytes] = {}  # those that matter here, names in lower case
        self.interim_heads: list[bytes] = []  # 1xx heads for the client, not yet taken
        self.head_size = 0  # bytes read until the head was complete
        self._interim_size = 0  # the same of informational heads
        self.has_started = False  # a byte of it has come
        self.has_head = False
        self.has_ended = False
        self.is_clean = False  # it ended, and nothing came behind it
        self._length = 0  # of `parts`, when it ended
        self.is_chunked = False  # for the client
        self.is_until_close = False  # the end of the connection is the end of the body
        self.can_reuse_upstream = False
        if self._llhttp is None:
            self._llhttp = httptools.HttpResponseParser(self)
            self.feed_data = self._llhttp.feed_data

    def feed_start(self, data: bytes) -> None:
        """Parse bytes before the end of the head. Raises what is in MALFORMED."""
        self.head_size += len(data)
        if self.has_started:
            self.feed_data(data)
            return
        self.has_started = True
        end = data.find(END_OF_HEAD, 0, MAX_KNOWN) + len(END_OF_HEAD)
        known = self._known.get(data[:end])
        if known is not None and len(data) - end == known.length and self.request.method != b"HEAD":
            self._repeat(known, data[end:])
            return
        if not data.startswith(PROTOCOL[: len(data)]):
            data = b"\0"  # llhttp rejects it
        self.feed_data(data)
        is_whole = self.has_ended and self.is_clean and self.can_reuse_upstream
        if is_whole and end >= len(END_OF_HEAD) and b"content-length" in self.noted:
            self._remember(data[:end], len(data) - end)

    def _remember(self, head: bytes, length: int) -> None:
        """Remember the head of a response that was one read: the same bytes mean the same again.

        llhttp stands before a response, and again behind it, so it need not see the bytes again.
        """
        is_framed = self.noted.get(b"content-length") == b"%d" % length
        if is_framed and b"transfer-encoding" not in self.noted and not self._interim_size:
            self._known[head] = KnownHead(
                self.status, self._reason, self.fields, self.noted, length
            )

    def _repeat(self, known: KnownHead, body: bytes) -> None:
        """Set what a whole response means whose head is known."""
        self._known_head = known
        self.status, self._reason = known.status, known.reason
        self.fields, self.noted = known.fields, known.noted
        if body:
            self.parts.append(body)
        self._length = len(self.parts)
        self.has_head = self.has_ended = self.is_clean = self.can_reuse_upstream = True

    def drop_parser(self) -> None:
        """Drop llhttp's state: it cannot parse the next response."""
        if self._llhttp is not None:
            self._llhttp = None
            del self.feed_data  # it belongs to the parser: together they are a cycle

    def take_body(self) -> bytes:
        """Return what has come of the body since the last call."""
        parts = self.parts
        if self.has_ended and len(parts) > self._length:  # a second response, or an unwanted body
            del parts[self._length :]
            self.is_clean = False
        if not parts:
            return b""
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        return body

    def head_for_client(self, *added: bytes) -> bytes:
        """Return the head for the client, with lines added. It settles the connection's fate.

        What only heads are made of is dropped: the body may take an hour.
        """
        request, known = self.request, self._known_head
        if added or not (request.keep_alive and request.is_complete and request.is_http11):
            known = None
        if known is not None and known.for_client:
            return known.for_client
        head = response_head(
            request,
            self._status_line(),
            self.fields,
            self.noted,
            is_chunked=self.is_chunked,
            added=added,
        )
        if known is not None:
            known.for_client = head
        if not self.has_ended:
            self.fields = []
            if request.is_complete:
                request.drop_fields()
        return head

    def missing_of(self, fields: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
        """Return the lines of those fields that the response does not have. Names in lower case."""
        present = {line.partition(b":")[0].lower() for line in self.fields}
        return [name + b": " + value for name, value in fields if name not in present]

    @property
    def is_head_too_long(self) -> bool:
        """Whether the unfinished head, with the informational ones before it, is over its bound."""
        return self.head_size + self._interim_size > MAX_HEAD

    @property
    def is_event_stream(self) -> bool:
        """Whether this is a stream of events from which some can be taken out."""
        kind = self.noted.get(b"content-type", b"").partition(b";")[0].strip().lower()
        coding = self.noted.get(b"content-encoding", b"identity").strip().lower()
        return kind == b"text/event-stream" and coding in PLAIN and not self._has_length

    @property
    def _has_length(self) -> bool:
        return b"content-length" in self.noted and not self.is_chunked

    @property
    def is_framed(self) -> bool:
        """Whether a client notices that the body breaks off."""
        return self.is_chunked or b"content-length" in self.noted

    # -- llhttp's callbacks ----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Notice a second response."""
        if self.has_head:
            self.is_clean = False

    def on_status(self, reason: bytes) -> None:
        """Collect a piece of the reason phrase."""
        if not self.has_head:
            self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field. Trailers are dropped."""
        if self.has_head:
            return
        lower = name.lower()
        if lower in HOP:
            value = self.noted[lower] + b"," + value if lower in self.noted else value
            self.noted[lower] = value
            return
        if lower.startswith(b"content-"):
            self.noted[lower] = value
        self.fields.append(name + b": " + value)

    def on_headers_complete(self) -> None:
        """Decide how the body is framed for the client."""
        if self.has_head:
            return
        assert self._llhttp is not None  # noqa: S101 - it calls
        status = self.status = self._llhttp.get_status_code()
        if status in INFORMATIONAL:  # the response is still to come
            return
        noted, request = self.noted, self.request
        coding = noted.get(b"transfer-encoding")
        if status not in STATUSES or (coding is not None and coding.lower() != b"chunked"):
            raise ValueError(status, coding)  # the request asked for no other coding
        self.has_head = True
        has_no_body = request.method == b"HEAD" or status in NO_BODY
        if not (has_no_body or (b"content-length" in noted and coding is None)):
            self.is_until_close = coding is None
            self.is_chunked = request.is_http11
            if not request.is_http11:
                request.keep_alive = False
        if has_no_body:
            self._end()

    def on_message_complete(self) -> None:
        """Handle the end of the response, or of an informational one."""
        if not self.has_head:
            self._end_interim()
        elif not self.has_ended:
            self._end()

    def _end(self) -> None:
        assert self._llhttp is not None  # noqa: S101 - it calls
        self.has_ended = self.is_clean = True
        self._length = len(self.parts)  # what comes behind it in this read is not its body
        # Only inside this callback: right behind it llhttp has forgotten the framing.
        keep_alive = self._llhttp.should_keep_alive() or self._is_bodiless_keep_alive()
        self.can_reuse_upstream = keep_alive

    def _is_bodiless_keep_alive(self) -> bool:
        """Return what llhttp does not know: a response to HEAD needs no end of the connection."""
        if self.request.method != b"HEAD" or b"content-length" in self.noted:
            return False
        assert self._llhttp is not None  # noqa: S101 - it calls
        close = b"close" in self.noted.get(b"connection", b"").lower()
        return self._llhttp.get_http_version() == "1.1" and not close

    def _end_interim(self) -> None:
        if self.request.is_http11 and self.status != SWITCHING:  # no upgrade was asked for
            self.interim_heads.append(b"\r\n".join([self._status_line(), *self.fields, b"\r\n"]))
        self.fields, self.noted, self._reason = [], {}, b""
        self._interim_size += self.head_size
        self.head_size = 0

    def _status_line(self) -> bytes:
        return b"HTTP/1.1 %d %b" % (self.status, self._reason)
