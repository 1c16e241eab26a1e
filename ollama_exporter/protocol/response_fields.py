# SPDX-License-Identifier: Apache-2.0
"""Reads tokens, durations and errors from the last record of an answer, in each API's format.

Durations become seconds here. An absent one stays None: the server omits zeros too.
"""

from contextlib import suppress
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec.structs import fields, replace

from ollama_exporter.protocol.routes import Body

Number = int | float | None
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
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
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
    done: bool | None = None
    done_reason: str | None = None
    total_duration: Number = None
    load_duration: Number = None
    prompt_eval_duration: Number = None
    eval_duration: Number = None
    prompt_eval_count: int | None = None
    prompt_eval_cached_count: int | None = None
    eval_count: int | None = None
    # OpenAI and Anthropic
    usage: _Usage | None = None
    choices: list[_Choice] | None = None
    stop_reason: str | None = None
    delta: _Delta | None = None
    status: str | None = None
    incomplete_details: _Incomplete | None = None


class _Event(msgspec.Struct):
    response: _Record | None = None
    message: _Record | None = None


_RECORD: Final = msgspec.json.Decoder(_Record)
_EVENT: Final = msgspec.json.Decoder(_Event)
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_FIELD_DECODERS: Final[dict[str, "msgspec.json.Decoder[Any]"]] = {
    field.name: msgspec.json.Decoder(field.type) for field in fields(_Record)
}
UNREAD: Final = ResponseFields(ResponseEnd.UNREAD)
UNFINISHED: Final = ResponseFields(ResponseEnd.UNFINISHED)


def decode_record(line: bytes) -> _Record | None:
    """Decode one record, or return None if it is not one. An odd field counts as absent."""
    try:
        return _RECORD.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_fields(line)


def _decode_fields(line: bytes) -> _Record | None:
    """Decode a record field by field."""
    try:
        raw = _FIELDS.decode(line.decode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError):
        return None
    found: dict[str, Any] = {}
    for name, decoder in _FIELD_DECODERS.items():
        if name in raw:
            with suppress(msgspec.DecodeError, RecursionError):
                found[name] = decoder.decode(raw[name])
    return _Record(**found)


def decode_event(line: bytes) -> _Record | None:
    """Decode an event that has its record in `response` or `message`."""
    try:
        event = _EVENT.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return event.response or event.message


def read_object(body: Body, content: bytes) -> ResponseFields:
    """Read an answer that is one JSON object."""
    found = decode_record(content)
    if found is None:
        # A beginning of JSON was cut. Anything else is a format that we do not know.
        is_cut = body is not Body.OPAQUE and content.lstrip()[:1] in (b"", b"{")
        return UNFINISHED if is_cut else UNREAD
    read = fields_of(found)
    if read.ending is ResponseEnd.ERROR:
        return read
    finished = {
        Body.NATIVE: found.done is True,
        Body.OPENAI: bool(found.choices),
        Body.RESPONSES: found.status in ("completed", "incomplete"),
        Body.ANTHROPIC: found.stop_reason is not None,
    }.get(body, True)
    return read if finished else replace(read, ending=ResponseEnd.UNFINISHED)


def fields_of(found: _Record) -> ResponseFields:
    """Return the fields of a final record of any format; its ending is ERROR or COMPLETE."""
    usage = found.usage or _Usage()
    details = usage.prompt_tokens_details or usage.input_tokens_details or _TokenDetails()
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
        return found.choices[0].finish_reason
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


def _first(*counts: int | None) -> int | None:
    return next((n for n in counts if n is not None and 0 <= n <= MOST_TOKENS), None)
