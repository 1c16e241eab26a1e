# SPDX-License-Identifier: Apache-2.0
"""Parsers of answers as they pass, one class for each framing.

Every chunking of the same bytes gives the same result. A line feed is the only end of a record
(U+2028 is legal inside a JSON string). A parser searches each chunk a few times and decodes only
records that can be the last. Its markers contain quotes, which are escaped inside a JSON string.
"""

import re
from typing import Any, Final, Protocol

import msgspec
from msgspec.structs import replace

from ollama_exporter.protocol import response_fields
from ollama_exporter.protocol.json_scan import SEPARATORS, objects_in
from ollama_exporter.protocol.json_stream import is_beginning
from ollama_exporter.protocol.response_fields import (
    UNFINISHED,
    UNREAD,
    ResponseEnd,
    ResponseFields,
)
from ollama_exporter.protocol.routes import Body

EVENT_LINES: Final = (b"data:", b"event:", b"id:", b"retry:", b":")  # of server-sent events
LONGEST_WORD: Final = 6  # bytes of the longest of them
LONGEST: Final = 8 << 20  # bytes of a record that are kept; `context` lists every token id
NDJSON: Final = "application/x-ndjson"
DONE: Final = b'"done"'
NOT_DONE: Final = b'"done":false'  # as the server writes it; a router may add blanks
ERROR: Final = b'"error"'
DATA: Final = b"data"  # before the record of an event
# In the records of an image model: steps so far, not output.
STEPS: Final = b'"completed":'
CHOICES: Final = re.compile(rb'"choices"\s*+:\s*+\[\s*+\{')
FINISH_REASON: Final = re.compile(rb'"finish_reason"\s*+:\s*+"')
OUTPUT: Final = frozenset({"response", "thinking", "message", "image"})


class StreamParser(Protocol):
    """Parses the body of one answer."""

    @property
    def content(self) -> bool:
        """Whether a record with output came. Final records and errors are not output."""

    def feed(self, data: bytes) -> None:
        """Parse the next bytes of the body, of any length."""

    def end(self) -> ResponseFields:
        """Return what the answer says, after its body has ended, complete or not."""


def parser_for(body: Body, *, content_type: str, content_encoding: str) -> StreamParser:
    """Return the parser for an answer with these headers."""
    kind = content_type.partition(";")[0].strip().lower()
    if content_encoding.strip().lower() not in ("", "identity"):
        return Unread()
    parser = STREAMED.get((body, kind))
    if parser is not None:
        return parser()
    is_json = kind == "application/json"
    return JsonOrStream(body, is_json=is_json) if is_json or body is not Body.OPAQUE else Unread()


class Unread:
    """Parses nothing: the answer's format is unknown."""

    content = False

    def feed(self, data: bytes) -> None:
        """Ignore the bytes."""

    def end(self) -> ResponseFields:
        """Return that the answer was not read."""
        return UNREAD


class JsonOrStream:
    """Parses an answer that should be one object, but may be a stream: routers mislabel them."""

    def __init__(self, body: Body, *, is_json: bool = True) -> None:
        """`is_json`: its content type says so. Otherwise its first bytes decide."""
        self._body = body
        self._is_json = is_json
        self._parts: list[bytes] = []
        self._size = 0
        self._stream: StreamParser | None = None
        self._is_decided = False

    @property
    def content(self) -> bool:
        """Whether output came. An object comes at once, so it has no time to the first token."""
        return self._stream is not None and self._stream.content

    def feed(self, data: bytes) -> None:
        """Keep the bytes, up to the limit, or parse those of a stream."""
        if self._stream is not None:
            self._stream.feed(data)
            return
        self._size += len(data)
        if self._size <= LONGEST:
            self._parts.append(data)
        else:
            self._parts.clear()
        if not self._is_decided and self._size <= LONGEST:
            self._decide(data)

    def _decide(self, data: bytes) -> None:
        """Parse a stream if the first line is a record of its own."""
        has_line = b"\n" in data
        if self._is_json and not has_line:
            return
        beginning = b"".join(self._parts)
        text = beginning.lstrip(SEPARATORS)
        if not self._is_json and not is_ours(text[:LONGEST_WORD]):
            self._is_decided, self._stream = True, Unread()
            self._parts.clear()
        elif has_line and text:
            self._is_decided = True
            line = text.partition(b"\n")[0]
            is_events = line.startswith(EVENT_LINES)
            parser = STREAMED.get((self._body, "text/event-stream" if is_events else NDJSON))
            if parser is not None and (is_events or is_record(line)):
                self._stream = parser()
                self._parts.clear()
                self._stream.feed(beginning)

    def end(self) -> ResponseFields:
        """Decode the object."""
        if self._stream is not None:
            return self._stream.end()
        if self._size > LONGEST:
            return UNREAD
        content = b"".join(self._parts)
        if not (self._is_json or content.strip(SEPARATORS)):
            return UNREAD
        if self._body is Body.NATIVE and len(objects_in(content)) > 1:
            records = Ndjson()
            records.feed(content)
            return records.end()
        return response_fields.read_object(self._body, content)


