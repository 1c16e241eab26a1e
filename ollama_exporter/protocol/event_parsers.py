# SPDX-License-Identifier: Apache-2.0
"""Parses streams of server-sent events, one class for each API."""

import re
from typing import Final

from msgspec.structs import replace

from ollama_exporter.protocol import response_fields
from ollama_exporter.protocol.json_stream import is_beginning
from ollama_exporter.protocol.line_parsers import ERROR, LineParser
from ollama_exporter.protocol.response_fields import UNFINISHED, UNREAD, ResponseEnd, ResponseFields
from ollama_exporter.protocol.routes import Body

DATA: Final = b"data"  # before the record of an event
CHOICES: Final = re.compile(rb'"choices"\s*+:\s*+\[\s*+\{')
FINISH_REASON: Final = re.compile(rb'"finish_reason"\s*+:\s*+"')


class _Events(LineParser):
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
            while at >= 0:  # the last one that is kept, as if the lines came one by one
                begin, end = lines.rfind(b"\n", 0, at) + 1, lines.find(b"\n", at)
                line = lines[begin : end if end >= 0 else len(lines)]
                if self._keep_line(marker, line.partition(b":")[2].strip()):
                    break
                at = lines.rfind(marker, 0, begin)
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

    def _keep_line(self, marker: bytes, line: bytes) -> bool:
        """Keep a line; return whether it was one that counts."""
        self._kept[marker] = line
        return True

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

    def _keep_line(self, marker: bytes, line: bytes) -> bool:
        if marker == self.LAST != line:  # output may contain the word
            return False
        return super()._keep_line(marker, line)

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
