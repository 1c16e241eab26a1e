# SPDX-License-Identifier: Apache-2.0
"""Answers as routers rewrite them are read, or count as unread; they never become failures."""

import json
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from ollama_exporter.protocol.response_fields import ResponseEnd, ResponseFields
from ollama_exporter.protocol.routes import Body, route_of
from ollama_exporter.protocol.stream_parsers import parser_for
from tests.support.answers import Recorded, recorded

NDJSON, SSE, JSON = "application/x-ndjson", "text/event-stream", "application/json"
ANSWERS = recorded()
NATIVE = ("generate-stream-cold", "generate-stream-warm", "chat-stream")
EVENTS = (
    "v1-chat-stream",
    "v1-chat-stream-usage",
    "v1-completions-stream-usage",
    "v1-responses-stream",
    "v1-messages-stream",
)


def parsed(
    body: Body, kind: str, data: bytes, *, size: int = 1 << 20
) -> tuple[ResponseFields, bool]:
    parser = parser_for(body, content_type=kind, content_encoding="")
    for at in range(0, len(data), size):
        parser.feed(data[at : at + size])
    return parser.end(), parser.content


def respaced(body: bytes) -> bytes:
    """Write each JSON text anew with blanks, as Python's json does."""
    lines = []
    for line in body.split(b"\n"):
        prefix, brace, rest = line.partition(b"{")
        lines.append(prefix + json.dumps(json.loads(brace + rest)).encode() if brace else line)
    return b"\n".join(lines)


def unspaced(body: bytes) -> bytes:
    return body.replace(b"data: ", b"data:").replace(b"event: ", b"event:")


def with_crlf(body: bytes) -> bytes:
    return body.replace(b"\n", b"\r\n")


def original(answer: Recorded) -> tuple[ResponseFields, bool]:
    return parsed(answer.route.body, answer.fields["content-type"], answer.body)


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("rewrite", [respaced, unspaced, with_crlf])
@pytest.mark.parametrize("name", [*NATIVE, *EVENTS])
def test_blanks_are_read_over(name: str, rewrite: Callable[[bytes], bytes], size: int) -> None:
    answer = ANSWERS[name]
    body, kind = answer.route.body, answer.fields["content-type"]
    assert parsed(body, kind, rewrite(answer.body), size=size) == original(answer)
    assert original(answer)[0].ending is ResponseEnd.COMPLETE


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("name", [*NATIVE, *EVENTS])
def test_a_stream_that_calls_itself_json_is_read(name: str, size: int) -> None:
    answer = ANSWERS[name]
    for rewrite in (bytes, respaced, unspaced):
        found = parsed(answer.route.body, JSON, rewrite(answer.body), size=size)
        assert found == original(answer)


def as_events(body: bytes, line_end: bytes) -> bytes:
    """Send each native record as an event, among comments and fields of other kinds."""
    records = (b"id: 4\ndata: " + line + b"\n\n:\n" for line in body.split(b"\n") if line)
    text = b": ping\nevent: message\nretry: 10\n" + b"".join(records) + b"data: [DONE]\n\n"
    return text.replace(b"\n", line_end)


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("name", NATIVE)
def test_native_records_as_events_are_read(name: str, size: int) -> None:
    answer = ANSWERS[name]
    for line_end in (b"\n", b"\r\n"):
        found = parsed(Body.NATIVE, SSE, as_events(answer.body, line_end), size=size)
        assert found == original(answer)
    cut, rest = answer.body.rstrip(b"\n").rsplit(b"\n", 1)
    cut_short = as_events(cut, b"\n").removesuffix(b"data: [DONE]\n\n") + b"data: " + rest[:20]
    fields, content = parsed(Body.NATIVE, SSE, cut_short, size=size)
    assert (fields.ending, content) == (ResponseEnd.UNFINISHED, True)
    plain, _ = parsed(Body.NATIVE, SSE, answer.body, size=size)
    assert plain == original(answer)[0]


@pytest.mark.parametrize("name", NATIVE)
def test_records_over_several_lines_are_unread(name: str) -> None:
    records = [json.loads(line) for line in ANSWERS[name].body.split(b"\n") if line]
    body = "\n".join(json.dumps(record, indent=2) for record in records).encode()
    assert parsed(Body.NATIVE, NDJSON, body + b"\n")[0].ending is ResponseEnd.UNREAD


@pytest.mark.parametrize("body", list(Body))
@pytest.mark.parametrize("content", [b"<html>ok</html>", b"OK", b"[1,2]", b"null"])
def test_what_is_not_our_format_is_unread(body: Body, content: bytes) -> None:
    assert parsed(body, JSON, content)[0].ending is ResponseEnd.UNREAD


@pytest.mark.parametrize("name", NATIVE)
def test_a_stream_that_was_cut_is_not_complete(name: str) -> None:
    body = ANSWERS[name].body
    for rewritten in (body, respaced(body)):
        for cut in (len(rewritten) - 3, rewritten.rstrip().rindex(b"\n") + 1):
            for kind in (NDJSON, JSON):
                found, _ = parsed(Body.NATIVE, kind, rewritten[:cut])
                assert found.ending is ResponseEnd.UNFINISHED, (kind, cut)


