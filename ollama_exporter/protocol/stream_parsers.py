# SPDX-License-Identifier: Apache-2.0
"""Readers of answers as they pass: pure, incremental, one class for each framing.

Any chunking of the same bytes gives the same reading. Records end at the line feed and nowhere
else (U+2028 is legal inside a JSON string). A reader costs a few searches for a chunk and decodes
only records that can be the last: the markers hold quotes, which inside a JSON string are escaped.
"""

from typing import Final, Protocol

from msgspec.structs import replace

from ollama_exporter.protocol import response_fields
from ollama_exporter.protocol.response_fields import (
    UNFINISHED,
    UNREAD,
    ResponseEnd,
    ResponseFields,
)
from ollama_exporter.protocol.routes import Body

LONGEST: Final = 8 << 20  # bytes of one record that are kept: `context` lists every token's id
DONE: Final = b'"done":true'
ERROR: Final = b'"error"'


class StreamParser(Protocol):
    """Reads one answer."""

    content: bool  # something that a model said came; final and error records do not count

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body, of any length."""

    def end(self) -> ResponseFields:
        """Say what the answer was; the body has ended, in full or not."""


def parser_for(body: Body, *, content_type: str, content_encoding: str) -> StreamParser:
    """Return the reader for an answer by the fields of its head."""
    kind = content_type.partition(";")[0].strip().lower()
    if content_encoding.strip().lower() not in ("", "identity"):
        return Unread()
    if kind == "application/json":
        return Json(body)
    return STREAMED.get((body, kind), Unread)()


class Unread:
    """An answer that is not looked into."""

    content = False

    def feed(self, data: bytes) -> None:
        """Let it pass."""

    def end(self) -> ResponseFields:
        """Say nothing."""
        return UNREAD


class Json:
    """One object, decoded when it is there as a whole."""

    content = False  # it comes when all of it is done: there is no first token in it

    def __init__(self, body: Body) -> None:
        self._body = body
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Keep it, within the bound."""
        self._size += len(data)
        if self._size <= LONGEST:
            self._parts.append(data)
        else:
            self._parts.clear()

    def end(self) -> ResponseFields:
        """Decode it."""
        if self._size > LONGEST:
            return UNREAD
        return response_fields.whole(self._body, b"".join(self._parts))


class _Lines:
    """Puts lines together; what they mean is the framing's."""

    __slots__ = ("_overlong", "_parts", "_size", "content")

    def __init__(self) -> None:
        self.content = False
        self._parts: list[bytes] = []  # of a line whose end has not come
        self._size = 0
        self._overlong = False  # a line was longer than what is kept

    def feed(self, data: bytes) -> None:
        """Pass on whole lines; keep the rest."""
        if self._size:
            first = data.find(b"\n") + 1
            self._keep(data[:first] if first else data)
            if not first:
                return
            self._rest()
            data = data[first:]
        cut = data.rfind(b"\n") + 1
        if cut:
            lines = data if cut == len(data) else data[:cut]
            self._take(lines if cut <= LONGEST else self._short(lines))
        if cut < len(data):
            self._keep(data[cut:])

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= LONGEST:
            self._parts.append(data)
        else:
            self._overlong = True
            self._parts.clear()

    def _rest(self) -> None:
        """Pass on the line that was put together."""
        line, self._parts = b"".join(self._parts), []
        self._size = 0
        if line:
            self._take(line)

    def _short(self, lines: bytes) -> bytes:
        """Drop what would have been dropped had it come in pieces."""
        every = lines.split(b"\n")
        short = [line for line in every if len(line) < LONGEST]
        self._overlong |= len(short) < len(every)
        return b"\n".join(short)

    def _take(self, lines: bytes) -> None:
        raise NotImplementedError


class Ndjson(_Lines):
    """The native streams: one record a line, the last one has done:true."""

    __slots__ = ("_error", "_final", "_trailing")

    def __init__(self) -> None:
        super().__init__()
        self._final: ResponseFields | None = None
        self._error: ResponseFields | None = None
        self._trailing = False

    def _take(self, lines: bytes) -> None:
        if self._final is None and DONE not in lines and ERROR not in lines:
            self.content = self.content or not lines.isspace()
        else:
            for line in lines.split(b"\n"):
                if line.strip():
                    self._weigh(line)

    def _weigh(self, line: bytes) -> None:
        if self._final is not None:
            self._trailing = True
            return
        found = response_fields.record(line) if DONE in line or ERROR in line else None
        if found is not None and found.done:
            self._final = response_fields.of(found)
        elif found is not None and found.error:
            self._error = response_fields.of(found)
        else:
            self.content = True

    def end(self) -> ResponseFields:
        """Say what the final record said, or that there was none."""
        self._rest()
        if self._error is not None:
            return self._error
        if self._final is None:
            return UNREAD if self._overlong else UNFINISHED
        return replace(self._final, ending=ResponseEnd.TRAILING) if self._trailing else self._final


