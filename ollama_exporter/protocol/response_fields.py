# SPDX-License-Identifier: Apache-2.0
"""Reads tokens, durations and errors from the last record of an answer, in each API's format.

Durations become seconds here. An absent one stays None: the server omits zeros too.
"""

from contextlib import suppress
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import fields, replace

from ollama_exporter.protocol.json_scan import SEPARATORS, fold_text
from ollama_exporter.protocol.json_stream import is_beginning
from ollama_exporter.protocol.routes import Body

Number = int | float | None
S = TypeVar("S", bound=msgspec.Struct)
# A week in nanoseconds and a billion tokens: beyond it, a value is not a measurement, and one such
# value would make a sum worthless for ever.
LONGEST_DURATION: Final = 7 * 86_400 * 10**9
MOST_TOKENS: Final = 10**9


class ResponseEnd(StrEnum):
    """How the body of an answer ended."""

    COMPLETE = "complete"  # with its final record
    TRAILING = "trailing"  # records followed the final one
    ERROR = "error"  # with an error, whatever the status
    UNFINISHED = "unfinished"  # without a final record, or with done:false
    UNREAD = "unread"  # compressed, too long, or of an unknown format


class ResponseFields(msgspec.Struct, frozen=True):
    """What the body of an answer says. Durations are in seconds; None if absent."""

    ending: ResponseEnd
    model: str | None = None  # in the spelling of the answer
    remote: bool = False  # a cloud model: nothing was loaded on this server
    finish: str | None = None  # the finish reason, in the server's own word
    error: str | None = None  # never logged: it may quote the prompt
    total: float | None = None
    load: float | None = None
    prompt_eval: float | None = None
    eval: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None


class _TokenDetails(msgspec.Struct):
    cached_tokens: Number = None


class _Usage(msgspec.Struct):
    prompt_tokens: Number = None
    completion_tokens: Number = None
    input_tokens: Number = None
    output_tokens: Number = None
    cache_read_input_tokens: Number = None
    prompt_tokens_details: _TokenDetails | None = None
    input_tokens_details: _TokenDetails | None = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Delta(msgspec.Struct):
    stop_reason: str | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Record(msgspec.Struct):
    """The fields of all formats. No two formats use one name for different types."""

    model: str | None = None
    error: Any = None
    remote_host: str | None = None
    remote_model: str | None = None
    # native
    done: Any = None  # a boolean; some routers make a number or a text of it
    done_reason: str | None = None
    total_duration: Number = None
    load_duration: Number = None
    prompt_eval_duration: Number = None
    eval_duration: Number = None
    prompt_eval_count: Number = None
    prompt_eval_cached_count: Number = None
    eval_count: Number = None
    # OpenAI and Anthropic
    usage: _Usage | None = None
    choices: list[_Choice] | None = None
    stop_reason: str | None = None
    delta: _Delta | None = None
    status: str | None = None
    incomplete_details: _Incomplete | None = None
    type: str | None = None  # of an event

    @property
    def is_done(self) -> bool:
        """Whether it is the final record of a native answer."""
        return self.done is True or self.done in (1, "true")

    @property
    def finish_reason(self) -> str | None:
        """The finish reason of its choices, if it has one."""
        return next((each.finish_reason for each in self.choices or () if each.finish_reason), None)


class _Event(msgspec.Struct):
    response: _Record | None = None
    message: _Record | None = None


_NO_USAGE: Final = _Usage()
_NO_DETAILS: Final = _TokenDetails()
_RECORD: Final = msgspec.json.Decoder(_Record)
_EVENT: Final = msgspec.json.Decoder(_Event)
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
# Objects inside a record; of `choices`, a list, the first one.
_INNER: Final[dict[str, type[msgspec.Struct]]] = {
    "usage": _Usage,
    "prompt_tokens_details": _TokenDetails,
    "input_tokens_details": _TokenDetails,
    "choices": _Choice,
    "delta": _Delta,
    "incomplete_details": _Incomplete,
}
_KINDS: Final[tuple[type[msgspec.Struct], ...]] = (_Record, *_INNER.values())
_DECODERS: Final[dict[type[msgspec.Struct], dict[str, "msgspec.json.Decoder[Any]"]]] = {
    kind: {field.name: msgspec.json.Decoder(field.type) for field in fields(kind)}
    for kind in _KINDS
}
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# The events of Anthropic's API that are not its end.
_MESSAGE_EVENTS: Final = frozenset(
    {
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
        *("ping", "message_delta"),
    }
)
UNREAD: Final = ResponseFields(ResponseEnd.UNREAD)
UNFINISHED: Final = ResponseFields(ResponseEnd.UNFINISHED)


def decode_record(line: bytes) -> _Record | None:
    """Decode one record, or return None if it is not one. An odd field counts as absent."""
    try:
        return _RECORD.decode(line)
    except _UNREADABLE:
        return decode_loosely(line)


