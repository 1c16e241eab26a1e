# SPDX-License-Identifier: Apache-2.0
"""Usage that the proxy asked for is taken out of a stream, and nothing else, however it comes."""

import re

import pytest

from ollama_exporter.protocol.request_body import RequestFields, read
from ollama_exporter.protocol.routes import route_of
from ollama_exporter.shim.proxy.usage_filter import (
    LONGEST_LINE,
    UsageFilter,
    wants_asking,
    with_usage,
)
from tests.support.growth import assert_linear
from tests.support.paths import DATA

CHAT = route_of("POST", "/v1/chat/completions")
LARGEST_READ = 1 << 20
ZEROS = b',"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}'


def recorded(name: str) -> bytes:
    """Return the body of a recorded stream, without its framing and its varying numbers."""
    body = (DATA / "http" / f"{name}.http").read_bytes().partition(b"\r\n\r\n")[2]
    whole, at = b"", 0
    while size := int(body[at : (end := body.index(b"\r\n", at))], 16):
        whole += body[end + 2 : end + 2 + size]
        at = end + 4 + size
    return re.sub(rb"(?<=cmpl-)\d+|(?<=created.:)\d+", b"0", whole)


def filtered(stream: bytes, size: int) -> bytes:
    """Return what a client gets of a stream that comes in pieces of this size."""
    usage = UsageFilter()
    pieces = [usage.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
    return b"".join(pieces) + usage.end()


@pytest.mark.parametrize("size", [1, 7, 100, LARGEST_READ])
def test_a_recorded_stream_with_usage_becomes_the_one_without(size: int) -> None:
    assert filtered(recorded("v1-chat-stream-usage"), size) == recorded("v1-chat-stream")
    completions = recorded("v1-completions-stream-usage")
    records = [x for x in completions.split(b"\n\n") if b'"choices":[]' not in x]
    assert filtered(completions, size) == b"\n\n".join(records).replace(ZEROS, b"")


@pytest.mark.parametrize(
    "stream",
    [
        b'data: {"choices":[{"delta":{"content":"\\"usage\\": 1"}}]}\n\n',
        b'data: {"choices":[],"usage":7}\n\n',
        b'data: {"choices":[{"x":1}],"usage":{"prompt_tokens":3}}\n\n',
        b'data: "usage"\n\ndata: {"usage":\n\ndata: [DONE]',
        b'data: {"a":"\xff","usage":null,"choices":[]}\r\n\r\n',
        b': "usage"\r\n\r\nevent: x\rdata: y\r\n\r\n',
        b'data: {"choices":[],"x":"' + b"a" * LONGEST_LINE + b'","usage":{}}\n\nrest',
        b"",
    ],
)
@pytest.mark.parametrize("size", [1, 50_000, LARGEST_READ])
def test_everything_else_passes_to_the_byte(stream: bytes, size: int) -> None:
    assert filtered(stream, size) == stream


def test_a_usage_that_says_nothing_is_dropped_from_its_record() -> None:
    record = b'data: {"choices":[{"delta":{}}],"usage":null}\r\n\r\n'
    assert filtered(record, 5) == b'data: {"choices":[{"delta":{}}]}\r\n\r\n'


def test_a_finished_line_never_waits() -> None:
    usage = UsageFilter()
    assert usage.feed(b'data: {"choices":[{}]}\n') == b'data: {"choices":[{}]}\n'
    assert usage.feed(b"\ndata: half") == b"\n"


@pytest.mark.parametrize(
    ("body", "new"),
    [
        (b'{"stream":true}', b'{"stream_options":{"include_usage":true},"stream":true}'),
        (b'{"stream":true,"stream_options":null}',) * 2,
        (b'{"stream":true,"stream_options":{"x":1}}',) * 2,
        (b'{"stream":true,"stream_options":{"include_usage":false}}',) * 2,
        (b'{"stream":true,"stream_options":{"include_usage":true}}', None),
        (b'{"Stream":true,"STREAM_options":{"Include_Usage":true}}', None),
        (b'{"stream":false}', None),
        (b'{"model":"m"}', None),
        (b'{"stream":true,"stream_options":7}', None),
        (b'{"stream":true', None),
        (b"\x1f\x8b", None),
    ],
)
def test_only_a_stream_whose_client_does_not_ask_is_asked(body: bytes, new: bytes | None) -> None:
    found = with_usage(body, read(CHAT, body, complete=True))
    if new != body:
        assert found == new
        return
    assert found is not None
    assert found != body
    assert read(CHAT, found, complete=True).wants_usage


def test_the_wish_of_a_large_request_is_found_as_it_passes() -> None:
    large = b'{"prompt":"' + b"a" * (128 << 10) + b'","stream":true,"stream_options":%b}'
    for options, wanted in ((b'{"include_usage":true}', False), (b"{}", True)):
        assert wants_asking(read(CHAT, large % options, complete=True)) is wanted
    assert not wants_asking(RequestFields())


@pytest.mark.parametrize(
    "unit", [b'data: {"usage":{}}\n', b',"usage":null}', b'{"usage":{"', b"\n"]
)
def test_a_stream_is_filtered_in_linear_time(unit: bytes) -> None:
    assert_linear(
        lambda stream: filtered(stream, 4096), lambda size: b"data: " + unit * (size // len(unit))
    )
