# SPDX-License-Identifier: Apache-2.0
"""The OpenAI routes `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/models`.

They cannot set keep_alive or options. Answers have token counts and no durations.
"""

from typing import Final

from ollama_exporter.simulator import gojson, http
from ollama_exporter.simulator.answers import GeneratedAnswer, Job, answer
from ollama_exporter.simulator.calls import (
    MISSING,
    MISSING_EMBED,
    ApiError,
    Call,
    body_of,
    field,
    objects,
    plan,
    resolve,
)
from ollama_exporter.simulator.context import SimulatorContext
from ollama_exporter.simulator.native import embedded, normalised, texts_of

SSE: Final = "text/event-stream"
FINGERPRINT: Final = "fp_ollama"
_ERROR_TYPES: Final = {400: "invalid_request_error", 404: "not_found_error"}
_NO_USAGE: Final = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def error_body(error: ApiError) -> bytes:
    """Write an error as OpenAI's API does."""
    kind = _ERROR_TYPES.get(error.status, "api_error")
    body = {"message": error.text, "type": kind, "param": None, "code": None}
    return gojson.line({"error": body})


def call_of(server: SimulatorContext, body: gojson.GoObject, missing: str = MISSING) -> Call:
    """Read the model, which is all that the scheduler needs. Raises ApiError."""
    spelling = field(body, "model", str, "")
    name, manifest = resolve(server.library, spelling, missing)
    return Call(spelling=spelling, name=name, manifest=manifest, options={})


def usage(result: GeneratedAnswer) -> dict[str, int]:
    """Count the tokens of an answer."""
    prompt, completion = result.plan.prompt_tokens, len(result.pieces)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def data(value: object) -> bytes:
    """Write one server-sent event."""
    return b"data: " + gojson.dumps(value) + b"\n\n"


class _Voice:
    """What both formats of completions share."""

    stream_type = SSE
    whole_type = http.JSON
    cache_control = False

    def __init__(self, server: SimulatorContext, call: Call, *, with_usage: bool) -> None:
        self._call = call
        self._created = int(server.server_clock())
        self._with_usage = with_usage

    def opening(self, result: GeneratedAnswer) -> list[bytes]:  # noqa: ARG002 - other voices need it
        """Return nothing."""
        return []

    def failed(self, error: ApiError) -> bytes:
        """Write an error."""
        return error_body(error)


class ChatVoice(_Voice):
    """`/v1/chat/completions`."""

    def __init__(self, server: SimulatorContext, call: Call, *, with_usage: bool) -> None:
        super().__init__(server, call, with_usage=with_usage)
        self._id = server.ident("chatcmpl-", 1000)
        self._first = True

    def _record(self, kind: str, choices: list[object], model: str) -> dict[str, object]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }

    def _chunk(
        self, delta: dict[str, str] | None, reason: str | None = None, *, model: str | None = None
    ) -> dict[str, object]:
        choices: list[object] = []
        if delta is not None:
            choices.append({"index": 0, "delta": delta, "finish_reason": reason})
        spelling = self._call.spelling if model is None else model
        return self._record("chat.completion.chunk", choices, spelling)

    def piece(self, text: str) -> bytes:
        """Write one event. The first one has the role."""
        role = {"role": "assistant"} if self._first else {}
        self._first = False
        return data(self._chunk(role | {"content": text}))

    def closing(self, result: GeneratedAnswer) -> list[bytes]:
        """Write the finish, the usage if the client wants it, and the end mark, in one chunk."""
        last = data(self._chunk({}, result.reason))
        if self._with_usage:
            last += data(self._chunk(None) | {"usage": usage(result)})
        return [last + b"data: [DONE]\n\n"]

    def broken(self, text: str) -> list[bytes]:  # noqa: ARG002 - the server swallows it
        """Write an empty event without model, finish_reason or end mark, as the server does."""
        return [data(self._chunk({"content": ""}, model=""))]

    def whole(self, result: GeneratedAnswer) -> bytes:
        """Write the whole completion."""
        message = {"role": "assistant", "content": result.text}
        choice = {"index": 0, "message": message, "finish_reason": result.reason or None}
        record = self._record("chat.completion", [choice], self._call.spelling)
        return gojson.line(record | {"usage": usage(result)})


