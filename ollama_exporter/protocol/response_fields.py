# SPDX-License-Identifier: Apache-2.0
"""What the end of an answer says, in each of the shapes that the server speaks.

Durations become seconds here; absent ones stay None, because the server omits zeros as well.
"""

from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ollama_exporter.protocol.routes import Body

Number = int | float | None


class ResponseEnd(StrEnum):
    """How an answer ended, as far as its own bytes tell."""

    COMPLETE = "complete"  # its terminal marker came, and nothing behind it
    TRAILING = "trailing"  # records came behind the final one
    ERROR = "error"  # it carries an error, whatever its status says
    UNFINISHED = "unfinished"  # no terminal marker, or done:false
    UNREAD = "unread"  # compressed, too long, or of a shape that is not looked into


class ResponseFields(msgspec.Struct, frozen=True):
    """What the bytes of one answer said. Durations in seconds, None: not said."""

    ending: ResponseEnd
    model: str | None = None  # as the answer spells it
    remote: bool = False  # it ran on another host, so nothing was loaded here
    finish: str | None = None  # why it ended, in the server's own word
    error: str | None = None  # to be classified, never to be logged: it may quote the request
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
    """The fields of all shapes; no two give one name different types."""

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
UNREAD: Final = ResponseFields(ResponseEnd.UNREAD)
UNFINISHED: Final = ResponseFields(ResponseEnd.UNFINISHED)


def record(line: bytes) -> _Record | None:
    """Decode one record; None: it is not one."""
    try:
        return _RECORD.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def inner(line: bytes) -> _Record | None:
    """Decode an event that wraps its record as `response` or `message`."""
    try:
        event = _EVENT.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return event.response or event.message


def whole(body: Body, content: bytes) -> ResponseFields:
    """Read an answer that is one JSON object."""
    found = record(content)
    if found is None:
        return UNFINISHED if body is not Body.OPAQUE else UNREAD
    reading = of(found)
    if reading.ending is ResponseEnd.ERROR:
        return reading
    finished = {
        Body.NATIVE: found.done is True,
        Body.OPENAI: bool(found.choices),
        Body.RESPONSES: found.status in ("completed", "incomplete"),
        Body.ANTHROPIC: found.stop_reason is not None,
    }.get(body, True)
    return reading if finished else replace(reading, ending=ResponseEnd.UNFINISHED)


def of(found: _Record) -> ResponseFields:
    """Read one record of any shape; its ending is an error or complete."""
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
        case {"message": str(text)}:  # OpenAI's and Anthropic's shape
            return text
        case str(text):
            return text
        case _:
            return "error"


def _seconds(nanoseconds: Number) -> float | None:
    return None if nanoseconds is None or nanoseconds < 0 else nanoseconds / 1e9


def _first(*counts: int | None) -> int | None:
    return next((count for count in counts if count is not None and count >= 0), None)
