# SPDX-License-Identifier: Apache-2.0
"""Reads model, keep_alive and options from the beginning of a request's body.

It reads what the server's decoder would: Go's encoding/json into the request structs of
api/types.go, then `Options.FromMap`. The body passes unchanged. Its beginning is kept until it has
been read, and no longer.
"""

import math
import re
from typing import Any, Final

import msgspec

from ollama_exporter.protocol import keepalive
from ollama_exporter.protocol.json_scan import (
    decode_scalar,
    decode_string,
    fold,
    fold_text,
    scan_object,
)
from ollama_exporter.protocol.model_names import MAX_LENGTH
from ollama_exporter.protocol.routes import Route

PEEK: Final = 1 << 20  # bytes of a body that are read; images make bodies of many MB
LARGEST_INT: Final = 2.0**63  # Go's int64; a larger number becomes negative on amd64
LONGEST_RAW_NAME: Final = 6 * MAX_LENGTH  # bytes, as each character may be an escape
# Options whose change makes the server reload the model (`needsReload`, api/types.go).
FLAGS: Final = frozenset({"use_mmap"})
RELOADING: Final = FLAGS | {
    *("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "draft_num_predict")
}

# The form field `model`, but not the end of `filename="model"`.
FORM_FIELD: Final = re.compile(rb'(?<![a-z])name=(?:"model"|model(?=[\s;]))', re.IGNORECASE)
BLANK: Final = b"\r\n\r\n"  # ends the headers of a part
NULL: Final = b"null"
# The beginnings of escapes of ASCII letters and of the underscore.
ESCAPE: Final = b"\\u00"
ESCAPED_LETTERS: Final = (b"\\u004", b"\\u005", b"\\u006", b"\\u007")
NO_MESSAGES: Final = re.compile(rb"null|\[[ \t\r\n]*+\]")


class RequestFields(msgspec.Struct, frozen=True):
    """What the body of a request asks for."""

    model: str | None = None  # as the client wrote it; None if not found
    keep_alive: float | None = None  # seconds, inf for ever; None if absent or rejected
    num_ctx: int | None = None
    has_reload_option: bool = False  # an option that can cause a reload
    options: tuple[tuple[str, int | bool], ...] = ()  # the others of those options, by name
    is_empty: bool = False  # no prompt or messages: a preload, or with keep_alive 0 a stop
    stream: bool | None = None  # None if absent: the route's default applies
    has_rejected_keep_alive: bool = False  # in a form that the server answers with 400

    @property
    def is_stop(self) -> bool:
        """Return whether this is what `ollama stop` sends."""
        return self.is_empty and self.keep_alive == 0


NOTHING: Final = RequestFields()
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(route: Route, body: bytes, *, complete: bool) -> RequestFields:
    """Read the beginning of a request's body; `complete` if that is all of it.

    Time is linear in the length, whatever the bytes. What follows the object is ignored, as the
    server does.
    """
    if route.multipart:
        return RequestFields(_form_model(body))
    values: list[tuple[str, bytes]] | None = _distinct_values(body) if complete else None
    is_closed = values is not None
    if values is None:
        scanned = scan_object(body)
        if scanned is None:
            return NOTHING
        is_closed = scanned.is_closed
        values = [(fold(key), body[begin:end]) for key, begin, end in scanned.members]
    reader = _FieldReader()
    for name, value in values:
        set_field = FIELDS.get(name)
        if set_field is not None:
            set_field(reader, value)
    if not route.native or (complete and not is_closed):  # the server answers 400
        return RequestFields(reader.model, stream=reader.stream)
    return reader.fields(route, is_whole=complete)


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
    found = [(fold_text(key), key, value) for key, value in values.items()]
    fields = [each for each in found if each[0] in FIELDS]
    if len({name for name, _, _ in fields}) < len(fields):
        return None
    if not all(key.isascii() and body.count(b'"%b"' % key.encode()) == 1 for _, key, _ in fields):
        return None
    return [(name, bytes(value)) for name, _, value in fields]


class _FieldReader:
    """Takes the values of a request's fields in order, as Go's decoder sets those of its struct."""

    def __init__(self) -> None:
        self.model: str | None = None
        self.stream: bool | None = None
        self.keep_alive: float | None = None
        self.has_rejected_keep_alive = False
        self.options: dict[str, Any] = {}
        self.has_prompt = self.has_messages = False

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
        try:
            self.keep_alive = keepalive.parse(decode_scalar(raw))
        except (keepalive.KeepAliveError, ValueError):
            self.keep_alive = None
            self.has_rejected_keep_alive = True

    def on_options(self, raw: bytes) -> None:
        """Add to the map; null makes it nil."""
        scanned = scan_object(raw)
        if scanned is None:
            self.options = {}
            return
        for key, begin, end in scanned.members:
            name = decode_string(key)
            if name in RELOADING:
                self.options[name] = _option(name, raw[begin:end])

    def on_prompt(self, raw: bytes) -> None:
        """Set the prompt; null has no effect on a string."""
        if raw != NULL:
            self.has_prompt = raw != b'""'

    def on_messages(self, raw: bytes) -> None:
        """Set the messages; null makes the slice nil."""
        self.has_messages = NO_MESSAGES.fullmatch(raw) is None

    def fields(self, route: Route, *, is_whole: bool) -> RequestFields:
        """Return the fields of a native request."""
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
        )


FIELDS: Final = {
    "model": _FieldReader.on_model,
    "stream": _FieldReader.on_stream,
    "keep_alive": _FieldReader.on_keep_alive,
    "options": _FieldReader.on_options,
    "prompt": _FieldReader.on_prompt,
    "messages": _FieldReader.on_messages,
}


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


def _form_model(body: bytes) -> str | None:
    """Return the first value of the form field `model`. Each byte is searched once."""
    at = 0
    while field := FORM_FIELD.search(body, at):
        blank = body.find(BLANK, field.end())
        if blank < 0:
            return None
        at = blank + len(BLANK)
        value = body[at : at + LONGEST_RAW_NAME].partition(b"\r")[0].partition(b"\n")[0]
        if value:
            return value.decode("utf-8", "replace") if len(value) < LONGEST_RAW_NAME else None
    return None
