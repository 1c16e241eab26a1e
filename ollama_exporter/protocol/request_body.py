# SPDX-License-Identifier: Apache-2.0
"""What a request asks for, read from the first bytes of its body: model, keep_alive, options.

The body itself is passed on as it is; only its beginning is kept, and only until it was read.
"""

import re
from contextlib import suppress
from itertools import islice
from typing import Any, Final

import msgspec

from ollama_exporter.protocol import keepalive
from ollama_exporter.protocol.json_edit import TOKEN
from ollama_exporter.protocol.routes import Route

PEEK: Final = 1 << 20  # bytes of a body that are looked at; images make bodies of many MB
# Options that make a new runner when they differ (`needsReload`, api/types.go).
RELOADING: Final = frozenset(
    {
        *("num_ctx", "num_batch", "num_gpu", "main_gpu"),
        *("use_mmap", "num_thread", "draft_num_predict"),
    }
)
# Structural tokens of a cut body that are looked at: 30 ms of the event loop at worst.
MOST_TOKENS: Final = 1 << 17
# The field `model` of a form, not the end of `filename="model"`.
FORM_FIELD: Final = re.compile(rb'(?<![a-z])name=(?:"model"|model(?=[\s;]))', re.IGNORECASE)
BLANK: Final = b"\r\n\r\n"  # ends the head of a part
LONGEST_FORM_MODEL: Final = 256  # bytes


class RequestFields(msgspec.Struct, frozen=True):
    """What is known of a request from its body."""

    model: str | None = None  # as the client wrote it; None: not found
    keep_alive: float | None = None  # seconds, inf for ever, None: absent, or refused by the server
    num_ctx: int | None = None
    has_reload_option: bool = False  # it names an option that can force a reload
    options: tuple[tuple[str, int | bool], ...] = ()  # those of them besides num_ctx, by name
    is_empty: bool = False  # no prompt, no messages: a preload or, with keep_alive 0, a stop
    stream: bool | None = None  # None: absent, so the route's default

    @property
    def is_stop(self) -> bool:
        """Tell whether this is what `ollama stop` sends."""
        return self.is_empty and self.keep_alive == 0


class _Json(msgspec.Struct):
    model: Any = None
    name: Any = None
    keep_alive: Any = None
    options: Any = None
    stream: Any = None
    prompt: msgspec.Raw = msgspec.Raw()  # not decoded: it is long, and none of our business
    messages: msgspec.Raw = msgspec.Raw()


_JSON: Final = msgspec.json.Decoder(_Json)
_EMPTY: Final = frozenset({b"", b'""', b"[]", b"null"})
NOTHING: Final = RequestFields()


def read(route: Route, body: bytes, *, complete: bool) -> RequestFields:
    """Read the beginning of a request's body; `complete`: that is all of it."""
    if route.multipart:
        return RequestFields(_form_model(body))
    if not complete:
        body = _closed(body)
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
    with suppress(keepalive.KeepAliveError):  # the server refuses it: 400, no runner is asked
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
    """Return the first value of the field `model`; each byte is searched once."""
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


def _closed(beginning: bytes) -> bytes:
    """Return an object of the whole top-level members in the beginning of a longer one.

    The limit cuts off its last member. One pass: time grows with the length, whatever the bytes.
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