class CompletionVoice(_Voice):
    """`/v1/completions`."""

    def __init__(self, server: SimulatorContext, call: Call, *, with_usage: bool) -> None:
        super().__init__(server, call, with_usage=with_usage)
        self._id = server.ident("cmpl-", 1000)

    def _record(
        self, choices: list[object], counts: dict[str, int] | None, model: str | None = None
    ) -> dict[str, object]:
        record: dict[str, object] = {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "choices": choices,
            "model": self._call.spelling if model is None else model,
            "system_fingerprint": FINGERPRINT,
        }
        return record if counts is None else record | {"usage": counts}

    def _chunk(self, text: str, reason: str | None, model: str | None = None) -> bytes:
        # if the client wants usage, all events but the last have one of zeros
        counts = _NO_USAGE if self._with_usage else None
        choice = {"text": text, "index": 0, "finish_reason": reason}
        return data(self._record([choice], counts, model))

    def piece(self, text: str) -> bytes:
        """Write one event."""
        return self._chunk(text, None)

    def closing(self, result: GeneratedAnswer) -> list[bytes]:
        """Write the finish, the usage if the client wants it, and the end mark, in one chunk."""
        last = self._chunk("", result.reason)
        if self._with_usage:
            last += data(self._record([], usage(result)))
        return [last + b"data: [DONE]\n\n"]

    def broken(self, text: str) -> list[bytes]:  # noqa: ARG002 - the server swallows it
        """Write an empty event without model, finish_reason or end mark, as the server does."""
        return [self._chunk("", None, "")]

    def whole(self, result: GeneratedAnswer) -> bytes:
        """Write the whole completion."""
        choice = {"text": result.text, "index": 0, "finish_reason": result.reason or None}
        record = self._record([choice], None)
        record["choices"] = record.pop("choices")  # after the model here, before it in a stream
        return gojson.line(record | {"usage": usage(result)})


def _wants_usage(body: gojson.GoObject) -> bool:
    return bool(field(body, "stream_options", dict, {}).get("include_usage"))


def _limit(body: gojson.GoObject) -> int | None:
    limit = field(body, "max_tokens", int, None) or field(body, "max_completion_tokens", int, None)
    return None if limit is None else int(limit)


def text_of(content: object) -> str:
    """Join the text parts of a message."""
    if isinstance(content, list):
        parts = (part.get("text", "") for part in content if isinstance(part, dict))
        return "\n".join(str(part) for part in parts)
    return str(content or "")


async def chat(server: SimulatorContext, exchange: http.HttpExchange) -> None:
    """Serve `/v1/chat/completions`."""
    body = body_of(exchange.request.body)
    messages = objects(body, "messages")
    if not messages:
        raise ApiError(400, "[] is too short - 'messages'")
    call = call_of(server, body)
    if call.manifest.file.embeds:
        raise ApiError(400, f'"{call.spelling}" does not support chat')
    prompt = "\n".join(text_of(message.get("content")) for message in messages)
    call_plan = plan(call.manifest.file, prompt, _limit(body))
    voice = ChatVoice(server, call, with_usage=_wants_usage(body))
    stream = field(body, "stream", bool, default=False)
    await answer(exchange, server, Job(call, call_plan, voice, stream))


async def completions(server: SimulatorContext, exchange: http.HttpExchange) -> None:
    """Serve `/v1/completions`."""
    body = body_of(exchange.request.body)
    call = call_of(server, body)
    if call.manifest.file.embeds:
        raise ApiError(400, f'"{call.spelling}" does not support generate')
    prompt = text_of(body.get("prompt"))
    call_plan = plan(call.manifest.file, prompt, _limit(body))
    voice = CompletionVoice(server, call, with_usage=_wants_usage(body))
    stream = field(body, "stream", bool, default=False)
    await answer(exchange, server, Job(call, call_plan, voice, stream))


async def embeddings(server: SimulatorContext, exchange: http.HttpExchange) -> None:
    """Serve `/v1/embeddings`."""
    body = body_of(exchange.request.body)
    texts = texts_of(body.get("input"))
    if not texts:
        raise ApiError(400, "invalid input")
    call = call_of(server, body, MISSING_EMBED)
    vectors, words, _ = await embedded(server, call, texts)
    rows = [
        {"object": "embedding", "embedding": normalised(numbers), "index": index}
        for index, numbers in enumerate(vectors)
    ]
    counts = {"prompt_tokens": words, "total_tokens": words}
    reply = {"object": "list", "data": rows, "model": call.spelling, "usage": counts}
    await exchange.respond(200, gojson.line(reply), http.JSON)


def _entry(name: str, modified: float) -> dict[str, object]:
    return {"id": name, "object": "model", "created": int(modified), "owned_by": "library"}


async def models(server: SimulatorContext, exchange: http.HttpExchange) -> None:
    """Serve `/v1/models`."""
    rows = [_entry(name, modified) for name, _, modified in server.library.entries()]
    await exchange.respond(200, gojson.line({"object": "list", "data": rows}), http.JSON)


async def model(server: SimulatorContext, exchange: http.HttpExchange) -> None:
    """Serve `/v1/models/NAME`."""
    spelling = exchange.request.path.removeprefix("/v1/models/")
    found = server.library.find(spelling)
    if found is None:
        raise ApiError(404, f"model '{spelling}' not found")
    entry = _entry(spelling, server.library.modified(found[0]))
    await exchange.respond(200, gojson.line(entry), http.JSON)
