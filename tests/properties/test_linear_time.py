# SPDX-License-Identifier: Apache-2.0
"""Bytes that others choose are read in time that grows with their length alone."""

import contextlib
import json
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_exporter.errors import TargetError
from ollama_exporter.protocol import json_edit, keepalive
from ollama_exporter.protocol.error_text import classify
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.protocol.request_body import BodyReader, read
from ollama_exporter.protocol.routes import Body, route_of
from ollama_exporter.protocol.stream_parsers import parser_for
from ollama_exporter.protocol.wire import (
    decode_ps,
    decode_show,
    decode_tags,
    decode_version,
    parse_time,
    server_date,
)
from tests.support.growth import assert_linear

HEAD = b'{"model":"m","messages":[{"content":"'
PIECES = {
    "escaped quotes": b'\\"',
    "backslashes": b"\\",
    "quotes": b'"',
    "rows of JSON in a prompt": json.dumps('{"id": 1, "name": "x"}\n').encode()[1:-1],
    "source code in a prompt": json.dumps('print("a", \'b\', "\\n")\n').encode()[1:-1],
    "brackets": b'"[',
    "braces": b'"{',
    "commas": b'",',
    "empty strings": b'","',
    "numbers": b'"]}],1,',
    "blanks": b'" ',
    "broken UTF-8": b"\xff\xfe",
    "NUL": b"\0",
}
FORM_PIECES = {
    "the field again and again": b"name=model\r\n",
    "without line ends": b"name=model ",
    "in quotes": b'name="model"',
    "empty values": b'name="model"\r\n\r\n\r\n',
    "header lines": b"X: y\r\n",
    "blank lines": b"\r\n",
    "line ends of one character": b"name=model\n",
}


