# SPDX-License-Identifier: Apache-2.0
"""Asks a stream of OpenAI's API for its usage, and takes the usage out again. Pure.

Such a stream tells its tokens only if the client asks (`stream_options.include_usage`). The proxy
can ask instead. The server then sends one more record, and in `/v1/completions` a usage of zeros in
every other one: the client gets what it would have got without them, to the byte.
"""

import re
from typing import Any, Final

import msgspec

from ollama_exporter.protocol import json_edit
from ollama_exporter.protocol.request_body import RequestFields

OPTION: Final = ("stream_options", "include_usage")
MEMBER: Final = json_edit.member(OPTION, b"true")
LONGEST_LINE: Final = 64 << 10  # bytes; a longer line is no record of usage
DATA: Final = b"data:"
USAGE: Final = b'"usage"'
EMPTY_USAGE: Final = re.compile(rb',"usage":(?:null|\{[^{}]*\})(\}[ \t\r\n]*)$')


def wants_asking(asked: RequestFields) -> bool:
    """Return whether a request is for a stream whose usage it does not ask for."""
    return asked.stream is True and not asked.wants_usage


def with_usage(body: bytes, asked: RequestFields) -> bytes | None:
    """Return a request that asks for usage; None: it stays as it is."""
    return json_edit.set_member(body, OPTION, b"true") if wants_asking(asked) else None


class UsageFilter:
    """Takes the usage out of a stream of server-sent events.

    An unfinished line waits for its end, and nothing else does: servers send whole records.
    """

    __slots__ = ("_blank_follows", "_is_long", "_line")

    def __init__(self) -> None:
        self._line = b""  # unfinished
        self._is_long = False  # its beginning was passed on
        self._blank_follows = False  # the line that ends a record that was taken out

    def feed(self, data: bytes) -> bytes:
        """Return what a client gets of the next bytes."""
        cut = data.rfind(b"\n") + 1
        if not cut:
            return self._keep(data)
        whole, rest = self._line + data[:cut], data[cut:]
        self._line = b""
        if self._is_long or self._blank_follows or USAGE in whole:
            whole = b"".join(map(self._shown, whole.splitlines(keepends=True)))
        return whole + self._keep(rest)

    def end(self) -> bytes:
        """Return what is left: the stream ended, or broke off."""
        line, self._line = self._line, b""
        return line

    def _keep(self, part: bytes) -> bytes:
        """Keep an unfinished line; return it instead if it is long."""
        if self._is_long:
            return part
        if len(self._line) + len(part) <= LONGEST_LINE:
            self._line += part
            return b""
        self._is_long = True
        return self.end() + part

    def _shown(self, line: bytes) -> bytes:
        if self._is_long:  # the end of a line whose beginning was passed on
            self._is_long = False
            return line
        if self._blank_follows:
            self._blank_follows = False
            if not line.strip():
                return b""
        if len(line) > LONGEST_LINE or not (line.startswith(DATA) and USAGE in line):
            return line
        shown = without_usage(line)
        self._blank_follows = not shown
        return shown


def without_usage(line: bytes) -> bytes:
    """Return a record without its usage; nothing, if it has nothing else to say."""
    try:
        record: Any = msgspec.json.decode(line[len(DATA) :])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return line
    if not isinstance(record, dict) or "usage" not in record:
        return line
    usage = record["usage"]
    if isinstance(usage, dict) and record.get("choices") == []:
        return b""
    is_empty = usage is None or (isinstance(usage, dict) and not any(usage.values()))
    return EMPTY_USAGE.sub(rb"\1", line) if is_empty else line