def test_done_that_a_model_says_is_not_the_end() -> None:
    said = {"message": {"content": 'data: [DONE] {"done": true} "finish_reason": "stop"'}}
    chunk = {"choices": [{"delta": said["message"], "finish_reason": None}]}
    native = json.dumps({**said, "done": False}).encode() + b"\n"
    assert parsed(Body.NATIVE, NDJSON, native)[0].ending is ResponseEnd.UNFINISHED
    events = f"data: {json.dumps(chunk)}\n\n".encode()
    assert parsed(Body.OPENAI, SSE, events)[0].ending is ResponseEnd.UNFINISHED
    assert parsed(Body.OPENAI, SSE, events + b"data:[DONE]\n\n")[0].ending is ResponseEnd.COMPLETE


# -- records in other clothes ----------------------------------------------------------------------

BOM, RS = b"\xef\xbb\xbf", b"\x1e"
FINAL_TOKENS = 7
TOKEN = b'{"model":"m","response":" w","done":false}'
END = b'{"model":"m","response":"","done":true,"done_reason":"stop","eval_count":7}'
READ_NATIVE = {
    "events": b"data: " + TOKEN + b"\n\ndata: " + END + b"\n\n",
    "a number for done": TOKEN + b"\n" + END.replace(b"true", b"1") + b"\n",
    "a text for done": TOKEN + b"\n" + END.replace(b"true", b'"true"') + b"\n",
    "names in another case": TOKEN + b"\n" + END.replace(b'"done"', b'"Done"') + b"\n",
    "all names in upper case": (TOKEN + b"\n" + END + b"\n")
    .upper()
    .replace(b"TRUE", b"true")
    .replace(b"FALSE", b"false"),
    "a float for a count": TOKEN + b"\n" + END.replace(b":7}", b":7.0}") + b"\n",
    "an exponent for a count": TOKEN + b"\n" + END.replace(b":7}", b":7e0}") + b"\n",
    "two records on one line": TOKEN + END + b"\n",
    "all records on one line": TOKEN * 3 + END,
    "records apart by blanks": TOKEN + b" " + TOKEN + b"  " + END,
    "a byte order mark": BOM + TOKEN + b"\n" + END + b"\n",
    "a byte order mark before the only record": BOM + END + b"\n",
    "record separators": RS + TOKEN + b"\n" + RS + END + b"\n",
    "record separators alone": RS + TOKEN + RS + END,
    "blank lines": b"\n\n" + TOKEN + b"\n\n\n" + END + b"\n\n",
    "CRLF": TOKEN + b"\r\n" + END + b"\r\n",
    "CR": TOKEN + b"\r" + TOKEN + b"\r" + END + b"\r",
    "no end of the last line": TOKEN + b"\n" + END,
    "a line behind the end that is no record": TOKEN + b"\n" + END + b"\n[DONE]\n",
    "an odd field": TOKEN + b"\n" + END.replace(b'"stop"', b"[1]") + b"\n",
}
ONE_LINE = {  # read at its end, if it does not say that it is a stream
    "all records on one line",
    "records apart by blanks",
    "record separators alone",
    "CR",
}
KINDS = [NDJSON, JSON, "text/plain; charset=utf-8", "application/json-seq", "application/jsonl", ""]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READ_NATIVE)
def test_a_native_stream_in_other_clothes_is_read(name: str, kind: str, size: int) -> None:
    found, content = parsed(Body.NATIVE, kind, READ_NATIVE[name], size=size)
    assert (found.ending, found.output_tokens) == (ResponseEnd.COMPLETE, FINAL_TOKENS)
    has_output = TOKEN.lower() in READ_NATIVE[name].lower()
    assert content == (has_output and (kind == NDJSON or name not in ONE_LINE))


UNREAD_NATIVE = {
    "no word of an end": b'{"response":"a"}\n{"response":"b"}\n',
    "another API": b'{"choices":[{"finish_reason":"stop"}]}\n',
    "text": b"hello\nworld\n",
    "UTF-16": (TOKEN + b"\n" + END + b"\n").decode().encode("utf-16"),
    "an array": b"[" + TOKEN + b",\n" + END + b"]\n",
}


@pytest.mark.parametrize("kind", [NDJSON, "text/plain", JSON])
@pytest.mark.parametrize("name", UNREAD_NATIVE)
def test_what_is_not_understood_of_an_answer_is_no_failure(name: str, kind: str) -> None:
    assert parsed(Body.NATIVE, kind, UNREAD_NATIVE[name])[0].ending is ResponseEnd.UNREAD


