# SPDX-License-Identifier: Apache-2.0
r"""Takes the server's lines out of what containers, journals and collectors wrap around them. Pure.

Read are Docker's json-file (`{"log":"…\n","stream":"stderr","time":"…"}`) and other JSON with the
line in one field, the CRI format of Kubernetes (`2026-…Z stderr F …`), and text in UTF-16. Both
container formats write a long line in parts.

What stands before a line in text is skipped by `skip_decorations`. Only known decorations are
skipped: the output of a runner may contain anything, and must not pass for a line of the server.
"""

import re
from typing import Final

import msgspec

from ollama_exporter.bounded import BoundedDict

LONGEST_WRAPPED: Final = 128 * 1024  # bytes; Docker splits at 16 KiB and may escape each byte
LONGEST_JOINED: Final = 64 * 1024  # bytes of a line in parts; the rest is dropped
LAYERS: Final = 4  # wraps within wraps
STREAMS: Final = 8  # whose incomplete lines are kept
CRI: Final = re.compile(
    rb"\d{4}-\d\d-\d\dT[\d:.]{8,18}(?:Z|[+-]\d\d:\d\d) (stdout|stderr) ([PF])\S* "
)
FIELDS: Final = ("log", "message", "MESSAGE", "msg", "line")  # of JSON that hold the line
CUT: Final = re.compile(rb'\{ ?"(?:log|message|MESSAGE)" ?: ?"((?:[^"\\]|\\.)*)', re.DOTALL)
_JSON: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT: Final = msgspec.json.Decoder(str)

_TIME: Final = r"\d\d?:\d\d(?::\d\d)?(?:[.,]\d{1,9})?"
_DATE: Final = r"(?:\d{4}[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.]\d\d?[-/.]\d{4})"
_ZONE: Final = r"(?: ?(?:Z|[A-Z]{2,5}|[+-]\d\d:?\d\d))?"
_NAME: Final = r"[\w.@:/-]{1,256}"  # of a host, pod or container
_POD: Final = r"[a-z0-9.-]{1,128}"
_WORD: Final = r"[^\W\d]{1,12}\.?"  # of a weekday or month, in any language
_YEAR: Final = r"(?: \d{4})?"
_STAMP: Final = "|".join(
    (
        rf"{_DATE}[T ]{_TIME}{_ZONE}",
        rf"{_WORD} {_DATE} {_TIME}{_ZONE}",  # journalctl -o short-full
        rf"(?:{_WORD},? )?{_WORD} {{1,2}}\d\d?\.?,?{_YEAR} {_TIME}{_ZONE}{_YEAR}",
        rf"(?:{_WORD},? )?\d\d?\.? ?{_WORD}(?: {{1,2}}\d\d?\w?)?{_YEAR} {_TIME}{_ZONE}",
        r"\d{9,19}(?:\.\d{1,9})?",  # Unix seconds, milliseconds …
        r"@[0-9a-f]{16,24}",  # TAI64N
        _TIME,
    )
)
STAMP: Final = re.compile(rf"(?:\[ ?(?:{_STAMP}) ?\]|(?:{_STAMP})(?=[ \t:|]))[ \t:|]{{1,3}}")
BEFORE: Final = re.compile(
    "|".join(
        (
            r"\s",
            r"\ufeff",
            r"<\d{1,3}>(?:1 (?=\d))?",  # syslog's priority, and the version of RFC 5424
            rf"\[{_NAME}\][ \t]{{1,3}}",  # kubectl logs --prefix
            rf"{_NAME}(?: +{_NAME})? *\|[ \t]{{0,3}}",  # compose, swarm, pm2
            rf"{_POD}-{_POD} {_POD} (?=time=)",  # stern: pod and container
            r"(?:stdout|stderr)(?: [FP])?[ \t|:]{1,3}",
            r"[\w.-]{1,64}\[\d{1,10}\]: ",  # program and pid
            r"[\w.-]{0,32}ollama[\w.-]{0,32}: ",  # the program alone
        )
    )
)
AFTER_STAMP: Final = re.compile(
    "|".join(
        (
            rf"{_NAME} [\w./-]{{1,64}}(?:\[\d{{1,10}}\])?: ",  # host, program and perhaps pid
            # RFC 5424: host, program, pid, message id, structured data
            rf"{_NAME} [\w./-]{{1,64}} (?:\d{{1,10}}|-) [\w-]{{1,32}} (?:-|\[[^\]]{{0,256}}\]) ",
        )
    )
)
COLOUR: Final = re.compile(r"\x1b\[[\d;]{0,16}m")
LONGEST_DECORATION: Final = 512  # characters
MOST_DECORATIONS: Final = 8
START: Final = "time="


def skip_decorations(text: str) -> str:
    """Return a line of the server without what stands before it; other lines as they are."""
    head = text[: LONGEST_DECORATION + len(START)]
    if START not in head or head.startswith(START):
        return text
    if "\x1b" in head:
        text = COLOUR.sub("", head) + text[len(head) :]
    position, stamped = 0, False
    for _ in range(MOST_DECORATIONS):
        found = STAMP.match(text, position, LONGEST_DECORATION)
        if found is not None:
            stamped = True
        elif stamped:
            found = AFTER_STAMP.match(text, position, LONGEST_DECORATION)
        found = found or BEFORE.match(text, position, LONGEST_DECORATION + len(START))
        if found is None:
            return text
        position = found.end()
        if text.startswith(START, position):
            return text[position:]
    return text


class LineUnwrapper:
    """Unwraps lines in their order, and joins lines that come in parts."""

    def __init__(self) -> None:
        self._parts = BoundedDict[bytes, bytearray](STREAMS)  # of incomplete lines, by stream

    def feed(self, line: bytes) -> bytes | None:
        """Return the line itself; None: the rest of it is still to come."""
        if b"\0" in line:  # UTF-16, as PowerShell redirects
            line = line.replace(b"\0", b"").removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff")
        for _ in range(LAYERS):
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


def _from_json(line: bytes) -> tuple[bytes, bytes | None] | None:
    """Return the line in a JSON object, and the stream if the format may split lines."""
    try:
        found = _JSON.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return _from_cut_json(line)
    for name in FIELDS:
        if name not in found:
            continue
        text = _text(found[name])
        docker = name == "log" and "stream" in found and "time" in found
        if text is not None and (docker or START in text):
            stream = bytes(found["stream"]) if docker else None
            return text.encode("utf-8", "surrogatepass"), stream
    return None


def _from_cut_json(line: bytes) -> tuple[bytes, None] | None:
    """Return what is left of the line in a JSON object that was cut."""
    found = CUT.match(line)
    text = None if found is None else _text(b'"' + found[1] + b'"')
    return None if text is None else (text.encode("utf-8", "surrogatepass"), None)


def _text(raw: bytes | msgspec.Raw) -> str | None:
    """Return a JSON string, with bytes replaced that are not UTF-8; None: it is not a string."""
    try:
        return _TEXT.decode(bytes(raw).decode(errors="replace"))
    except msgspec.DecodeError:
        return None
