# SPDX-License-Identifier: Apache-2.0
"""Anthropic's route `/v1/messages`: named events, and a first estimate of the prompt's tokens."""

from typing import Final

from ollama_exporter.simulator import gojson, http
from ollama_exporter.simulator.answers import GeneratedAnswer, Job, answer
from ollama_exporter.simulator.calls import ApiError, Call, body_of, field, objects, plan
from ollama_exporter.simulator.context import SimulatorContext
from ollama_exporter.simulator.model_files import sha256_of
from ollama_exporter.simulator.openai import SSE, call_of, text_of

_ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    503: "overloaded_error",
}
_STOP_REASONS: Final = {"stop": "end_turn", "length": "max_tokens"}
_BYTES_PER_TOKEN: Final = 4  # in the estimate


def error_body(error: ApiError) -> bytes:
    """Write an error as Anthropic's API does."""
    kind = _ERROR_TYPES.get(error.status, "api_error")
    number = sha256_of(error.text)[:24]
    body = {
        "type": "error",
        "error": {"type": kind, "message": error.text},
        "request_id": f"req_{number}",
    }
    return gojson.line(body)


def _event(value: dict[str, object]) -> bytes:
    return b"event: " + str(value["type"]).encode() + b"\ndata: " + gojson.dumps(value) + b"\n\n"


class MessagesVoice:
    """`/v1/messages`."""

    stream_type = SSE
    whole_type = http.JSON
    cache_control = True

    def __init__(self, server: SimulatorContext, call: Call, prompt: str) -> None:
        self._call = call
        self._id = f"msg_{server.random.getrandbits(96):024x}"
        self._estimate = max(1, len(prompt) // _BYTES_PER_TOKEN)

    def _message(self, content: list[object], **more: object) -> dict[str, object]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._call.spelling,
            "content": content,
        } | more

    def opening(self, result: GeneratedAnswer) -> list[bytes]:  # noqa: ARG002 - the estimate needs no result
        """Write the start of the message and of its only block."""
        counts = {"input_tokens": self._estimate, "output_tokens": 0}
        block = {"type": "text", "text": ""}
        return [
            _event({"type": "message_start", "message": self._message([], usage=counts)}),
            _event({"type": "content_block_start", "index": 0, "content_block": block}),
        ]

    def piece(self, text: str) -> bytes:
        """Write one delta."""
        delta = {"type": "text_delta", "text": text}
        return _event({"type": "content_block_delta", "index": 0, "delta": delta})

    def closing(self, result: GeneratedAnswer) -> list[bytes]:
        """Write the end of the block, the real counts, and the end mark."""
        return [
            _event({"type": "content_block_stop", "index": 0}),
            _event(
                {
                    "type": "message_delta",
                    "delta": {"stop_reason": _STOP_REASONS[result.reason]},
                    "usage": _usage(result),
                }
            ),
            _event({"type": "message_stop"}),
        ]

    def broken(self, text: str) -> list[bytes]:  # noqa: ARG002 - the server swallows it
        """Return nothing: the stream ends without a terminal event."""
        return []

    def whole(self, result: GeneratedAnswer) -> bytes:
        """Write the whole message."""
        content: list[object] = [{"type": "text", "text": result.text}]
        reason = _STOP_REASONS.get(result.reason)
        return gojson.line(self._message(content, stop_reason=reason, usage=_usage(result)))

    def failed(self, error: ApiError) -> bytes:
        """Write an error."""
        return error_body(error)


def _usage(result: GeneratedAnswer) -> dict[str, int]:
    return {"input_tokens": result.plan.prompt_tokens, "output_tokens": len(result.pieces)}


async def messages(server: SimulatorContext, exchange: http.HttpExchange) -> None:
    """Serve `/v1/messages`."""
    body = body_of(exchange.request.body)
    limit = field(body, "max_tokens", int, 0)
    if not field(body, "model", str, ""):
        raise ApiError(400, "model is required")
    if limit <= 0:
        raise ApiError(400, "max_tokens is required and must be positive")
    said = objects(body, "messages")
    if not said:
        raise ApiError(400, "messages is required")
    call = call_of(server, body)
    if call.manifest.file.embeds:
        raise ApiError(400, f'"{call.spelling}" does not support chat')
    prompt = "\n".join(text_of(message.get("content")) for message in said)
    call_plan = plan(call.manifest.file, prompt, limit)
    voice = MessagesVoice(server, call, prompt)
    stream = field(body, "stream", bool, default=False)
    await answer(exchange, server, Job(call, call_plan, voice, stream))