CHUNK = b'{"choices":[{"delta":{"content":" w"},"finish_reason":null}]}'
STOP = b'{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"completion_tokens":7}}'
READ_CHAT = {
    "no [DONE]": b"data: " + CHUNK + b"\n\ndata: " + STOP + b"\n\n",
    "a [DONE] in quotes": b"data: " + STOP + b'\n\ndata: "[DONE]"\n\n',
    "comments": b": hi\n\ndata: " + CHUNK + b"\n\n: ping\n\ndata: " + STOP + b"\n\n: bye\n\n",
    "ids and events": b"id: 1\nevent: chunk\ndata: " + STOP + b"\n\ndata: [DONE]\n\n",
    "names in another case": b"data: " + STOP.replace(b"finish_r", b"Finish_R") + b"\n\n",
    "a float for a count": b"data: " + STOP.replace(b":7}", b":7.0}") + b"\n\n",
    "CR": (b"data: " + CHUNK + b"\n\ndata: " + STOP + b"\n\ndata: [DONE]\n\n").replace(
        b"\n", b"\r"
    ),
    "a byte order mark": BOM + b"data: " + STOP + b"\n\n",
}


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("kind", [SSE, "text/plain"])
@pytest.mark.parametrize("name", READ_CHAT)
def test_events_in_other_clothes_are_read(name: str, kind: str, size: int) -> None:
    found, content = parsed(Body.OPENAI, kind, READ_CHAT[name], size=size)
    is_read = kind == SSE or name != "CR"
    expected = (ResponseEnd.COMPLETE, FINAL_TOKENS) if is_read else (ResponseEnd.UNREAD, None)
    assert (found.ending, found.output_tokens, content) == (*expected, is_read)


@pytest.mark.parametrize("body", [Body.OPENAI, Body.RESPONSES, Body.ANTHROPIC])
@pytest.mark.parametrize(
    "events", [b'data: {"text":"a"}\n\n', b": ping\n\n: ping\n\n", b'{"a":1}\n{"b":2}\n']
)
def test_events_of_another_kind_are_no_failure(body: Body, events: bytes) -> None:
    found = parsed(body, SSE, events)[0].ending
    assert found is ResponseEnd.UNREAD


def test_an_odd_count_costs_itself_alone() -> None:
    usage = b'{"prompt_tokens":"x","completion_tokens":7}'
    odd = b'{"choices":[{"finish_reason":"stop"}],"usage":%b}' % usage
    for written in (odd, odd.replace(b'"choices"', b'"Choices"')):
        found, _ = parsed(Body.OPENAI, JSON, written)
        assert (found.finish, found.prompt_tokens, found.output_tokens) == ("stop", None, 7)


# -- image models ----------------------------------------------------------------------------------


def steps(done: int, **more: object) -> bytes:
    record = {"model": "z", "response": "", "done": False, "completed": done, "total": 9, **more}
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def test_the_steps_of_an_image_are_not_output() -> None:
    parser = parser_for(Body.NATIVE, content_type=NDJSON, content_encoding="")
    for done in range(1, 9):
        parser.feed(steps(done))
        assert not parser.content
    parser.feed(steps(9, image="aGk="))
    assert parser.content
    parser.feed(
        b'{"model":"z","response":"","done":true,"done_reason":"stop","total_duration":5}\n'
    )
    assert parser.end().ending is ResponseEnd.COMPLETE


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/images/edits"])
def test_an_image_is_one_object(path: str) -> None:
    assert route_of("POST", path).body is Body.OBJECT
    found, content = parsed(Body.OBJECT, JSON, b'{"created":1,"data":[{"b64_json":"aGk="}]}')
    assert (found.ending, content) == (ResponseEnd.COMPLETE, False)


def test_a_decision_has_its_tokens() -> None:
    assert route_of("POST", "/v1/systemone").body is Body.OBJECT
    answer = b'{"model":"m","usage":{"input_tokens":7,"output_tokens":0}}'
    found, _ = parsed(Body.OBJECT, JSON, answer)
    assert (found.prompt_tokens, found.output_tokens) == (7, 0)


# -- numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    ["1e308", "9" * 400, "-1", '"5"', "null", "[]", "{}", "true", "1e999", str(2**63), "6.1e14"],
)
def test_a_duration_that_cannot_be_is_absent_and_the_rest_is_read(written: str) -> None:
    record = (
        f'{{"model":"m","done":true,"total_duration":{written},"load_duration":2000000000,'
        f'"eval_count":{written},"prompt_eval_count":4}}\n'
    ).encode()
    for kind in (NDJSON, JSON):
        found, _ = parsed(Body.NATIVE, kind, record)
        expected = ResponseFields(ResponseEnd.COMPLETE, "m", load=2.0, prompt_tokens=4)
        assert replace(found, output_tokens=None) == expected
        assert found.output_tokens is None


def test_bytes_that_are_not_utf_8_do_not_hide_the_final_record() -> None:
    record = b'{"model":"m","response":"\xff","done":true,"eval_count":3}\n'
    assert parsed(Body.NATIVE, NDJSON, record)[0].output_tokens == 3
