# SPDX-License-Identifier: Apache-2.0
"""Bodies, byte for byte and piece by piece, in every framing."""

import asyncio
from typing import Final

import pytest

from tests.support.loops import Run
from tests.support.proxying import Proxied
from tests.support.rawserver import OK, Link, RawServer, answers, once
from tests.support.through import CHUNKED, GET, LAST, chunk, head, through

BYTES: Final = bytes(range(256)) * 40


@pytest.mark.parametrize("body", [b"", b"\0", b"0\r\n\r\n", BYTES, BYTES * 100], ids=len)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_bodies_pass_both_ways(run: Run, framing: str, body: bytes) -> None:
    async def echo(link: Link) -> None:
        while (request := await link.request()) is not None:
            sent = request.body
            link.send(head(len(sent)) + sent if framing == "length" else CHUNKED)
            if framing == "chunked":
                link.send((chunk(sent) if sent else b"") + LAST)

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        field = b"Transfer-Encoding: chunked" if framing == "chunked" else b"Content-Length: %d"
        framed = field % len(body) if framing == "length" else field
        client.send(b"POST /a HTTP/1.1\r\nHost: x\r\n" + framed + b"\r\n\r\n")
        if framing == "length":
            client.send(body)
        else:
            client.send(b"".join(chunk(body[i : i + 4096]) for i in range(0, len(body), 4096)))
            client.send(LAST)
        answer = await client.answer()
        assert answer.body == body
        [request] = server.requests()
        assert request.body == body
        assert (request.chunks is None) is (framing == "length")

    run(through(echo, check))


@pytest.mark.parametrize("path", [b"/a", b"/api/chat"])
@pytest.mark.parametrize("framing", ["chunked", "length", "until close"])
def test_each_piece_arrives_before_the_next_is_written(run: Run, framing: str, path: bytes) -> None:
    pieces = [b'{"n":%d}\n' % n + b"x" * n for n in range(30)]
    arrived = asyncio.Semaphore(0)

    async def stepwise(link: Link) -> None:
        await link.request()
        whole = sum(map(len, pieces))
        first = {"chunked": CHUNKED, "length": head(whole)}.get(framing, b"HTTP/1.1 200 OK\r\n\r\n")
        link.send(first)
        for piece in pieces:
            await arrived.acquire()
            link.send(chunk(piece) if framing == "chunked" else piece)
        await arrived.acquire()
        link.send(LAST) if framing == "chunked" else link.close()

    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        client.send(b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        await client.got(b"\r\n\r\n")
        for piece in pieces:
            arrived.release()
            await client.got(piece)
        arrived.release()
        answer = await client.answer()
        assert answer.body == b"".join(pieces)
        if framing != "length":
            assert answer.chunks == pieces

    run(through(stepwise, check))


def test_each_piece_of_a_request_arrives_before_the_next_is_written(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        link = await server.link()
        await link.got(b"\r\n\r\n")
        for n in range(20):
            client.send(chunk(b"piece %d" % n))
            await link.got(b"piece %d\r\n" % n)
        client.send(LAST)
        await link.got(LAST)

    async def nothing(_: Link) -> None:
        pass

    run(through(nothing, check))


def test_a_long_answer_whose_chunks_come_apart_from_their_sizes_passes(run: Run) -> None:
    count = 25_000

    async def apart(link: Link) -> None:
        await link.request()
        link.send(CHUNKED)
        for _ in range(count):
            for part in (b"5\r\n", b"abcde\r\n"):
                link.send(part)
                await asyncio.sleep(0)  # the proxy reads it
                await asyncio.sleep(0)
        link.send(LAST)

    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        client.send(GET)
        await client.until(lambda: client.end or client.received.endswith(LAST))
        assert client.received.count(b"abcde") == count

    run(through(apart, check))


def test_the_first_bytes_do_not_wait_for_the_end_of_a_head_s_read(run: Run) -> None:
    first = CHUNKED + chunk(b"first")

    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        client.send(GET)
        await client.got(b"first")
        assert client.rest == first

    run(through(once(first), check))


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_answers_without_a_body_end_at_once(run: Run, status: bytes) -> None:
    answer = b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n"

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        for _number in range(3):
            assert (await client.ask(GET)).raw == answer
        assert len(server.links) == 1

    run(through(answers(answer), check))


def test_a_304_may_name_the_length_it_does_not_have(run: Run) -> None:
    answer = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"

    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        for _number in range(3):
            assert (await client.ask(GET)).raw == answer

    run(through(answers(answer), check))


@pytest.mark.parametrize(
    "fields", [b"Content-Length: 1000\r\n", b"Transfer-Encoding: chunked\r\n", b""]
)
def test_head_has_no_body_whatever_its_fields_say(run: Run, fields: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + fields + b"X-A: b\r\n\r\n"

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        for _number in range(3):
            got = await client.ask(GET.replace(b"GET", b"HEAD"))
            assert got.status == 200
            assert got.all(b"x-a") == [b"b"]
            assert got.all(b"content-length") == ([b"1000"] if b"1000" in fields else [])
        assert [r.first[:4] for r in server.requests()] == [b"HEAD"] * 3
        assert len(server.links) == 1

    run(through(answers(answer), check))


def test_a_body_behind_the_answer_to_head_is_dropped(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        for _number in range(2):
            got = await client.ask(GET.replace(b"GET", b"HEAD"))
            assert got.raw == head(5)
        await (await server.link()).gone()
        assert client.rest == b""

    run(through(answers(head(5) + b"hello"), check))


def test_delete_with_a_body_passes(run: Run) -> None:
    request = b'DELETE /api/delete HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{"model":"m"}'

    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        await client.ask(request)
        assert server.received == request.replace(b"Host: x", b"Host: " + server.authority)
        assert proxy.observations[0].route.label == "/api/delete"

    run(through(answers(OK), check))


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_body_until_close_passes(run: Run, version: bytes) -> None:
    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        client.send(b"GET /a HTTP/" + version + b"\r\nHost: x\r\n\r\n")
        answer = await client.answer()
        assert answer.body == BYTES * 2
        if version == b"1.0":
            assert answer.all(b"transfer-encoding") == []
            assert await client.gone() == "fin"

    run(through(once(b"HTTP/1.1 200 OK\r\n\r\n" + BYTES, BYTES, end="fin"), check))


def test_a_client_of_1_0_gets_no_chunks(run: Run) -> None:
    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        client.send(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = await client.answer()
        assert (answer.body, answer.chunks) == (b"abcd", None)
        assert answer.all(b"connection") == [b"close"]
        assert await client.gone() == "fin"

    run(through(answers(CHUNKED + chunk(b"ab"), chunk(b"cd"), LAST), check))


def test_a_client_of_1_0_may_be_kept(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        for _number in range(3):
            answer = await client.ask(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert (answer.body, answer.all(b"connection")) == (b"ok", [b"keep-alive"])
        client.send(b"GET /a HTTP/1.0\r\n\r\n")
        assert (await client.answer()).all(b"connection") == [b"close"]
        assert await client.gone() == "fin"
        assert all(r.first.endswith(b"HTTP/1.1") for r in server.requests())

    run(through(answers(OK), check))


def test_trailers_and_extensions_of_an_answer_are_dropped(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        for _number in range(2):
            answer = await client.ask(GET)
            assert answer.raw == CHUNKED + chunk(b"ok") + LAST
        assert len(server.links) == 1

    body = CHUNKED + b"2;a=b\r\nok\r\n0\r\nX-T: 1\r\nContent-Length: 7\r\n\r\n"
    run(through(answers(body.replace(b"Content-Length: 7\r\n", b"")), check))
