# SPDX-License-Identifier: Apache-2.0
"""Reads model, keep_alive and options from a request's body.

It reads what the server's decoder would: Go's encoding/json into the request structs of
api/types.go, then `Options.FromMap`. A short body is kept until it is complete. A longer one is
scanned as it passes, in constant space.
"""

import math
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import msgspec

from ollama_exporter.protocol import keepalive
from ollama_exporter.protocol.json_scan import (
    decode_scalar,
    decode_string,
    fold,
    fold_text,
)
from ollama_exporter.protocol.json_stream import ObjectScanner
from ollama_exporter.protocol.model_names import MAX_LENGTH
from ollama_exporter.protocol.routes import Route

KEPT: Final = 64 << 10  # bytes of a body that are kept; images make bodies of many MB
LARGEST_INT: Final = 2.0**63  # Go's int64; a larger number becomes negative on amd64
ENDLESS_OPTION: Final = 2**63 - 1
LONGEST_KNOWN: Final = 32  # bytes of a keep_alive that is remembered
LONGEST_RAW_NAME: Final = 6 * MAX_LENGTH  # bytes, as each character may be an escape
# Options whose change makes the server reload the model (`needsReload`, api/types.go).
FLAGS: Final = frozenset({"use_mmap"})
RELOADING: Final = FLAGS | {
    *("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "draft_num_predict")
}

# The objects whose members are read one by one, where they stand.
OPTIONS: Final = ("options",)
STREAM_OPTIONS: Final = ("stream_options",)
# The form field `model`, but not the end of `filename="model"`.
FORM_FIELD: Final = re.compile(rb'(?<![a-z])name=(?:"model"|model(?=[\s;]))', re.IGNORECASE)
BLANK: Final = b"\r\n\r\n"  # ends the headers of a part
LONGEST_FIELD: Final = 16  # bytes of FORM_FIELD, and one before it
NULL: Final = b"null"
# The beginnings of escapes of ASCII letters and of the underscore.
ESCAPE: Final = b"\\u00"
ESCAPED_LETTERS: Final = (b"\\u004", b"\\u005", b"\\u006", b"\\u007")
FormScan = Callable[[bytes, int], int]
NO_MESSAGES: Final = re.compile(rb"null|\[[ \t\r\n]*+\]")


class RequestFields(msgspec.Struct, frozen=True):
    """What the body of a request asks for."""

    model: str | None = None  # as the client wrote it; None if not found
    keep_alive: float | None = None  # seconds, inf forever; None if absent or rejected
    num_ctx: int | None = None
    has_reload_option: bool = False  # an option that can cause a reload
    options: tuple[tuple[str, int | bool], ...] = ()  # the others of those options, by name
    is_empty: bool = False  # no prompt or messages: a preload, or with keep_alive 0 a stop
    stream: bool | None = None  # None if absent: the route's default applies
    has_rejected_keep_alive: bool = False  # in a form that the server answers with 400
    has_odd_num_ctx: bool = False  # given, and not a number above 0
    wants_usage: bool = False  # stream_options.include_usage, of OpenAI's API

    @property
    def is_stop(self) -> bool:
        """Whether this is what `ollama stop` sends."""
        return self.is_empty and self.keep_alive == 0


NOTHING: Final = RequestFields()
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(route: Route, body: bytes, *, complete: bool) -> RequestFields:
    """Read the beginning of a request's body; `complete` if that is all of it.

    Time is linear in the length, whatever the bytes. What follows the object is ignored, as the
    server does.
    """
    reader = BodyReader(route)
    if complete:
        return reader.read_whole(body)
    reader.feed(body)
    return reader.fields(complete=False)


class BodyReader:
    """Reads a request's body that comes in pieces."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._parts: list[bytes] | None = []  # None: the body is scanned as it comes
        self._size = 0
        self._form = FormReader() if route.multipart else None
        self._found = FieldReader()
        self._scanner: ObjectScanner | None = None  # most bodies need none

    def feed(self, data: bytes) -> int | None:
        """Read the next piece.

        Return the position in it of the brace that ends the object, if the body is scanned.
        """
        if self._parts is None:
            return self._scan(data)
        self._parts.append(data)
        self._size += len(data)
        if self._size > KEPT:
            self.scan()
        return None

    def scan(self) -> bytes:
        """Keep the body no longer, but scan it from here on. Return what was kept."""
        kept, self._parts = b"".join(self._parts or ()), None
        self._scan(kept)
        return kept

    def _scan(self, data: bytes) -> int | None:
        if self._form is not None:
            self._form.feed(data)
            return None
        if self._scanner is None:
            self._scanner = ObjectScanner(self._found)
        return self._scanner.feed(data)

    @property
    def has_members(self) -> bool:
        """Whether the scanned object has a member."""
        return self._scanner is not None and self._scanner.has_members

    def fields(self, *, complete: bool) -> RequestFields:
        """Return what the body asks for, as far as it came; `complete` if it came to its end."""
        if self._parts is not None:
            if complete:
                return self.read_whole(b"".join(self._parts))
            self.scan()
        if self._form is not None:
            return RequestFields(self._form.end())
        found = self._found
        is_closed = self._scanner is not None and self._scanner.is_closed
        if not self._route.native or (complete and not is_closed):  # 400
            return found.openai_fields()
        return found.fields(self._route, is_whole=complete)

    def read_whole(self, body: bytes) -> RequestFields:
        """Return what a complete body asks for. Nothing else of it was fed."""
        self._parts = None
        values = None if self._route.multipart else _distinct_values(body)
        if values is None:
            self._scan(body)
            return self.fields(complete=True)
        found = self._found
        for name, value in values:
            FIELDS[name](found, value)
        if not self._route.native:
            return found.openai_fields()
        return found.fields(self._route, is_whole=True)


def _distinct_values(body: bytes) -> list[tuple[str, bytes]] | None:
    """Return folded keys and values, or None if a field may occur twice or msgspec is stricter.

    Ten times faster than a scan. msgspec keeps the last of equal keys, which is not always what Go
    does; so no field's key may be in the body twice, nor an escape that could hide a key.
    """
    if ESCAPE in body and any(escape in body for escape in ESCAPED_LETTERS):
        return None
    try:
        values = _OBJECT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    found: dict[str, bytes] = {}
    for key, value in values.items():
        name = key if key in FIELDS else fold_text(key)
        if name not in FIELDS:
            continue
        if name in found or not key.isascii() or body.count(b'"%b"' % key.encode()) > 1:
            return None
        found[name] = bytes(value)
    return list(found.items())


class FieldReader:
    """Takes the values of a request's fields in order, as Go's decoder sets those of its struct."""

    def __init__(self) -> None:
        self.model: str | None = None
        self.stream: bool | None = None
        self.keep_alive: float | None = None
        self.has_rejected_keep_alive = False
        self.options: dict[str, Any] = {}
        self.has_rejected_options = False
        self.has_prompt = self.has_messages = self.wants_usage = False

    # -- for ObjectScanner -----------------------------------------------------------------------

    def has_field(self, path: tuple[str, ...], key: bytes) -> bool:
        """Return whether the value of a raw key is wanted."""
        if path == STREAM_OPTIONS:
            return fold(key) == "include_usage"
        return decode_string(key) in RELOADING if path else fold(key) in FIELDS

    def is_map(self, key: bytes) -> bool:
        """Return whether the members of an object are wanted one by one."""
        return (fold(key),) in (OPTIONS, STREAM_OPTIONS)

    def on_value(self, path: tuple[str, ...], key: bytes, raw: bytes, *, is_cut: bool) -> None:
        """Set a field. A value that is too long to be kept counts as above every limit."""
        if path == STREAM_OPTIONS:
            self.wants_usage = raw == b"true"
            return
        if path:
            name = decode_string(key) or ""
            self.options[name] = ENDLESS_OPTION if is_cut else _option(name, raw)
            return
        name = fold(key)
        if is_cut and name == "keep_alive":
            self.keep_alive = math.inf
        elif is_cut and name == "model":
            self.model = None  # longer than any name
        else:
            FIELDS[name](self, raw)

    # -- by field --------------------------------------------------------------------------------

    def on_model(self, raw: bytes) -> None:
        """Set the model; null has no effect on a string."""
        name = decode_string(raw) if len(raw) <= LONGEST_RAW_NAME else None
        if name is not None:
            self.model = name.strip() or None
        elif raw != NULL:
            self.model = None

    def on_stream(self, raw: bytes) -> None:
        """Set the pointer to a boolean; null makes it nil."""
        self.stream = {b"true": True, b"false": False}.get(raw)

    def on_keep_alive(self, raw: bytes) -> None:
        """Set the pointer to a duration. An error in any of several values rejects the request."""
        read = _known_keep_alive if len(raw) <= LONGEST_KNOWN else _keep_alive
        self.keep_alive, is_accepted = read(raw)
        self.has_rejected_keep_alive |= not is_accepted

    def on_options(self, raw: bytes) -> None:
        """Add to the map; null makes it nil. Anything else is rejected."""
        if raw[:1] == b"{":
            ObjectScanner(self, path=OPTIONS).feed(raw)
        else:
            self.options = {}
            self.has_rejected_options = raw != NULL

    def on_prompt(self, raw: bytes) -> None:
        """Set the prompt; null has no effect on a string."""
        if raw != NULL:
            self.has_prompt = raw != b'""'

    def on_messages(self, raw: bytes) -> None:
        """Set the messages; null makes the slice nil."""
        self.has_messages = NO_MESSAGES.fullmatch(raw) is None

    def on_stream_options(self, raw: bytes) -> None:
        """Set the pointer to the options of a stream; null makes it nil."""
        if raw[:1] == b"{":
            ObjectScanner(self, path=STREAM_OPTIONS).feed(raw)
        else:
            self.wants_usage = False

    def openai_fields(self) -> RequestFields:
        """Return the fields of a request that is not native, or not whole."""
        return RequestFields(self.model, stream=self.stream, wants_usage=self.wants_usage)

    def fields(self, route: Route, *, is_whole: bool) -> RequestFields:
        """Return the fields of a native request."""
        given, context = {}, None
        if self.options:
            given = {name: value for name, value in self.options.items() if value is not None}
            context = given.pop("num_ctx", None)
        content = {"/api/chat": self.has_messages, "/api/generate": self.has_prompt}
        return RequestFields(
            self.model,
            None if self.has_rejected_keep_alive else self.keep_alive,
            context if isinstance(context, int) and context > 0 else None,
            has_reload_option=bool(given) or context is not None,
            options=tuple(sorted(o for o in given.items() if not isinstance(o[1], _Rejected))),
            is_empty=is_whole and not content.get(route.label, True),
            stream=self.stream,
            has_rejected_keep_alive=self.has_rejected_keep_alive,
            has_odd_num_ctx=self.has_rejected_options
            or (context is not None and not (isinstance(context, int) and context > 0)),
        )


FIELDS: Final = {
    "model": FieldReader.on_model,
    "stream": FieldReader.on_stream,
    "keep_alive": FieldReader.on_keep_alive,
    "options": FieldReader.on_options,
    "prompt": FieldReader.on_prompt,
    "messages": FieldReader.on_messages,
    "stream_options": FieldReader.on_stream_options,
}


def _keep_alive(raw: bytes) -> tuple[float | None, bool]:
    """Return the seconds of a value, and whether the server accepts it."""
    try:
        return keepalive.parse(decode_scalar(raw)), True
    except (keepalive.KeepAliveError, ValueError):
        return None, False


_known_keep_alive: Final = lru_cache(maxsize=64)(_keep_alive)  # clients send few


class _Rejected:
    """The value of an option that the server answers with 400."""


def _option(name: str, raw: bytes) -> int | bool | _Rejected | None:
    """Return an option as `Options.FromMap` reads it: floats become integers."""
    try:
        value = decode_scalar(raw)
    except ValueError:
        return _Rejected()
    if value is None or (isinstance(value, bool) and name in FLAGS):
        return value
    if isinstance(value, float) and name not in FLAGS and -LARGEST_INT <= value < LARGEST_INT:
        return math.trunc(value)
    return _Rejected()


class FormReader:
    """Finds the first value of the form field `model`. Each byte is searched once."""

    def __init__(self) -> None:
        self._model: str | None = None
        self._scan: FormScan | None = self._find_field  # None: it was found
        self._carry = b""  # what the next piece may complete

    def feed(self, data: bytes) -> None:
        """Search the next piece."""
        text, self._carry, at = self._carry + data, b"", 0
        while at < len(text) and self._scan is not None:
            at = self._scan(text, at)

    def end(self) -> str | None:
        """Return the value, also if the form was cut behind its beginning."""
        if self._scan == self._read_value:
            self._set(self._carry)
        return self._model

    def _set(self, value: bytes) -> None:
        self._scan = None if value else self._find_field
        if value and len(value) < LONGEST_RAW_NAME:
            self._model = value.decode("utf-8", "replace")

    def _find_field(self, text: bytes, at: int) -> int:
        field = FORM_FIELD.search(text, at)
        if field is None:
            self._carry = text[max(at, len(text) - LONGEST_FIELD) :]
            return len(text)
        self._scan = self._find_blank
        return field.end()

    def _find_blank(self, text: bytes, at: int) -> int:
        blank = text.find(BLANK, at)
        if blank < 0:
            self._carry = text[max(at, len(text) - len(BLANK) + 1) :]
            return len(text)
        self._scan = self._read_value
        return blank + len(BLANK)

    def _read_value(self, text: bytes, at: int) -> int:
        left = text[at : at + LONGEST_RAW_NAME]
        value = left.partition(b"\r")[0].partition(b"\n")[0]
        if len(value) == len(left) < LONGEST_RAW_NAME:
            self._carry = left
            return len(text)
        self._set(value)
        return at + len(value)
