# SPDX-License-Identifier: Apache-2.0
"""The native routes that need a runner: generate, chat, embed, embeddings."""

import math

from ollama_exporter.simulator import gojson, http
from ollama_exporter.simulator.answers import GeneratedAnswer, Job, acquire, answer
from ollama_exporter.simulator.calls import (
    MISSING,
    MISSING_EMBED,
    ApiError,
    Call,
    body_of,
    field,
    keep_alive_of,
    objects,
    plan,
    resolve,
)
from ollama_exporter.simulator.context import SimulatorContext
from ollama_exporter.simulator.engine import RunnerDiedError

NDJSON = "application/x-ndjson"


class NativeVoice:
    """NDJSON records. The last one has counts and durations."""

    stream_type = NDJSON
    whole_type = http.JSON_UTF8
    cache_control = False

    def __init__(
        self, server: SimulatorContext, call: Call, *, chat: bool, context: bool = False
    ) -> None:
        self._server = server
        self._call = call
        self._chat = chat
        self._context = context  # generate ends with all token ids, unless raw

    @property
    def what(self) -> str:
        """The capability that the route needs."""
        return "chat" if self._chat else "generate"

    def record(self, text: str, **more: object) -> dict[str, object]:
        """Return a record without counts and durations."""
        body: dict[str, object] = {
            "model": self._call.spelling,
            "created_at": gojson.moment(self._server.server_clock()),
        }
        if self._chat:
            body["message"] = {"role": "assistant", "content": text}
        else:
            body["response"] = text
        return body | more

    def opening(self, result: GeneratedAnswer) -> list[bytes]:  # noqa: ARG002 - other voices need it
        """Return nothing."""
        return []

    def piece(self, text: str) -> bytes:
        """Write one record, as one line and one chunk."""
        return gojson.line(self.record(text, done=False))

    def closing(self, result: GeneratedAnswer) -> list[bytes]:
        """Write the record with counts and durations."""
        return [gojson.line(self._last("", result))]

    def broken(self, text: str) -> list[bytes]:
        """Write an error as a line, since the status is sent already."""
        return [gojson.line({"error": text})]

    def whole(self, result: GeneratedAnswer) -> bytes:
        """Write one record; `done` is false if the generation was aborted."""
        if not result.complete:
            return gojson.dumps(self.record(result.text, done=False))
        return gojson.dumps(self._last(result.text, result))

    def failed(self, error: ApiError) -> bytes:
        """Write an error."""
        return error_body(error)

    def _last(self, text: str, result: GeneratedAnswer) -> dict[str, object]:
        body = self.record(text, done=True, done_reason=result.reason)
        if self._context:
            body["context"] = list(range(result.plan.prompt_tokens + result.plan.tokens + 1))
        return body | gojson.without_zeros(
            {
                "total_duration": gojson.nanoseconds(result.ended - result.arrived),
                "load_duration": gojson.nanoseconds(result.granted - result.arrived),
                "prompt_eval_count": result.plan.prompt_tokens,
                "prompt_eval_duration": gojson.nanoseconds(result.prompt_seconds),
                "eval_count": len(result.pieces),
                "eval_duration": max(gojson.nanoseconds(result.ended - result.prompted), 1000),
            }
        )


def error_body(error: ApiError) -> bytes:
    """Write an error as the native routes do."""
    return gojson.dumps({"error": error.text, **error.more})


def call_of(server: SimulatorContext, body: gojson.GoObject, missing: str = MISSING) -> Call:
    """Read the fields that all native routes share. Raises ApiError."""
    for value in body.every("keep_alive"):
        keep_alive_of(value)
    keep_alive = keep_alive_of(body.get("keep_alive"))
    spelling = field(body, "model", str, "")
    name, manifest = resolve(server.library, spelling, missing)
    return Call(
        spelling=spelling,
        name=name,
        manifest=manifest,
        options=field(body, "options", dict, {}),
        keep_alive=keep_alive,
        shift=field(body, "shift", bool, default=True),
    )


def _num_predict(call: Call) -> int | None:
    value = call.options.get("num_predict")
    return int(value) if isinstance(value, int | float) else None


async def generate(server: SimulatorContext, exchange: http.HttpExchange) -> None:
    """Serve `/api/generate`."""
    body = body_of(exchange.request.body)
    call = call_of(server, body)
    prompt = field(body, "prompt", str, "")
    raw = field(body, "raw", bool, default=False)
    voice = NativeVoice(server, call, chat=False, context=not raw)
    if not await _without_prompt(server, exchange, call, voice, prompt=prompt):
        await answer(exchange, server, _job(body, call, voice, prompt))


