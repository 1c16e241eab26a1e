# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 messages as bytes, read strictly: what two readers could take differently is refused.

The oracle of the proxy's tests, so it shares no code with what it judges (RFC 9112).
"""

import re
from dataclasses import dataclass, field
from typing import Final

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
REQUEST_LINE: Final = re.compile(rb"(%b) ([!-~]+) HTTP/1\.[01]" % TOKEN)
STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9]) ([\t -~\x80-\xff]*)")
VALUE: Final = rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?"
FIELD: Final = re.compile(rb"(%b):[ \t]*(%b)[ \t]*" % (TOKEN, VALUE))
CHUNK_SIZE: Final = re.compile(rb"[0-9a-fA-F]{1,8}")
CRLF: Final = b"\r\n"
NO_BODY: Final = frozenset({204, 304})


class Malformed(AssertionError):  # noqa: N818 - a failing test, not an error to handle
    """Bytes that are no unambiguous message."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer."""

    first: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes
    raw: bytes
    chunks: list[bytes] | None = None  # None: not chunked
    before: list["Message"] = field(default_factory=list)  # informational answers

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.first.split(b" ")[1])

    @property
    def target(self) -> bytes:
        """Of a request."""
        return self.first.split(b" ")[1]

    def all(self, name: bytes) -> list[bytes]:
        """Return the values of a field, by its name in lower case."""
        return [value for key, value in self.fields if key.lower() == name]


def read_request(data: bytes) -> Message | None:
    """Read the first request; None: it is not complete. Raises Malformed."""
    head = _head(data, REQUEST_LINE)
    if head is None:
        return None
    first, fields, at = head
    if len(_all(fields, b"host")) != 1:
        raise Malformed(f"not one Host: {data!r}")
    return _message(data, first, fields, at, until_close=None)


def read_answer(data: bytes, *, method: bytes = b"GET", closed: bool = False) -> Message | None:
    """Read the first answer, informational ones before it; None: it is not complete.

    `closed`: nothing follows, so that a body without framing is complete.
    """
    before: list[Message] = []
    start = data
    while True:
        head = _head(data, STATUS_LINE)
        if head is None:
            return None
        first, fields, at = head
        status = int(first.split(b" ")[1])
        if status >= 200:
            break
        before.append(Message(first, fields, b"", data[:at]))
        data = data[at:]
    if method == b"HEAD" or status in NO_BODY:
        found: Message | None = Message(first, fields, b"", data[:at])
    else:
        found = _message(data, first, fields, at, until_close=closed)
    if found is None:
        return None
    raw = start[: len(start) - len(data) + len(found.raw)]
    return Message(found.first, found.fields, found.body, raw, found.chunks, before)


def _head(
    data: bytes, first_line: re.Pattern[bytes]
) -> tuple[bytes, list[tuple[bytes, bytes]], int] | None:
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = data[:end].split(CRLF)
    if first_line.fullmatch(first) is None:
        raise Malformed(f"first line {first!r}")
    fields = []
    for line in lines:
        found = FIELD.fullmatch(line)
        if found is None:
            raise Malformed(f"field {line!r}")
        fields.append((found[1], found[2]))
    return first, fields, end + 4


def _all(fields: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in fields if key.lower() == name]


def _message(
    data: bytes,
    first: bytes,
    fields: list[tuple[bytes, bytes]],
    at: int,
    *,
    until_close: bool | None,
) -> Message | None:
    """Read the body; `until_close`: whether it is, None: it cannot be (a request)."""
    codings, lengths = _all(fields, b"transfer-encoding"), _all(fields, b"content-length")
    if codings:
        if codings != [b"chunked"] or lengths:
            raise Malformed(f"framing {codings} {lengths}")
        chunked = _chunks(data, at)
        if chunked is None:
            return None
        chunks, end = chunked
        return Message(first, fields, b"".join(chunks), data[:end], chunks)
    if lengths:
        if len(lengths) != 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
            raise Malformed(f"lengths {lengths}")
        end = at + int(lengths[0])
        return None if len(data) < end else Message(first, fields, data[at:end], data[:end])
    if until_close is None:
        return Message(first, fields, b"", data[:at])
    return Message(first, fields, data[at:], data) if until_close else None


def _chunks(data: bytes, at: int) -> tuple[list[bytes], int] | None:
    """Read chunks without extensions and trailers: nobody of ours sends any."""
    chunks: list[bytes] = []
    while True:
        end = data.find(CRLF, at)
        if end < 0:
            return None
        if CHUNK_SIZE.fullmatch(data[at:end]) is None:
            raise Malformed(f"chunk size {data[at:end]!r}")
        size, at = int(data[at:end], 16), end + 2
        if len(data) < at + size + 2:
            return None
        if data[at + size : at + size + 2] != CRLF:
            raise Malformed(f"chunk's end {data[at + size : at + size + 2]!r}")
        if size == 0:
            return chunks, at + 2
        chunks.append(data[at : at + size])
        at += size + 2
