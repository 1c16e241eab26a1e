# SPDX-License-Identifier: Apache-2.0
"""Framing: however the wire is cut, the same bytes reach the server and the same body the client.

Over real sockets; on one loop kept for all examples, because making one costs more than an example.
"""

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.loops import LOOPS, Watched
from tests.support.proxying import proxied
from tests.support.rawserver import OK, Link, answers, caller, rawserver
from tests.support.wire import Message

EXAMPLES: Final = 300
TOKEN: Final = st.text("abcXYZ09-_!#$%&'*+.^`|~", min_size=1, max_size=8).map(str.encode)
VALUE: Final = st.binary(max_size=12).map(
    lambda raw: bytes(b for b in raw if b == 9 or (32 <= b != 127)).strip(b" \t")
)
FIELDS: Final = st.lists(st.tuples(TOKEN.map(lambda name: b"X-" + name), VALUE), max_size=4)
PIECES: Final = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
CUTS: Final = st.lists(st.integers(1, 400), max_size=8)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes, list[bytes]]:
    """Draw a request: its wire, its method, and the pieces of its body."""
    method = draw(st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS"]))
    pieces: list[bytes] = draw(PIECES)
    fields = [b"%b: %b\r\n" % field for field in draw(FIELDS)]
    wire = method + b" /" + draw(st.text("ab/%2F.?=&", max_size=10)).encode() + b" HTTP/1.1\r\n"
    kind = draw(st.sampled_from(["chunked", "length", "none"]))
    if kind == "chunked":
        framing, body = (
            b"Transfer-Encoding: chunked\r\n",
            b"".join(map(_chunk, pieces)) + b"0\r\n\r\n",
        )
    elif pieces or kind == "length":
        body = b"".join(pieces)
        framing = b"Content-Length: %d\r\n" % len(body)
    else:
        framing = body = b""
    order = draw(st.permutations([b"Host: x\r\n", framing, *fields]))
    return wire + b"".join(order) + b"\r\n" + body, method, pieces


@st.composite
def responses(draw: st.DrawFn) -> tuple[bytes, bytes, int]:
    """Draw an answer: its wire, its body, its status."""
    pieces = draw(PIECES)
    body = b"".join(pieces)
    status = draw(st.sampled_from([200, 201, 204, 304, 400, 404, 500, 503]))
    early = draw(
        st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 P\r\nA: b\r\n\r\n"])
    )
    fields = b"".join(b"%b: %b\r\n" % field for field in draw(FIELDS))
    head = early + b"HTTP/1.1 %d %b\r\n%b" % (
        status,
        draw(st.sampled_from([b"", b"OK", b"A b"])),
        fields,
    )
    if status in {204, 304}:
        return head + b"\r\n", b"", status
    if draw(st.booleans()):
        framed = b"".join(map(_chunk, pieces)) + b"0\r\n\r\n"
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + framed, body, status
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body, body, status


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def cut(wire: bytes, at: list[int]) -> list[bytes]:
    """Cut at these places, as far as there are any."""
    places = sorted({0, len(wire), *(place % (len(wire) + 1) for place in at)})
    return [wire[a:b] for a, b in pairwise(places)]


@pytest.fixture(scope="module", params=sorted(LOOPS))
def loop(request: pytest.FixtureRequest) -> Iterator[Watched]:
    with Watched(request.param) as watched:
        yield watched


async def sent_on(wire: bytes, at: list[int], count: int) -> list[Message]:
    """Send bytes in pieces; return what the server got, once all is answered."""
    async with (
        rawserver(answers(OK)) as server,
        proxied(server.url) as proxy,
        caller(proxy.port) as client,
    ):
        for piece in cut(wire, at):
            client.send(piece)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        for _ in range(count):
            assert (await client.answer()).raw == OK
        assert client.rest == b""
        assert len(server.links) == 1
        return server.requests()


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=4), CUTS)
def test_requests_reach_the_server_as_they_are_however_they_are_cut(
    loop: Watched, asked: list[tuple[bytes, bytes, list[bytes]]], at: list[int]
) -> None:
    seen = loop.run(sent_on(b"".join(wire for wire, _, _ in asked), at, len(asked)))
    assert len(seen) == len(asked)
    for (wire, method, pieces), message in zip(asked, seen, strict=True):
        first, *lines = wire.partition(b"\r\n\r\n")[0].split(b"\r\n")
        own = [tuple(line.split(b": ", 1)) for line in lines if line.startswith(b"X-")]
        assert message.first == first
        assert message.first.startswith(method)
        assert message.body == b"".join(pieces)
        assert [field for field in message.fields if field[0].startswith(b"X-")] == own


async def passed(wire: bytes, at: list[int]) -> list[Message]:
    """Let the server answer twice in pieces; return what the client got."""

    async def in_pieces(link: Link) -> None:
        while await link.request() is not None:
            for piece in cut(wire, at):
                link.send(piece)
                await asyncio.sleep(0)
                await asyncio.sleep(0)

    async with (
        rawserver(in_pieces) as server,
        proxied(server.url) as proxy,
        caller(proxy.port) as client,
    ):
        request = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
        found = [await client.ask(request), await client.ask(request)]
        assert client.rest == b""
        assert len(server.links) == 1
        return found


@settings(max_examples=EXAMPLES, deadline=None)
@given(responses(), CUTS)
def test_answers_reach_the_client_as_they_are_however_they_are_cut(
    loop: Watched, answer: tuple[bytes, bytes, int], at: list[int]
) -> None:
    wire, body, status = answer
    for seen in loop.run(passed(wire, at)):
        assert (seen.status, seen.body) == (status, body)
        heads = wire.partition(b"\r\n\r\nHTTP")[2] or wire
        own = heads.partition(b"\r\n\r\n")[0].split(b"\r\n")
        kept = [line for line in own if line.startswith(b"X-")]
        assert [b": ".join(field) for field in seen.fields if field[0].startswith(b"X-")] == kept


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=300), CUTS)
def test_any_bytes_are_answered_or_awaited_and_never_make_two_readings(
    loop: Watched, noise: bytes, at: list[int]
) -> None:
    """Behind a good request: that one is answered, whatever follows."""

    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url) as proxy,
            caller(proxy.port) as client,
        ):
            client.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
            for piece in cut(noise, at):
                client.send(piece)
                await asyncio.sleep(0)
            assert (await client.answer()).raw == OK
            assert server.requests()[0].target == b"/a"
            assert proxy.errors == []

    loop.run(check())
