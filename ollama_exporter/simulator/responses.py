# SPDX-License-Identifier: Apache-2.0
"""OpenAI's route `/v1/responses`: numbered events whose keys Go sorts, since they are maps."""

from typing import Final

from ollama_exporter.simulator import gojson, http
from ollama_exporter.simulator.answers import GeneratedAnswer, Job, answer
from ollama_exporter.simulator.calls import ApiError, Call, body_of, field, plan
from ollama_exporter.simulator.context import SimulatorContext
from ollama_exporter.simulator.openai import SSE, call_of, error_body, text_of

# fields of a whole answer in their order; those of a stream are sorted
_CONSTANTS: Final[dict[str, object]] = {
    "tools": [],
    "tool_choice": "auto",
    "truncation": "disabled",
    "parallel_tool_calls": True,
    "text": {"format": {"type": "text"}},
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "top_logprobs": 0,
    "temperature": 1,
    "reasoning": None,
}
_TAIL: Final[dict[str, object]] = {
    "max_output_tokens": None,
    "max_tool_calls": None,
    "store": False,
    "background": False,
    "service_tier": "default",
    "metadata": {},
    "safety_identifier": None,
    "prompt_cache_key": None,
}


def _sorted(value: object) -> object:
    """Return the value with the keys of every object sorted, as Go writes maps."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value


class ResponsesVoice:
    """`/v1/responses`."""

    stream_type = SSE
    whole_type = http.JSON
    cache_control = True

    def __init__(self, server: SimulatorContext, call: Call) -> None:
        self._server = server
        self._call = call
        self._created = int(server.server_clock())
        self._id = server.ident("resp_", 1_000_000)
        self._item = server.ident("msg_", 100_000)
        self._number = 0

    def _event(self, kind: str, **more: object) -> bytes:
        value = _sorted({"type": kind, "sequence_number": self._number} | more)
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + gojson.dumps(value) + b"\n\n"

    def _response(self, output: list[object], result: GeneratedAnswer | None) -> dict[str, object]:
        head: dict[str, object] = {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": int(self._server.server_clock()) if result else None,
            "status": "completed" if result else "in_progress",
            "incomplete_details": None,
            "model": self._call.spelling,
            "previous_response_id": None,
            "instructions": None,
            "output": output,
            "error": None,
        }
        return head | _CONSTANTS | {"usage": _usage(result) if result else None} | _TAIL

    def _output(self, text: str) -> dict[str, object]:
        return {
            "id": self._item,
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [_part(text)],
        }

    def opening(self, result: GeneratedAnswer) -> list[bytes]:  # noqa: ARG002 - other voices need it
        """Write the four events before the first token."""
        response = self._response([], None)
        # fields that a response in progress lacks
        item = {"id": self._item, "type": "message", "status": "in_progress", "role": "assistant"}
        return [
            self._event("response.created", response=response),
            self._event("response.in_progress", response=response),
            self._event("response.output_item.added", output_index=0, item=item | {"content": []}),
            self._event(
                "response.content_part.added",
                item_id=self._item,
                output_index=0,
                content_index=0,
                part=_part(""),
            ),
        ]

    def piece(self, text: str) -> bytes:
        """Write one delta."""
        return self._event(
            "response.output_text.delta",
            item_id=self._item,
            output_index=0,
            content_index=0,
            delta=text,
            logprobs=[],
        )

    def closing(self, result: GeneratedAnswer) -> list[bytes]:
        """Write the ends of text, part, item and response, in this order."""
        where = {"item_id": self._item, "output_index": 0, "content_index": 0}
        output = self._output(result.text)
        response = self._response([output], result)
        return [
            self._event("response.output_text.done", **where, text=result.text, logprobs=[]),
            self._event("response.content_part.done", **where, part=_part(result.text)),
            self._event("response.output_item.done", output_index=0, item=output),
            self._event("response.completed", response=response),
        ]

    def broken(self, text: str) -> list[bytes]:  # noqa: ARG002 - the server swallows it
        """Return nothing: the stream ends without a terminal event."""
        return []

    def whole(self, result: GeneratedAnswer) -> bytes:
        """Write the whole response."""
        return gojson.line(self._response([self._output(result.text)], result))

    def failed(self, error: ApiError) -> bytes:
        """Write an error."""
        return error_body(error)


def _part(text: str) -> dict[str, object]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(result: GeneratedAnswer) -> dict[str, object]:
    prompt, completion = result.plan.prompt_tokens, len(result.pieces)
    return {
        "input_tokens": prompt,
        "output_tokens": completion,
        "total_tokens": prompt + completion,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }


async def create(server: SimulatorContext, exchange: http.HttpExchange) -> None:
    """Serve `/v1/responses`."""
    body = body_of(exchange.request.body)
    call = call_of(server, body)
    if call.manifest.file.embeds:
        raise ApiError(400, f'"{call.spelling}" does not support chat')
    given = body.get("input")
    if isinstance(given, list):
        given = "\n".join(text_of(item.get("content")) for item in given if isinstance(item, dict))
    limit = field(body, "max_output_tokens", int, None)
    call_plan = plan(call.manifest.file, str(given or ""), limit)
    voice = ResponsesVoice(server, call)
    stream = field(body, "stream", bool, default=False)
    await answer(exchange, server, Job(call, call_plan, voice, stream))