def is_ours(beginning: bytes) -> bool:
    """Return whether an answer that begins like this may be an object or a stream."""
    return beginning[:1] in (b"", b"{") or any(
        beginning.startswith(word[: len(beginning)]) for word in EVENT_LINES
    )


def is_record(line: bytes) -> bool:
    """Return whether a line holds one record or several."""
    return response_fields.decode_record(line) is not None or bool(objects_in(line))


class _Lines:
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


class Ndjson(_Lines):
    """Parses native streams: one record a line; the last one has done:true."""

    __slots__ = ("_error", "_final", "_trailing")

    def __init__(self) -> None:
        super().__init__()
        self._final: ResponseFields | None = None
        self._error: ResponseFields | None = None
        self._trailing = False

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
                if line.strip(SEPARATORS):
                    self._parse_record(line)

    def _parse_record(self, line: bytes) -> None:
        if self._final is not None:
            self._trailing = self._trailing or response_fields.decode_record(line) is not None
            return
        found = response_fields.decode_record(line)
        if found is None:
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


def _has_output(line: bytes) -> bool:
    """Return whether a record has output, and not only the steps of an image model."""
    try:
        record = _OBJECT.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return any(record.get(name) for name in OUTPUT)


_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])


class _Events(_Lines):
    """Keeps the latest line with each marker of a stream of server-sent events."""

    __slots__ = ("_kept",)
    KEEP: tuple[bytes, ...] = ()  # markers of the lines that are kept
    CONTENT: bytes = b""  # the marker of a line with output
    BODY: Body = Body.OPAQUE
    COMPACT: bytes = b"data: {"  # in lines as the server writes them, where a router's would differ

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[bytes, bytes] = {}

    def _parse_lines(self, lines: bytes) -> None:
        if not self.content:
            self.content = self.CONTENT in lines and self._has_content(lines)
        for marker in self.KEEP:
            at = lines.rfind(marker)
            if at >= 0:
                begin, end = lines.rfind(b"\n", 0, at) + 1, lines.find(b"\n", at)
                line = lines[begin : end if end >= 0 else len(lines)]
                self._keep_line(marker, line.partition(b":")[2].strip())
        if lines.rfind(self.COMPACT) >= 0:  # it stands near the end: twice as fast as `in`
            self._last = lines
        else:
            if DATA in lines or not self._last:
                self._last = lines
            self._parse_loose(lines)

    def _parse_loose(self, lines: bytes) -> None:
        """Parse lines that a router may have written with blanks."""

    def _has_content(self, lines: bytes) -> bool:  # noqa: ARG002 - of lines with CONTENT
        return True

    def _keep_line(self, marker: bytes, line: bytes) -> None:
        self._kept[marker] = line

    def _fields(self, marker: bytes) -> ResponseFields | None:
        found = response_fields.decode_record(self._kept[marker]) if marker in self._kept else None
        return None if found is None else response_fields.fields_of(found)

    def _without_end(self, rest: bytes) -> ResponseFields:
        failed = self._fields(ERROR)
        if failed is not None and failed.ending is ResponseEnd.ERROR:
            return failed
        if self._overlong:
            return UNREAD
        text = self._last_line(DATA).partition(b":")[2].strip()
        last = response_fields.decode_loosely(text)
        if last is None:
            is_cut = not self._last or (bool(rest and text) and is_beginning(text))
            return UNFINISHED if is_cut else UNREAD
        if last.finish_reason:
            return response_fields.fields_of(last)
        return replace(UNREAD, ending=response_fields.unfinished_end(self.BODY, last))