async def chat(server: SimulatorContext, exchange: http.HttpExchange) -> None:
    """Serve `/api/chat`."""
    body = body_of(exchange.request.body)
    if not field(body, "model", str, ""):
        raise ApiError(400, "model is required")
    call = call_of(server, body)
    messages = objects(body, "messages")
    voice = NativeVoice(server, call, chat=True)
    # a message without text counts as a prompt
    prompt = "\n".join(str(message.get("content") or " ") for message in messages)
    if not await _without_prompt(server, exchange, call, voice, prompt=prompt):
        await answer(exchange, server, _job(body, call, voice, prompt))


async def _without_prompt(
    server: SimulatorContext,
    exchange: http.HttpExchange,
    call: Call,
    voice: NativeVoice,
    *,
    prompt: str,
) -> bool:
    """Stop or preload if the prompt is empty; False: it is not. Raises ApiError."""
    if not prompt and call.keep_alive == 0:
        server.engine.stop(call.manifest.file.weights)
        await exchange.respond(200, gojson.dumps(voice.record("", done=True, done_reason="unload")))
        return True
    if call.manifest.file.embeds:
        raise ApiError(400, f'"{call.spelling}" does not support {voice.what}')
    if prompt:
        return False
    async with server.engine.serve(call.request(server.host, server.engine.next_id())) as ticket:
        await acquire(ticket)
    await exchange.respond(200, gojson.dumps(voice.record("", done=True, done_reason="load")))
    return True


def _job(body: gojson.GoObject, call: Call, voice: NativeVoice, prompt: str) -> Job:
    call_plan = plan(call.manifest.file, prompt, _num_predict(call))
    return Job(call, call_plan, voice, stream=field(body, "stream", bool, default=True))


def vector(text: str, length: int) -> list[float]:
    """Return a vector that depends on the text only, not normalised."""
    seed = sum(text.encode()) % 97
    return [round(0.1 * ((seed + index) % 19 + 1), 8) for index in range(length)]


def normalised(numbers: list[float]) -> list[float]:
    """Return the vector scaled to length 1."""
    norm = math.sqrt(sum(number * number for number in numbers))
    return [round(number / norm, 8) for number in numbers]


def texts_of(value: object) -> list[str]:
    """Read the `input` of an embedding request. Raises ApiError."""
    texts = [value] if isinstance(value, str) and value else value or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ApiError(400, "invalid input type")
    return texts


async def embedded(
    server: SimulatorContext, call: Call, texts: list[str]
) -> tuple[list[list[float]], int, float]:
    """Return vectors, tokens, and seconds until the runner was ready. Raises ApiError."""
    arrived = server.clock()
    async with server.engine.serve(call.request(server.host, server.engine.next_id())) as ticket:
        await acquire(ticket)
        waited = server.clock() - arrived
        words = sum(len(text.split()) + 2 for text in texts)  # and two marks around each text
        if texts:
            try:
                slots, seconds = await ticket.started(), words / call.manifest.file.prompt_rate
                with slots.working(" ".join(texts), words) as work:
                    await ticket.work(0.01 + seconds)
                    work.read_prompt(seconds)
            except RunnerDiedError as err:
                raise ApiError(500, err.text) from err
    length = call.manifest.file.embedding_length
    return [vector(text, length) for text in texts], words, waited


async def embed(server: SimulatorContext, exchange: http.HttpExchange) -> None:
    """Serve `/api/embed`."""
    arrived = server.clock()
    body = body_of(exchange.request.body)
    call = call_of(server, body, MISSING_EMBED)
    texts = texts_of(body.get("input"))
    vectors, words, waited = await embedded(server, call, texts)
    reply: dict[str, object] = {
        "model": call.spelling,
        "embeddings": [normalised(numbers) for numbers in vectors],
    }
    if texts:
        reply |= {
            "total_duration": gojson.nanoseconds(server.clock() - arrived),
            "load_duration": gojson.nanoseconds(waited),
            "prompt_eval_count": words,
        }
    await exchange.respond(200, gojson.dumps(reply))


async def embeddings(server: SimulatorContext, exchange: http.HttpExchange) -> None:
    """Serve `/api/embeddings`, the older route: no durations, not normalised."""
    body = body_of(exchange.request.body)
    if not field(body, "model", str, ""):
        raise ApiError(400, "model is required")
    call = call_of(server, body, MISSING_EMBED)
    prompt = field(body, "prompt", str, "")
    vectors, _, _ = await embedded(server, call, [prompt] if prompt else [])
    await exchange.respond(200, gojson.dumps({"embedding": vectors[0] if vectors else []}))