class _Events(_Lines):
    """Server-sent events. Keeps the latest line of each kind that matters, unread until the end."""

    __slots__ = ("_kept",)
    KEEP: tuple[bytes, ...] = ()  # markers of lines that are kept
    CONTENT: bytes = b""  # in a line with something that the model said

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[bytes, bytes] = {}

    def _take(self, lines: bytes) -> None:
        if not self.content:
            self.content = self.CONTENT in lines
        for marker in self.KEEP:
            at = lines.rfind(marker)
            if at >= 0:
                begin, end = lines.rfind(b"\n", 0, at) + 1, lines.find(b"\n", at)
                line = lines[begin : end if end >= 0 else len(lines)]
                self._kept[marker] = line.partition(b":")[2].strip()

    def _reading(self, marker: bytes) -> ResponseFields | None:
        found = response_fields.record(self._kept[marker]) if marker in self._kept else None
        return None if found is None else response_fields.of(found)

    def _without_end(self) -> ResponseFields:
        failed = self._reading(ERROR)
        if failed is not None and failed.ending is ResponseEnd.ERROR:
            return failed
        return UNREAD if self._overlong else UNFINISHED


class ChatEvents(_Events):
    """Chat and text completions of OpenAI: `data:` lines, the last one is [DONE]."""

    __slots__ = ()
    USAGE: Final = b'"usage"'  # text completions carry zeros in each: the last one counts
    FINISH: Final = b'"finish_reason":"'
    LAST: Final = b"data: [DONE]"
    CONTENT = b'"choices":[{'
    KEEP = (USAGE, FINISH, LAST, ERROR)

    def end(self) -> ResponseFields:
        """Join the chunk that names the finish with the one that names the usage."""
        self._rest()
        if self.LAST not in self._kept:
            return self._without_end()
        usage, finish = self._reading(self.USAGE), self._reading(self.FINISH)
        if usage is None:
            return finish or ResponseFields(ResponseEnd.COMPLETE)
        return usage if finish is None else replace(usage, finish=finish.finish)


class ResponseEvents(_Events):
    """Responses of OpenAI: ended by the event that carries the whole answer."""

    __slots__ = ()
    ENDS: Final = (b'"response.completed"', b'"response.incomplete"', b'"response.failed"')
    CONTENT = b'.delta"'
    KEEP = (*ENDS, ERROR)

    def end(self) -> ResponseFields:
        """Read the answer out of its last event."""
        self._rest()
        for marker in self.ENDS:
            found = response_fields.inner(self._kept[marker]) if marker in self._kept else None
            if found is not None:
                return response_fields.of(found)
        return self._without_end()


class MessageEvents(_Events):
    """Messages of Anthropic: the model in the first event, the counts in the last but one."""

    __slots__ = ()
    START: Final = b'"message_start"'
    DELTA: Final = b'"message_delta"'
    STOP: Final = b'"message_stop"'
    CONTENT = b'"content_block_delta"'
    KEEP = (START, DELTA, STOP, ERROR)

    def end(self) -> ResponseFields:
        """Join the two; the counts of the first one are an estimate and not used."""
        self._rest()
        if self.STOP not in self._kept:
            return self._without_end()
        start = response_fields.inner(self._kept[self.START]) if self.START in self._kept else None
        said = self._reading(self.DELTA) or ResponseFields(ResponseEnd.COMPLETE)
        return replace(said, model=None if start is None else start.model)


STREAMED: Final[dict[tuple[Body, str], type[StreamParser]]] = {
    (Body.NATIVE, "application/x-ndjson"): Ndjson,
    (Body.OPENAI, "text/event-stream"): ChatEvents,
    (Body.RESPONSES, "text/event-stream"): ResponseEvents,
    (Body.ANTHROPIC, "text/event-stream"): MessageEvents,
}