class ChatEvents(_Events):
    """Parses OpenAI's chat and text completions; the last `data:` line is [DONE]."""

    __slots__ = ()
    BODY = Body.OPENAI
    USAGE: Final = b'"usage"'  # text completions have zeros in all chunks but the last
    FINISH: Final = b'"finish_reason":"'
    LAST: Final = b"[DONE]"
    CONTENT = b'"choices"'
    KEEP = (USAGE, FINISH, LAST, ERROR)
    COMPACT = b'"finish_reason":null'

    def _parse_loose(self, lines: bytes) -> None:
        for line in lines.split(b"\n"):
            if FINISH_REASON.search(line):
                self._kept[self.FINISH] = line.partition(b":")[2].strip()

    def _has_content(self, lines: bytes) -> bool:
        return CHOICES.search(lines) is not None

    def _keep_line(self, marker: bytes, line: bytes) -> None:
        if marker != self.LAST or line == self.LAST:  # output may contain the word
            super()._keep_line(marker, line)

    def end(self) -> ResponseFields:
        """Join the chunk with the finish reason and the one with the usage."""
        rest = self._parse_rest()
        if self.LAST not in self._kept and self.FINISH not in self._kept:
            return self._without_end(rest)
        usage, finish = self._fields(self.USAGE), self._fields(self.FINISH)
        if usage is None:
            return finish or ResponseFields(ResponseEnd.COMPLETE)
        return usage if finish is None else replace(usage, finish=finish.finish)


class ResponseEvents(_Events):
    """Parses OpenAI's Responses API; the last event has the whole answer."""

    __slots__ = ()
    BODY = Body.RESPONSES
    ENDS: Final = (b'"response.completed"', b'"response.incomplete"', b'"response.failed"')
    CONTENT = b'.delta"'
    KEEP = (*ENDS, ERROR)

    def end(self) -> ResponseFields:
        """Return the fields of the last event's answer."""
        rest = self._parse_rest()
        for marker in self.ENDS:
            found = (
                response_fields.decode_event(self._kept[marker]) if marker in self._kept else None
            )
            if found is not None:
                return response_fields.fields_of(found)
        return self._without_end(rest)


class MessageEvents(_Events):
    """Parses Anthropic's Messages API: model in the first event, usage in the last but one."""

    __slots__ = ()
    BODY = Body.ANTHROPIC
    START: Final = b'"message_start"'
    DELTA: Final = b'"message_delta"'
    STOP: Final = b'"message_stop"'
    CONTENT = b'"content_block_delta"'
    KEEP = (START, DELTA, STOP, ERROR)

    def end(self) -> ResponseFields:
        """Join the two events. The usage of the first is an estimate and is not used."""
        rest = self._parse_rest()
        delta = self._fields(self.DELTA)
        if self.STOP not in self._kept and (delta is None or delta.finish is None):
            return self._without_end(rest)
        kept = self._kept.get(self.START)
        start = None if kept is None else response_fields.decode_event(kept)
        fields = delta or ResponseFields(ResponseEnd.COMPLETE)
        return replace(fields, model=None if start is None else start.model)


STREAMED: Final[dict[tuple[Body, str], type[StreamParser]]] = {
    (Body.NATIVE, NDJSON): Ndjson,
    (Body.OPENAI, "text/event-stream"): ChatEvents,
    (Body.RESPONSES, "text/event-stream"): ResponseEvents,
    (Body.ANTHROPIC, "text/event-stream"): MessageEvents,
}
