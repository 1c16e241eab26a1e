# SPDX-License-Identifier: Apache-2.0
"""Parsers of answers as they pass, one class for each framing.

Every chunking of the same bytes gives the same result. A line feed is the only end of a record
(U+2028 is legal inside a JSON string). A parser searches each chunk a few times and decodes only
records that can be the last. Its markers contain quotes, which are escaped inside a JSON string.
"""

from functools import lru_cache
from typing import Final, Protocol

from ollama_exporter.protocol import response_fields
from ollama_exporter.protocol.event_parsers import ChatEvents, MessageEvents, ResponseEvents
from ollama_exporter.protocol.json_scan import SEPARATORS, objects_in
from ollama_exporter.protocol.line_parsers import LONGEST, NativeEvents, Ndjson
from ollama_exporter.protocol.response_fields import (
    UNREAD,
    ResponseFields,
)
from ollama_exporter.protocol.routes import Body

EVENT_LINES: Final = (b"data:", b"event:", b"id:", b"retry:", b":")  # of server-sent events
LONGEST_WORD: Final = 6  # bytes of the longest of them
LONGEST_TYPE: Final = 128  # characters of two header values that are remembered
NDJSON: Final = "application/x-ndjson"


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
    found = read_format if len(content_type) + len(content_encoding) <= LONGEST_TYPE else _format
    kind, is_plain = found(content_type, content_encoding)
    if not is_plain:
        return Unread()
    parser = STREAMED.get((body, kind))
    if parser is not None:
        return parser()
    is_json = kind == "application/json"
    return JsonOrStream(body, is_json=is_json) if is_json or body is not Body.OPAQUE else Unread()


def _format(content_type: str, content_encoding: str) -> tuple[str, bool]:
    """Return the media type of an answer, and whether it is not compressed."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind, content_encoding.strip().lower() in ("", "identity")


read_format: Final = lru_cache(maxsize=64)(_format)  # servers write few


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
        if self._is_json and b"\n" not in data:
            return
        beginning = b"".join(self._parts).lstrip(SEPARATORS)
        self._parts = [beginning]
        if not self._is_json:
            if not is_ours(beginning[:LONGEST_WORD]):
                self._is_decided, self._stream = True, Unread()
                self._parts.clear()
                return
            self._is_json = len(beginning) >= LONGEST_WORD  # from here on a line decides
        line, end, _ = beginning.partition(b"\n")
        if end:
            self._is_decided = True
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


STREAMED: Final[dict[tuple[Body, str], type[StreamParser]]] = {
    (Body.NATIVE, NDJSON): Ndjson,
    (Body.NATIVE, "text/event-stream"): NativeEvents,  # a gateway makes events of it
    (Body.OPENAI, "text/event-stream"): ChatEvents,
    (Body.RESPONSES, "text/event-stream"): ResponseEvents,
    (Body.ANTHROPIC, "text/event-stream"): MessageEvents,
}
