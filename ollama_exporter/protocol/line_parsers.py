# SPDX-License-Identifier: Apache-2.0
"""Parses answers line by line: native streams have one record on each.

A line feed is the only end of a record (U+2028 is legal inside a JSON string).
"""

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ollama_exporter.protocol import response_fields
from ollama_exporter.protocol.json_scan import SEPARATORS, objects_in
from ollama_exporter.protocol.json_stream import is_beginning
from ollama_exporter.protocol.response_fields import UNFINISHED, UNREAD, ResponseEnd, ResponseFields
from ollama_exporter.protocol.routes import Body

LONGEST: Final = 8 << 20  # bytes of a record that are kept; `context` lists every token id
DONE: Final = b'"done"'
NOT_DONE: Final = b'"done":false'  # as the server writes it; a router may add blanks
LAST_MEMBER: Final = b'"done":false}\n'
ERROR: Final = b'"error"'
DATA: Final = b"data:"  # before a record, in server-sent events
LAST: Final = b"[DONE]"  # no record
# In the records of an image model: steps so far, not output.
STEPS: Final = b'"completed":'
OUTPUT: Final = frozenset({"response", "thinking", "message", "image"})


class LineParser:
    """Splits an answer into lines; a subclass parses them."""

    __slots__ = ("_last", "_overlong", "_parts", "_size", "content")

    def __init__(self) -> None:
        self.content = False
        self._parts: list[bytes] = []  # of an incomplete line
        self._size = 0
        self._last = b""  # complete lines: those that came last and are not blank
        self._overlong = False  # a line exceeded the limit

    def feed(self, data: bytes) -> None:
        """Parse complete lines and keep the rest."""
        if self._size:
            first = data.find(b"\n") + 1
            self._keep(data[:first] if first else data)
            if not first:
                return
            self._parse_kept()
            data = data[first:]
        cut = data.rfind(b"\n") + 1
        if cut:
            lines = data if cut == len(data) else data[:cut]
            self._parse_lines(lines if cut <= LONGEST else self._without_overlong(lines))
        if cut < len(data):
            self._keep(data[cut:])

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= LONGEST:
            self._parts.append(data)
        else:
            self._overlong = True
            self._parts.clear()

    def _parse_kept(self) -> None:
        """Parse the line that came in pieces."""
        line, self._parts = b"".join(self._parts), []
        self._size = 0
        if line:
            self._parse_lines(line)

    def _without_overlong(self, lines: bytes) -> bytes:
        """Drop the lines that would exceed the limit if they came in pieces."""
        every = lines.split(b"\n")
        short = [line for line in every if len(line) < LONGEST]
        self._overlong |= len(short) < len(every)
        return b"\n".join(short)

    def _parse_lines(self, lines: bytes) -> None:
        raise NotImplementedError

    def _parse_rest(self) -> bytes:
        """Parse a last line without an end, and return it. A stream may end its lines with CR."""
        rest, self._parts = b"".join(self._parts), []
        if rest.count(b"\r") > 1:
            rest = rest.replace(b"\r", b"\n")
        if rest:
            self._parse_lines(rest)
        return rest

    def _last_line(self, prefix: bytes = b"") -> bytes:
        """Return the last line with a prefix; empty without one."""
        lines = self._last.split(b"\n")
        return next(
            (line for line in reversed(lines) if line.strip() and line.startswith(prefix)), b""
        )


class Ndjson(LineParser):
    """Parses native streams: one record a line; the last one has done:true."""

    __slots__ = ("_error", "_final", "_trailing")

    def __init__(self) -> None:
        super().__init__()
        self._final: ResponseFields | None = None
        self._error: ResponseFields | None = None
        self._trailing = False

    def feed(self, data: bytes) -> None:
        """Parse complete lines and keep the rest.

        Nearly every read is one ordinary record as the server writes it. Its last member is its
        first `done`, so there is no other record before it.
        """
        is_one = self.content and not self._size and data.endswith(LAST_MEMBER)
        if (
            is_one
            and self._final is None
            and data.find(DONE) == len(data) - len(LAST_MEMBER)
            and data.find(ERROR) < 0  # `in` takes twice the time
            and len(data) <= LONGEST
        ):
            self._last = data
        else:
            super().feed(data)

    def _parse_lines(self, lines: bytes) -> None:
        ordinary = lines.count(DONE) == lines.count(NOT_DONE) and ERROR not in lines
        if ordinary and self._final is None:
            if not lines.isspace():
                self._last = lines
                if not self.content:
                    self.content = STEPS not in lines or any(map(_has_output, lines.split(b"\n")))
        else:
            self._last = lines
            for line in lines.split(b"\n"):
                if self._final is None and _is_ordinary(line):
                    if not self.content:
                        self.content = STEPS not in line or _has_output(line)
                elif line.strip(SEPARATORS):
                    self._parse_record(line)

    def _parse_record(self, line: bytes) -> None:
        if self._final is not None:
            self._trailing = self._trailing or response_fields.decode_record(line) is not None
            return
        found = response_fields.decode_record(line)
        if found is None and line.startswith(DATA):  # events under the wrong name
            self._parse_record(line.removeprefix(DATA))
        elif found is None:
            several = objects_in(line)
            if len(several) > 1:
                for each in several:
                    self._parse_record(each)
        elif found.is_done:
            self._final = response_fields.fields_of(found)
        elif found.error:
            self._error = response_fields.fields_of(found)
        elif not self.content:
            self.content = STEPS not in line or _has_output(line)

    def end(self) -> ResponseFields:
        """Return the fields of the final record or of an error."""
        rest = self._parse_rest()
        if self._final is None and self._error is None and not self._overlong:
            return self._without_final(rest)
        if self._error is not None:
            return self._error
        if self._final is None:
            return UNREAD
        return replace(self._final, ending=ResponseEnd.TRAILING) if self._trailing else self._final

    def _without_final(self, rest: bytes) -> ResponseFields:
        """Return what the last record says, in whatever way it is written."""
        line = self._last_line()
        last = response_fields.decode_loosely(line)
        if last is None:
            several = objects_in(line)
            last = response_fields.decode_loosely(several[-1]) if len(several) > 1 else None
        if last is None:
            is_cut = not line or (bool(rest) and is_beginning(rest.strip(SEPARATORS)))
            return UNFINISHED if is_cut else UNREAD
        found = response_fields.fields_of(last)
        if last.is_done or found.ending is ResponseEnd.ERROR:
            return found
        return replace(UNREAD, ending=response_fields.unfinished_end(Body.NATIVE, last))


class NativeEvents(Ndjson):
    """Parses native records that a gateway sends as server-sent events."""

    __slots__ = ()
    feed = LineParser.feed  # its lines are no records yet

    def _parse_lines(self, lines: bytes) -> None:
        records = [
            line.removeprefix(DATA)
            for line in lines.split(b"\n")
            if line.startswith((DATA, b"{")) and not line.strip().endswith(LAST)
        ]
        if records:
            super()._parse_lines(b"\n".join([*records, b""]))

    def _parse_rest(self) -> bytes:
        return super()._parse_rest().removeprefix(DATA)


def _is_ordinary(lines: bytes) -> bool:
    """Return whether records say that others follow, so that they need not be decoded."""
    open_records = lines.count(NOT_DONE)
    return open_records > 0 and lines.count(DONE) == open_records and ERROR not in lines


def _has_output(line: bytes) -> bool:
    """Return whether a record has output, and not only the steps of an image model."""
    try:
        record = _OBJECT.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return any(record.get(name) for name in OUTPUT)


_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])
