# SPDX-License-Identifier: Apache-2.0
"""Any chunking of the bytes of an answer gives the same reading, and no bytes break a reader."""

import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ollama_exporter.protocol import request_body
from ollama_exporter.protocol.response_fields import ResponseEnd, ResponseFields
from ollama_exporter.protocol.routes import LABELS, Body, route_of
from ollama_exporter.protocol.stream_parsers import parser_for
from tests.support.answers import recorded

ANSWERS = tuple(recorded().values())
TYPES = ("application/json", "application/x-ndjson", "text/event-stream")
LINES = st.sampled_from(
    [
        b'{"done":false,"response":"w"}',
        b'{"done":true,"done_reason":"stop","eval_count":3}',
        b'{"error":"x"}',
        b'data: {"choices":[{"delta":{}}]}',
        b'data: {"usage":{"prompt_tokens":1},"choices":[]}',
        b'data: {"choices":[{"finish_reason":"stop"}]}',
        b"data: [DONE]",
        b'data: {"type":"message_start","message":{"model":"m"}}',
        b'data: {"type":"message_delta","usage":{"output_tokens":2}}',
        b'data: {"type":"message_stop"}',
        b'data: {"type":"response.completed","response":{"model":"m"}}',
        b"",
        b'{"done":true',
        '{"response":"\u2028"}'.encode(),
    ]
)


def read(body: Body, kind: str, chunks: list[bytes]) -> tuple[ResponseFields, bool]:
    tap = parser_for(body, content_type=kind, content_encoding="")
    for chunk in chunks:
        tap.feed(chunk)
    return tap.end(), tap.content


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[i:j] for i, j in itertools.pairwise(places)]


@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 1 << 16), max_size=40))
def test_a_real_answer_is_read_alike_however_it_is_cut(answer: Any, at: list[int]) -> None:
    kind = answer.fields.get("content-type", "")
    wanted = read(answer.route.body, kind, [answer.body])
    assert read(answer.route.body, kind, cut(answer.body, at)) == wanted


@given(
    st.sampled_from(list(Body)),
    st.sampled_from(TYPES),
    st.lists(LINES, max_size=12),
    st.booleans(),
    st.lists(st.integers(0, 1 << 16), max_size=20),
)
def test_any_lines_are_read_alike_however_they_are_cut(
    body: Body,
    kind: str,
    lines: list[bytes],
    ended: bool,  # noqa: FBT001 - drawn
    at: list[int],
) -> None:
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    assert read(body, kind, cut(data, at)) == read(body, kind, [data])


@given(st.sampled_from(list(Body)), st.sampled_from(TYPES), st.lists(st.binary(), max_size=8))
def test_no_bytes_break_a_reader(body: Body, kind: str, chunks: list[bytes]) -> None:
    assert isinstance(read(body, kind, chunks)[0].ending, ResponseEnd)


@given(st.integers(0, 3000), st.text(), st.integers(1, 1 << 20))
def test_a_beginning_of_a_request_says_nothing_that_the_whole_does_not(
    length: int, prompt: str, context: int
) -> None:
    route = route_of("POST", "/api/generate")
    body = json.dumps(
        {"model": "m", "prompt": prompt, "options": {"num_ctx": context}, "keep_alive": "5m"}
    ).encode()
    whole = request_body.read(route, body, complete=True)
    part = request_body.read(route, body[:length], complete=False)
    assert (whole.model, whole.num_ctx, whole.keep_alive) == ("m", context, 300.0)
    assert part.model in (None, whole.model)
    assert part.num_ctx in (None, whole.num_ctx)
    assert part.keep_alive in (None, whole.keep_alive)
    assert not part.is_stop


@given(st.binary(max_size=200), st.booleans(), st.sampled_from(["/api/chat", "/v1/messages"]))
def test_no_bytes_break_the_reader_of_requests(
    body: bytes,
    complete: bool,  # noqa: FBT001 - drawn
    path: str,
) -> None:
    found = request_body.read(route_of("POST", path), body, complete=complete)
    assert found.model is None or isinstance(found.model, str)


@given(st.text(max_size=20), st.text(max_size=200))
def test_no_method_and_no_path_make_a_label_of_their_own(method: str, path: str) -> None:
    assert route_of(method, path).label in LABELS
