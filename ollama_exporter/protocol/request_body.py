# SPDX-License-Identifier: Apache-2.0
"""Reads model, keep_alive and options from the beginning of a request's body.

The body passes unchanged. Its beginning is kept until it has been read, and no longer.
"""

import re
from contextlib import suppress
from itertools import islice
from typing import Any, Final

import msgspec

from ollama_exporter.protocol import keepalive
from ollama_exporter.protocol.json_edit import TOKEN
from ollama_exporter.protocol.routes import Route

PEEK: Final = 1 << 20  # bytes of a body that are read; images make bodies of many MB
# Options whose change makes the server reload the model (`needsReload`, api/types.go).
RELOADING: Final = frozenset(
    {
        *("num_ctx", "num_batch", "num_gpu", "main_gpu"),
        *("use_mmap", "num_thread", "draft_num_predict"),
    }
)
# Tokens of a cut body that are read: this bounds the work to 30 ms of the event loop.
MOST_TOKENS: Final = 1 << 17
# The form field `model`, but not the end of `filename="model"`.
FORM_FIELD: Final = re.compile(rb'(?<![a-z])name=(?:"model"|model(?=[\s;]))', re.IGNORECASE)
BLANK: Final = b"\r\n\r\n"  # ends the headers of a part
LONGEST_FORM_MODEL: Final = 256  # bytes


class RequestFields(msgspec.Struct, frozen=True):
    """What the body of a request asks for."""

    model: str | None = None  # as the client wrote it; None if not found
    keep_alive: float | None = None  # seconds, inf for ever; None if absent or invalid
    num_ctx: int | None = None
    has_reload_option: bool = False  # an option that can cause a reload
    options: tuple[tuple[str, int | bool], ...] = ()  # the others of those options, by name
    is_empty: bool = False  # no prompt or messages: a preload, or with keep_alive 0 a stop
    stream: bool | None = None  # None if absent: the route's default applies

    @property
    def is_stop(self) -> bool:
        """Return whether this is what `ollama stop` sends."""
        return self.is_empty and self.keep_alive == 0


class _Json(msgspec.Struct):
    model: Any = None
    name: Any = None
    keep_alive: Any = None
    options: Any = None
    stream: Any = None
    prompt: msgspec.Raw = msgspec.Raw()  # not decoded: long, and private
    messages: msgspec.Raw = msgspec.Raw()


_JSON: Final = msgspec.json.Decoder(_Json)
_EMPTY: Final = frozenset({b"", b'""', b"[]", b"null"})
NOTHING: Final = RequestFields()


def read(route: Route, body: bytes, *, complete: bool) -> RequestFields:
    """Read the beginning of a request's body; `complete` if that is all of it."""
    if route.multipart:
        return RequestFields(_form_model(body))
    if not complete:
        body = _whole_members(body)
    try:
        fields = _JSON.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return NOTHING
    model = fields.model if isinstance(fields.model, str) else fields.name
    return RequestFields(
        model if isinstance(model, str) and model else None,
        stream=fields.stream if isinstance(fields.stream, bool) else None,
        **(_native(route, fields, complete=complete) if route.native else {}),
    )


def _native(route: Route, fields: _Json, *, complete: bool) -> dict[str, Any]:
    seconds = None
    with suppress(keepalive.KeepAliveError):  # the server rejects it with 400
        seconds = keepalive.parse(fields.keep_alive)
    options = fields.options if isinstance(fields.options, dict) else {}
    context = options.get("num_ctx")
    content = fields.messages if route.label == "/api/chat" else fields.prompt
    stoppable = route.label in ("/api/chat", "/api/generate")
    return {
        "keep_alive": seconds,
        "num_ctx": context if isinstance(context, int) and context > 0 else None,
        "has_reload_option": any(options.get(name) is not None for name in RELOADING),
        "options": tuple(
            (name, value)
            for name in sorted(RELOADING - {"num_ctx"})
            if isinstance(value := options.get(name), int)
        ),
        "is_empty": complete and stoppable and bytes(content) in _EMPTY,
    }


def _form_model(body: bytes) -> str | None:
    """Return the first value of the form field `model`. Each byte is searched once."""
    at = 0
    while field := FORM_FIELD.search(body, at):
        blank = body.find(BLANK, field.end())
        if blank < 0:
            return None
        at = blank + len(BLANK)
        value = body[at : at + LONGEST_FORM_MODEL].partition(b"\r")[0].partition(b"\n")[0]
        if value:
            return value.decode("utf-8", "replace")
    return None


def _whole_members(beginning: bytes) -> bytes:
    """Return an object of the top-level members that are complete in the beginning of a body.

    One pass: time is linear in the length, whatever the bytes.
    """
    depth, end = 0, 0
    for token in islice(TOKEN.finditer(beginning), MOST_TOKENS):
        mark = token[0]
        if mark in (b"{", b"["):
            depth += 1
        elif mark in (b"}", b"]"):
            depth -= 1
        elif mark == b"," and depth == 1:
            end = token.start()
    return beginning[:end] + b"}" if end else b""
