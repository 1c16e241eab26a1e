# SPDX-License-Identifier: Apache-2.0
r"""Takes the server's lines out of what containers, journals and collectors wrap around them. Pure.

Read are Docker's json-file (`{"log":"…\n","stream":"stderr","time":"…"}`) and other JSON with the
line in one field, JSON with the parts of the line as its fields, the CRI format of Kubernetes
(`2026-…Z stderr F …`), and text in UTF-16. Both container formats write a long line in parts.

What stands before a line in text is skipped by `decorations.py`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.host.log.decorations import LONGEST_DECORATION, STARTS, is_decoration

LONGEST_WRAPPED: Final = 128 * 1024  # bytes; Docker splits at 16 KiB and may escape each byte
LONGEST_JOINED: Final = 64 * 1024  # bytes of a line in parts; the rest is dropped
LAYERS: Final = 6  # wraps within wraps
STREAMS: Final = 8  # whose incomplete lines are kept
MOST_FIELDS: Final = 64  # of a line that is written as JSON
CRI: Final = re.compile(
    rb"\d{4}-\d\d-\d\dT[\d:.]{8,18}(?:Z|[+-]\d\d:\d\d) (stdout|stderr) ([PF])\S* "
)
# of JSON that hold the line, or an object that does
FIELDS: Final = ("log", "message", "MESSAGE", "msg", "line", "textPayload", "jsonPayload", "_entry")
FIELDS_OF_OBJECTS: Final = (
    *("body", "Body", "stringValue", "content", "event", "original"),
    *("attributes", "short_message", "full_message"),
)
TIMES: Final = ("time", "ts", "timestamp", "@timestamp")
LEVELS: Final = ("level", "severity", "lvl")
OBJECT: Final = re.compile(rb'\{ ?"')
CUT: Final = re.compile(
    rb'\{ ?"(?:log|message|MESSAGE|textPayload)" ?: ?"((?:[^"\\]|\\.)*)', re.DOTALL
)
_JSON: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT: Final = msgspec.json.Decoder(str)
_BYTES: Final = msgspec.json.Decoder(list[int])  # as journalctl writes what is not text


class LineUnwrapper:
    """Unwraps lines in their order, and joins lines that come in parts."""

    def __init__(self) -> None:
        self._parts = BoundedDict[bytes, bytearray](STREAMS)  # of incomplete lines, by stream

    def feed(self, line: bytes) -> bytes | None:
        """Return the line itself; None: the rest of it is still to come."""
        if b"\0" in line:  # UTF-16, as PowerShell redirects
            line = line.replace(b"\0", b"").removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff")
        for _ in range(LAYERS):
            line = _from_first_brace(line)
            start = line[:1]
            if start == b"{":
                inner = _from_json(line)
                if inner is None:
                    return line
                text, stream = inner
                line = text.removesuffix(b"\n").removesuffix(b"\r")
                complete = line != text or stream is None
                whole = self._join(stream or b"", line, complete=complete)
            elif start.isdigit() and (found := CRI.match(line)):
                whole = self._join(found[1], line[found.end() :], complete=found[2] == b"F")
            else:
                return line
            if whole is None:
                return None
            line = whole
        return line

    @property
    def is_in_line(self) -> bool:
        """Whether the rest of a line is still to come."""
        return bool(self._parts)

    def reset(self) -> None:
        """Drop incomplete lines."""
        self._parts.clear()

    def _join(self, stream: bytes, part: bytes, *, complete: bool) -> bytes | None:
        parts = self._parts.pop(stream, None)
        if parts is None and complete:
            return part
        parts = bytearray() if parts is None else parts
        parts += part[: LONGEST_JOINED - len(parts)]
        if complete:
            return bytes(parts)
        self._parts[stream] = parts
        return None


def _from_first_brace(line: bytes) -> bytes:
    """Return a line that is JSON without what stands before it; other lines as they are."""
    if line[:1] in (b"{", b"t"):
        return line
    found = OBJECT.search(line, 0, LONGEST_DECORATION)
    if found is None or found.start() == 0 or CRI.match(line):
        return line
    before = line[: found.start()].decode(errors="replace")
    return line[found.start() :] if is_decoration(before) else line


def _from_json(line: bytes) -> tuple[bytes, bytes | None] | None:
    """Return the line in a JSON object, and the stream if the format may split lines."""
    try:
        found = _JSON.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _from_cut_json(line)
    for name in (*FIELDS, *FIELDS_OF_OBJECTS):
        if name not in found:
            continue
        raw = bytes(found[name])
        if raw[:1] == b"{":
            return raw, None
        text = _text(raw)
        docker = name == "log" and "stream" in found and "time" in found
        if text is not None and (docker or text[:1] == "{" or any(x in text for x in STARTS)):
            stream = bytes(found["stream"]) if docker else None
            return text.encode("utf-8", "surrogatepass"), stream
    written = _from_fields(found)
    return None if written is None else (written, None)


def _from_cut_json(line: bytes) -> tuple[bytes, None] | None:
    """Return what is left of the line in a JSON object that was cut."""
    found = CUT.match(line)
    text = None if found is None else _text(b'"' + found[1] + b'"')
    return None if text is None else (text.encode("utf-8", "surrogatepass"), None)


def _from_fields(found: Mapping[str, msgspec.Raw]) -> bytes | None:
    """Return the line of which each part is a field, as it stands in a text log."""
    moment, level = _first(found, TIMES), _first(found, LEVELS)
    message = _first(found, ("msg", "message"))
    if not (moment and level and message):
        return None
    pairs = [f"time={moment.replace(' ', 'T')} level={level.upper()} msg={_quoted(message)}"]
    for name, value in _flat(found):
        if name not in (*TIMES, *LEVELS, "msg", "message", "source") and "=" not in name:
            pairs.append(f"{name}={_quoted(value)}")
    return " ".join(pairs[:MOST_FIELDS]).encode("utf-8", "surrogatepass")


def _first(found: Mapping[str, msgspec.Raw], names: tuple[str, ...]) -> str | None:
    """Return the text of the first of these fields that has one."""
    texts = (_text(found[name]) for name in names if name in found)
    return next((text for text in texts if text), None)


def _flat(found: Mapping[str, msgspec.Raw], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the fields that are texts or numbers, and those of objects with both names."""
    for name, value in found.items():
        raw = bytes(value)
        if raw[:1] == b"{" and not above:
            try:
                yield from _flat(_JSON.decode(raw), f"{name}.")
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
        else:
            text = _text(raw) if raw[:1] == b'"' else raw.decode(errors="replace")
            if text is not None and raw[:1] not in b"{[":
                yield above + name, text


def _quoted(text: str) -> str:
    return msgspec.json.encode(text.encode(errors="replace").decode()).decode()


def _text(raw: bytes | msgspec.Raw) -> str | None:
    """Return a JSON string, with bytes replaced that are not UTF-8; None: it is not a string.

    journalctl writes a message that is not UTF-8 as an array of its bytes.
    """
    raw = bytes(raw)
    try:
        if raw[:1] == b"[":
            return bytes(_BYTES.decode(raw)).decode(errors="replace")
        return _TEXT.decode(raw.decode(errors="replace"))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
