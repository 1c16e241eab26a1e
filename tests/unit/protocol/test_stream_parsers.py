# SPDX-License-Identifier: Apache-2.0
import json
from collections.abc import Iterable

import pytest

from ollama_exporter.protocol.line_parsers import LONGEST
from ollama_exporter.protocol.response_fields import ResponseEnd, ResponseFields
from ollama_exporter.protocol.routes import Body
from ollama_exporter.protocol.stream_parsers import StreamParser, Unread, parser_for
from tests.support.answers import Recorded, recorded

ANSWERS = recorded()
NDJSON, SSE, JSON = "application/x-ndjson", "text/event-stream", "application/json"


def reading(tap: StreamParser, chunks: Iterable[bytes]) -> ResponseFields:
    for chunk in chunks:
        tap.feed(chunk)
    return tap.end()


def tap_of(answer: Recorded) -> StreamParser:
    content_type = answer.fields.get("content-type", "")
    return parser_for(answer.route.body, content_type=content_type, content_encoding="")


def read(name: str) -> ResponseFields:
    return reading(tap_of(ANSWERS[name]), ANSWERS[name].chunks)


def ndjson(*records: object, end: str = "\n") -> ResponseFields:
    text = "\n".join(json.dumps(r, separators=(",", ":")) for r in records) + end
    return reading(
        parser_for(Body.NATIVE, content_type=NDJSON, content_encoding=""), [text.encode()]
    )


def sse(body: Body, *events: str) -> ResponseFields:
    text = "".join(f"data: {event}\n\n" for event in events)
    return reading(parser_for(body, content_type=SSE, content_encoding=""), [text.encode()])


def whole(body: Body, value: object) -> ResponseFields:
    tap = parser_for(body, content_type=JSON, content_encoding="")
    return reading(tap, [json.dumps(value).encode()])


# -- a real server's answers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "load", "tokens"),
    [
        ("generate-stream-cold", 1.425694257, (4, 4)),
        ("generate-stream-warm", 0.00166941, (4, 4)),
        ("generate-nostream", 0.002246755, (4, 4)),
        ("chat-stream", 0.002085583, (4, 4)),
        ("chat-nostream", 0.0019945, (4, 4)),
        ("embed", 1.268412895, (6, None)),
        ("v1-chat-stream", None, (None, None)),
        ("v1-chat-stream-usage", None, (4, 4)),
        ("v1-chat-nostream", None, (4, 4)),
        ("v1-completions-stream-usage", None, (4, 4)),
        ("v1-responses-stream", None, (4, 4)),
        ("v1-responses-nostream", None, (4, 4)),
        ("v1-messages-stream", None, (4, 4)),
        ("v1-messages-nostream", None, (4, 4)),
        ("v1-embeddings", None, (3, None)),
    ],
)
def test_every_shape_is_read(
    name: str, load: float | None, tokens: tuple[int | None, int | None]
) -> None:
    found = read(name)
    assert found.ending is ResponseEnd.COMPLETE
    assert found.load == load
    assert (found.prompt_tokens, found.output_tokens) == tokens
    assert found.model in ("tiny-a", "embed-e")


@pytest.mark.parametrize(
    ("name", "finish"),
    [
        ("generate-stream-warm", "stop"),
        ("preload-generate", "load"),
        ("stop", "unload"),
        ("v1-chat-stream-usage", "stop"),
        ("v1-messages-stream", "end_turn"),
        ("v1-responses-stream", "completed"),
        ("embeddings", None),
    ],
)
def test_the_finish_is_in_the_server_s_own_word(name: str, finish: str | None) -> None:
    assert read(name).finish == finish


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("crash-midstream", "an error was encountered while running the model"),
        ("crash-nostream", "an error was encountered while running the model"),
        ("crash-before-first-byte", "model runner has unexpectedly stopped"),
        ("model-not-found-404", "model 'absent' not found"),
        ("v1-model-not-found-404", "model 'absent' not found"),
        ("keepalive-bool-400", "Unsupported type"),
    ],
)
def test_an_error_is_one_whatever_its_status(name: str, error: str) -> None:
    found = read(name)
    assert found.ending is ResponseEnd.ERROR
    assert error in (found.error or "")


def test_a_stream_of_openai_that_crashes_has_no_end() -> None:
    assert read("v1-crash-midstream").ending is ResponseEnd.UNFINISHED


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("generate-stream-warm", True),
        ("v1-chat-stream", True),
        ("v1-completions-stream-usage", True),
        ("v1-responses-stream", True),
        ("v1-messages-stream", True),
        ("crash-midstream", True),  # three tokens came before
        ("token-repeat-abort", False),  # a final record alone
        ("chat-nostream", False),
        ("preload-generate", False),
    ],
)
def test_content_is_what_a_model_said(name: str, *, content: bool) -> None:
    tap = tap_of(ANSWERS[name])
    reading(tap, ANSWERS[name].chunks)
    assert tap.content is content