def filled(head: bytes, piece: bytes) -> Callable[[int], bytes]:
    return lambda size: (head + piece * (size // len(piece) + 1))[:size]


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
def test_a_cut_body_is_read_in_linear_time(path: str, piece: bytes) -> None:
    route = route_of("POST", path)
    assert_linear(lambda body: read(route, body, complete=False), filled(HEAD, piece))


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
def test_a_whole_body_is_read_in_linear_time(piece: bytes) -> None:
    route = route_of("POST", "/api/chat")
    assert_linear(lambda body: read(route, body, complete=True), filled(HEAD, piece))


@pytest.mark.parametrize("piece", FORM_PIECES.values(), ids=FORM_PIECES)
def test_a_form_is_read_in_linear_time(piece: bytes) -> None:
    route = route_of("POST", "/v1/audio/transcriptions")
    assert_linear(lambda body: read(route, body, complete=False), filled(b"", piece))


@pytest.mark.parametrize("piece", [b"1,", b"[],", b"[[]],", b'{"name":NaN},', b" ", b'"",', b"{"])
def test_a_listing_with_odd_values_is_read_in_linear_time(piece: bytes) -> None:
    def decode(body: bytes) -> None:
        with contextlib.suppress(TargetError):
            decode_ps(body)

    make = filled(b'{"x":NaN,"models":[', piece)
    assert_linear(decode, lambda size: make(size - 4) + b"0]}")


MEMBER_PIECES = {
    "brackets": b"[",
    "pairs": b"[[]],",
    "strings": b'"",',
    "members": b'0],"m":1,"a":[',
    "empty arrays": b'0],"m":[],"a":[',
    "nested arrays": b'0],"m":[[]],"a":[',
    "deep arrays": b"[" * 40 + b"]" * 40 + b",",
    "long keys": b'0],"' + b"k" * 300 + b'":1,"a":[',
    "options": b'0],"options":{"n":1},"a":[',
    "blanks": b" " * 100,
}


@pytest.mark.parametrize("chunk", [1000, 1 << 16])
@pytest.mark.parametrize("piece", MEMBER_PIECES.values(), ids=MEMBER_PIECES)
def test_a_body_is_scanned_in_linear_time(piece: bytes, chunk: int) -> None:
    def scan(body: bytes) -> None:
        reader = BodyReader(route_of("POST", "/api/chat"))
        for at in range(0, len(body), chunk):
            reader.feed(body[at : at + chunk])
        reader.fields(complete=True)

    assert_linear(scan, filled(b'{"a":[', piece))


@pytest.mark.parametrize("prompt", ['"', "\\", "[", "{", ",", ":", " ", "\n"])
def test_a_member_is_set_in_linear_time(prompt: str) -> None:
    def body(size: int) -> bytes:
        return json.dumps({"model": "m", "prompt": prompt * (size // 2)}).encode()

    assert_linear(lambda given: json_edit.set_member(given, ("keep_alive",), b"300"), body)


@pytest.mark.parametrize("path", [("a",), ("a", "b")])
def test_many_equal_keys_are_set_in_linear_time(path: tuple[str, ...]) -> None:
    def body(size: int) -> bytes:
        return b"{" + b",".join([b'"a":{"b":1}'] * (size // 12)) + b"}"

    assert_linear(lambda given: json_edit.set_member(given, path, b"300"), body)


@given(st.binary(max_size=40), st.binary(min_size=1, max_size=6))
def test_no_bytes_make_a_body_hang(head: bytes, piece: bytes) -> None:
    """Quadratic work would take minutes here: the test's time limit is the assertion."""
    body = (b'{"a":"' + head + piece * (1 << 16))[: 1 << 17]
    for path in ("/api/chat", "/v1/audio/transcriptions"):
        read(route_of("POST", path), body, complete=False)


def test_a_body_cut_anywhere_gives_what_stood_before_the_cut() -> None:
    whole = json.dumps(
        {
            "model": "m",
            "options": {"num_ctx": 8192},
            "keep_alive": "5m",
            "messages": [{"role": "user", "content": '{"id": "\\"", "x": [1, "]"]}' * 8}],
        }
    ).encode()
    model, context, keep_alive = (
        whole.index(b', "options"'),
        whole.index(b', "keep_alive"'),
        whole.index(b', "messages"'),
    )
    for cut in range(len(whole)):
        found = read(route_of("POST", "/api/chat"), whole[:cut], complete=False)
        assert found.model == ("m" if cut >= model else None)
        assert found.num_ctx == (8192 if cut >= context else None)
        assert found.keep_alive == (300 if cut >= keep_alive else None)


def test_a_large_prompt_that_holds_json_still_tells_its_model() -> None:
    rows = '{"id": 1, "name": "x"}\n' * 60_000
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": rows}]}).encode()
    assert len(body) > 1 << 20
    assert (
        read(route_of("POST", "/v1/chat/completions"), body[: 1 << 20], complete=False).model == "m"
    )


# -- what the server, or a program in its place, writes --------------------------------------------

ANSWER_PIECES = {
    "open records": b'{"done":',
    "done": b'"done":true',
    "not done": b'"done":false',
    "records": b'{"done": false}\n',
    "steps": b'{"completed":1}\n',
    "errors": b'{"error":"',
    "blank lines": b"\n",
    "events": b"data: {\n\n",
    "choices": b'data: {"choices"   :',
    "finish reasons": b'"finish_reason"  : ',
    "usages": b'data: {"usage":{}}\n',
    "last events": b"data:[DONE]\n",
    "blanks": b" ",
    "digits": b"9",
    "braces": b"{",
    "backslashes": b"\\",
}
FRAMINGS = [
    (Body.NATIVE, "application/x-ndjson"),
    (Body.NATIVE, "application/json"),
    (Body.OPENAI, "text/event-stream"),
    (Body.OPENAI, "application/json"),
    (Body.RESPONSES, "text/event-stream"),
    (Body.ANTHROPIC, "text/event-stream"),
    (Body.OBJECT, "application/json"),
]


@pytest.mark.parametrize(("body", "kind"), FRAMINGS)
@pytest.mark.parametrize("piece", ANSWER_PIECES.values(), ids=ANSWER_PIECES)
def test_an_answer_is_read_in_linear_time(body: Body, kind: str, piece: bytes) -> None:
    def work(data: bytes) -> None:
        parser = parser_for(body, content_type=kind, content_encoding="")
        for at in range(0, len(data), 1 << 14):
            parser.feed(data[at : at + (1 << 14)])
        parser.end()

    assert_linear(work, filled(b'{"done":false}\n', piece))


@pytest.mark.parametrize("first", [b"{", b" "])
def test_an_answer_of_an_unknown_type_is_read_in_linear_time(first: bytes) -> None:
    def work(data: bytes) -> None:
        parser = parser_for(Body.NATIVE, content_type="text/plain", content_encoding="")
        for at in range(0, len(data), 1 << 6):
            parser.feed(data[at : at + (1 << 6)])
        parser.end()

    assert_linear(work, filled(first, b" "))


LISTING_PIECES = {
    "entries": b'{"name":"a"},',
    "odd entries": b'{"name":null,"size":"x"},',
    "entries that are no objects": b"1,",
    "names": b'{"name":"' + b"a" * 300 + b'"},',
    "times": b'{"name":"a","expires_at":"2026-' + b"0" * 70 + b'"},',
    "digits": b'{"name":"a","size":' + b"9" * 500 + b"},",
    "deep details": b'{"name":"a","details":' + b"[" * 50 + b"]" * 50 + b"},",
}


@pytest.mark.parametrize("decode", [decode_ps, decode_tags])
@pytest.mark.parametrize("piece", LISTING_PIECES.values(), ids=LISTING_PIECES)
def test_a_listing_is_read_in_linear_time(
    decode: Callable[[bytes], Sequence[object]], piece: bytes
) -> None:
    def body(size: int) -> bytes:
        return b'{"models":[' + piece * (size // len(piece)) + b'{"name":"last"}]}'

    assert_linear(lambda given: decode(given)[-1], body)


@pytest.mark.parametrize(
    "frame",
    [
        b'{"models":[{"name":"a","size":%b}]}',
        b'{"models":[{"name":"%b"}]}',
        b'{"models":[{"name":"a","expires_at":"%b"}]}',
        b'{"models":[{"name":"a","details":{"family":"%b"}}]}',
    ],
)
def test_one_long_field_is_read_in_linear_time(frame: bytes) -> None:
    assert_linear(decode_ps, lambda size: frame % (b"9" * size))


@pytest.mark.parametrize("piece", ["9", "FROM x\n", "FROM /", "sha256-", "\n", "out of memory"])
def test_versions_modelfiles_and_errors_are_read_in_linear_time(piece: str) -> None:
    def text(size: int) -> bytes:
        return piece.encode() * (size // len(piece))

    def work(given: bytes) -> None:
        decode_version(json.dumps({"version": given.decode()}).encode())
        decode_show(json.dumps({"modelfile": given.decode()}).encode())
        classify(given.decode())
        normalise(given.decode())
        server_date(given.decode())
        with contextlib.suppress(TargetError):
            parse_time(given.decode())

    assert_linear(work, text)


@pytest.mark.parametrize("piece", ["1h", "9", ".", "1", "-", "1.", "µ", "1s1x"])
def test_a_duration_is_read_in_linear_time(piece: str) -> None:
    def work(given: bytes) -> None:
        with contextlib.suppress(keepalive.KeepAliveError):
            keepalive.parse(given.decode())

    assert_linear(work, lambda size: piece.encode() * (size // len(piece.encode())))