def decode_loosely(line: bytes) -> _Record | None:
    """Decode a record field by field, with names in any case and separators around it."""
    text = line.strip(SEPARATORS).decode("utf-8", "replace")
    try:
        return _decode_fields(_Record, msgspec.Raw(text.encode()))
    except _UNREADABLE:
        return None


def _decode_fields(kind: type[S], raw: msgspec.Raw) -> S:
    written = _FIELDS.decode(raw)
    by_name = {fold_text(key): value for key, value in written.items()} | written
    found: dict[str, Any] = {}
    for name, decoder in _DECODERS[kind].items():
        value = by_name.get(name)
        if value is None:
            continue
        try:
            found[name] = decoder.decode(value)
        except _UNREADABLE:
            with suppress(*_UNREADABLE):
                found[name] = _decode_inner(name, value)
            continue
        if name in _INNER and found[name] is not None:
            found[name] = _decode_inner(name, value)
    return kind(**found)


def _decode_inner(name: str, raw: msgspec.Raw) -> Any:  # noqa: ANN401 - the field's type
    inner = _INNER.get(name)
    if inner is None:
        return None
    if name == "choices":
        return [_decode_fields(inner, each) for each in _ITEMS.decode(raw)[:1]]
    return _decode_fields(inner, raw)


def decode_event(line: bytes) -> _Record | None:
    """Decode an event that has its record in `response` or `message`."""
    try:
        event = _EVENT.decode(line)
    except _UNREADABLE:
        return None
    return event.response or event.message


def read_object(body: Body, content: bytes) -> ResponseFields:
    """Read an answer that is one JSON object."""
    found = decode_record(content)
    if found is None:
        # A beginning of JSON was cut. Anything else is a format that we do not know.
        is_cut = body is not Body.OPAQUE and is_beginning(content.strip(SEPARATORS))
        return UNFINISHED if is_cut else UNREAD
    if not (found.error or _is_finished(body, found)):
        found = decode_loosely(content) or found
    read = fields_of(found)
    if read.ending is ResponseEnd.ERROR or _is_finished(body, found):
        return read
    return replace(read, ending=unfinished_end(body, found))


def _is_finished(body: Body, found: _Record) -> bool:
    match body:
        case Body.NATIVE:
            return found.is_done
        case Body.OPENAI:
            return bool(found.choices)
        case Body.RESPONSES:
            return found.status in ("completed", "incomplete")
        case Body.ANTHROPIC:
            return found.stop_reason is not None
        case _:
            return True


def unfinished_end(body: Body, last: _Record) -> ResponseEnd:
    """Return how an answer ended whose last record is not final.

    It is unfinished if that record says so. Without the words for it, it is unread: a program in
    between wrote it anew.
    """
    if body is Body.NATIVE:
        says_so = last.done is not None
    elif body is Body.OPENAI:
        says_so = last.choices is not None
    else:
        kind = last.type or ""
        says_so = (
            last.status == "in_progress" or kind.startswith("response.") or kind in _MESSAGE_EVENTS
        )
    return ResponseEnd.UNFINISHED if says_so else ResponseEnd.UNREAD


def fields_of(found: _Record) -> ResponseFields:
    """Return the fields of a final record of any format; its ending is ERROR or COMPLETE."""
    usage = found.usage or _NO_USAGE
    details = usage.prompt_tokens_details or usage.input_tokens_details or _NO_DETAILS
    error = _error_text(found.error)
    return ResponseFields(
        ResponseEnd.COMPLETE if error is None else ResponseEnd.ERROR,
        model=found.model or None,
        remote=bool(found.remote_host or found.remote_model),
        finish=_finish(found),
        error=error,
        total=_seconds(found.total_duration),
        load=_seconds(found.load_duration),
        prompt_eval=_seconds(found.prompt_eval_duration),
        eval=_seconds(found.eval_duration),
        prompt_tokens=_first(found.prompt_eval_count, usage.prompt_tokens, usage.input_tokens),
        cached_tokens=_first(
            found.prompt_eval_cached_count, details.cached_tokens, usage.cache_read_input_tokens
        ),
        output_tokens=_first(found.eval_count, usage.completion_tokens, usage.output_tokens),
    )


def _finish(found: _Record) -> str | None:
    if found.done_reason or found.stop_reason:
        return found.done_reason or found.stop_reason
    if found.choices:
        return found.finish_reason
    if found.delta is not None:
        return found.delta.stop_reason
    if found.incomplete_details is not None:
        return found.incomplete_details.reason
    return found.status


def _error_text(error: object) -> str | None:
    match error:
        case None | "":
            return None
        case {"message": str(text)}:  # OpenAI and Anthropic
            return text
        case str(text):
            return text
        case _:
            return "error"


def _seconds(nanoseconds: Number) -> float | None:
    if nanoseconds is None or not 0 <= nanoseconds <= LONGEST_DURATION:
        return None
    return nanoseconds / 1e9


def _first(*counts: Number) -> int | None:
    """Return the first whole number of tokens."""
    for n in counts:
        if n is not None and 0 <= n <= MOST_TOKENS and n % 1 == 0:
            return int(n)
    return None