def test_the_opening_events_of_a_response_are_no_content() -> None:
    tap, chunks = tap_of(ANSWERS["v1-responses-stream"]), ANSWERS["v1-responses-stream"].chunks
    tap.feed(b"".join(chunks[:4]))
    assert not tap.content
    tap.feed(chunks[4])
    assert tap.content


# -- what goes wrong -------------------------------------------------------------------------------

TOKEN = {"model": "m", "response": "w", "done": False}
FINAL = {"model": "m", "response": "", "done": True, "done_reason": "stop", "eval_count": 1}


def test_a_stream_without_a_final_record_is_unfinished() -> None:
    assert ndjson(TOKEN, TOKEN).ending is ResponseEnd.UNFINISHED
    assert ndjson(TOKEN, end="").ending is ResponseEnd.UNFINISHED
    assert ndjson(end="").ending is ResponseEnd.UNFINISHED


def test_records_behind_the_final_one_are_noticed() -> None:
    found = ndjson(TOKEN, FINAL, TOKEN)
    assert (found.ending, found.output_tokens) == (ResponseEnd.TRAILING, 1)


def test_a_final_record_needs_no_line_feed_behind_it() -> None:
    assert ndjson(TOKEN, FINAL, end="").ending is ResponseEnd.COMPLETE


def test_durations_that_are_missing_are_not_zero() -> None:
    found = ndjson(TOKEN, FINAL)
    assert (found.total, found.load, found.prompt_eval, found.eval) == (None,) * 4


def test_a_word_that_is_not_known_stays() -> None:
    assert ndjson({**FINAL, "done_reason": "tired"}).finish == "tired"


def test_cached_tokens_are_read_where_they_are_said() -> None:
    assert ndjson({**FINAL, "prompt_eval_cached_count": 7}).cached_tokens == 7
    details = {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 8}}
    assert whole(Body.OPENAI, {"choices": [{}], "usage": details}).cached_tokens == 8


def test_done_inside_the_arguments_of_a_tool_is_not_the_end() -> None:
    call = {"function": {"name": "f", "arguments": {"done": True, "error": None}}}
    tool = {"model": "m", "message": {"tool_calls": [call]}, "done": False}
    assert ndjson(tool).ending is ResponseEnd.UNFINISHED
    assert ndjson(tool, FINAL).ending is ResponseEnd.COMPLETE


def test_a_text_that_looks_like_an_end_is_none() -> None:
    said = {"model": "m", "response": '{"done":true} data: [DONE] {"error":"x"}', "done": False}
    assert ndjson(said).ending is ResponseEnd.UNFINISHED
    assert ndjson(said, FINAL).ending is ResponseEnd.COMPLETE


def test_separators_that_are_not_line_feeds_part_nothing() -> None:
    found = parser_for(Body.NATIVE, content_type=NDJSON, content_encoding="")
    said = json.dumps({**TOKEN, "response": "a\u2028b\u0085c"}, ensure_ascii=False).encode()
    assert reading(found, [said, b"\n", json.dumps(FINAL, separators=(",", ":")).encode()]) == (
        ndjson(TOKEN, FINAL)
    )


def test_an_answer_that_says_done_false_as_a_whole_is_unfinished() -> None:
    assert whole(Body.NATIVE, {**FINAL, "done": False}).ending is ResponseEnd.UNFINISHED
    assert whole(Body.NATIVE, FINAL).ending is ResponseEnd.COMPLETE


@pytest.mark.parametrize(
    ("body", "unfinished"),
    [
        (Body.OPENAI, {"choices": []}),
        (Body.RESPONSES, {"status": "in_progress"}),
        (Body.NATIVE, {"done": False}),
    ],
)
def test_an_object_that_says_it_is_not_the_end_is_unfinished(
    body: Body, unfinished: object
) -> None:
    assert whole(body, unfinished).ending is ResponseEnd.UNFINISHED


@pytest.mark.parametrize("body", [Body.NATIVE, Body.OPENAI, Body.RESPONSES, Body.ANTHROPIC])
def test_an_object_without_the_words_for_its_end_is_unread(body: Body) -> None:
    assert whole(body, {"content": [], "error": ""}).ending is ResponseEnd.UNREAD


def test_what_is_no_json_is_unfinished_or_not_looked_into() -> None:
    for body, ending in ((Body.NATIVE, ResponseEnd.UNFINISHED), (Body.OPAQUE, ResponseEnd.UNREAD)):
        tap = parser_for(body, content_type=JSON, content_encoding="")
        assert reading(tap, [b'{"model": "m", "don']).ending is ending


def test_usage_that_is_absent_is_not_zero() -> None:
    found = sse(Body.OPENAI, '{"choices":[{"finish_reason":"length"}]}', "[DONE]")
    assert (found.ending, found.finish) == (ResponseEnd.COMPLETE, "length")
    assert (found.prompt_tokens, found.output_tokens) == (None, None)
    assert sse(Body.OPENAI, "[DONE]") == ResponseFields(ResponseEnd.COMPLETE)


@pytest.mark.parametrize("body", [Body.OPENAI, Body.RESPONSES, Body.ANTHROPIC])
def test_an_error_event_is_an_error(body: Body) -> None:
    found = sse(body, '{"type":"error","error":{"type":"api_error","message":"CUDA error"}}')
    assert (found.ending, found.error) == (ResponseEnd.ERROR, "CUDA error")


@pytest.mark.parametrize(
    ("body", "event"),
    [
        (Body.OPENAI, '{"choices":[{"delta":{}}]}'),
        (Body.RESPONSES, '{"type":"response.output_text.delta"}'),
        (Body.ANTHROPIC, '{"type":"content_block_delta"}'),
    ],
)
def test_events_without_an_end_are_unfinished(body: Body, event: str) -> None:
    assert sse(body, event).ending is ResponseEnd.UNFINISHED
    assert sse(body, '{"error":null}').ending is ResponseEnd.UNREAD


def test_a_response_that_failed_says_so() -> None:
    event = {"type": "response.failed", "response": {"error": {"message": "no"}, "model": "m"}}
    found = sse(Body.RESPONSES, json.dumps(event, separators=(",", ":")))
    assert (found.ending, found.error) == (ResponseEnd.ERROR, "no")


def test_a_message_whose_start_was_missed_has_no_model() -> None:
    found = sse(Body.ANTHROPIC, '{"type":"message_stop"}')
    assert found == ResponseFields(ResponseEnd.COMPLETE)


def test_an_error_of_an_unknown_shape_is_still_one() -> None:
    assert whole(Body.NATIVE, {"error": 7}).error == "error"
    assert whole(Body.NATIVE, {"error": ""}).ending is ResponseEnd.UNREAD


def test_a_remote_model_is_told() -> None:
    assert ndjson({**FINAL, "remote_host": "elsewhere"}).remote
    assert not ndjson(FINAL).remote


# -- bounds ----------------------------------------------------------------------------------------


def test_a_final_record_of_megabytes_is_read() -> None:
    found = ndjson(TOKEN, {**FINAL, "context": list(range(400_000))})
    assert (found.ending, found.output_tokens) == (ResponseEnd.COMPLETE, 1)


def test_a_record_beyond_the_bound_is_dropped_in_one_piece_or_in_many() -> None:
    long = b'{"response":"' + b"x" * LONGEST + b'","done":true}\n'
    token = json.dumps(TOKEN, separators=(",", ":")).encode() + b"\n"
    final = json.dumps(FINAL, separators=(",", ":")).encode() + b"\n"
    for chunks in ([token + long], [token, long[:100], long[100:]], [long[:-9], long[-9:] + token]):
        tap = parser_for(Body.NATIVE, content_type=NDJSON, content_encoding="")
        assert reading(tap, chunks).ending is ResponseEnd.UNREAD
        tap = parser_for(Body.NATIVE, content_type=NDJSON, content_encoding="")
        assert reading(tap, [*chunks, final]).ending is ResponseEnd.COMPLETE


def test_events_beyond_the_bound_are_dropped() -> None:
    tap = parser_for(Body.OPENAI, content_type=SSE, content_encoding="")
    assert reading(tap, [b"data: " + b"x" * LONGEST, b"xxx"]).ending is ResponseEnd.UNREAD


def test_an_object_beyond_the_bound_is_not_read() -> None:
    tap = parser_for(Body.OBJECT, content_type=JSON, content_encoding="")
    assert reading(tap, [b'{"e":[', b"1," * (LONGEST // 2), b"1]}"]).ending is ResponseEnd.UNREAD


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "br", "identity, gzip"])
def test_what_is_compressed_passes_unread(encoding: str) -> None:
    tap = parser_for(Body.NATIVE, content_type=NDJSON, content_encoding=encoding)
    assert isinstance(tap, Unread)
    assert reading(tap, [b"\x1f\x8b"]).ending is ResponseEnd.UNREAD


def test_fields_are_compared_without_case_and_parameters() -> None:
    for kind in ("application/json; charset=utf-8", "Application/JSON", " application/json "):
        tap = parser_for(Body.NATIVE, content_type=kind, content_encoding=" Identity ")
        assert reading(tap, [json.dumps(FINAL).encode()]).ending is ResponseEnd.COMPLETE


def test_a_type_that_does_not_belong_to_a_route_is_unread() -> None:
    for body, kind, data in (
        (Body.NATIVE, SSE, b'data: {"choices":[{"finish_reason":"stop"}]}\n\n'),
        (Body.OPENAI, NDJSON, b'{"choices":[]}\n{"choices":[{"finish_reason":"stop"}]}\n'),
        (Body.NATIVE, "text/html", b"<html>" + b"x" * 100),
    ):
        parser = parser_for(body, content_type=kind, content_encoding="")
        assert reading(parser, [data]).ending is ResponseEnd.UNREAD
    assert isinstance(
        parser_for(Body.OPAQUE, content_type="text/plain", content_encoding=""), Unread
    )
