# SPDX-License-Identifier: Apache-2.0
"""One request after another on a connection, and many at once."""

from typing import Final

import pytest

from tests.support.loops import Run
from tests.support.proxying import Proxied
from tests.support.rawserver import OK, Link, RawServer, answers, caller
from tests.support.through import CHUNKED, GET, LAST, chunk, head, through


@pytest.mark.parametrize(
    "answer",
    [OK, CHUNKED + chunk(b"ok") + LAST, b"HTTP/1.1 204 No Content\r\n\r\n"],
    ids=["length", "chunked", "no body"],
)
def test_one_connection_to_the_server_serves_requests_in_turn(run: Run, answer: bytes) -> None:
    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        for _number in range(30):
            assert (await client.ask(GET)).raw == answer
        for _number in range(20):
            async with caller(proxy.port) as another:
                assert (await another.ask(GET)).raw == answer
        assert len(server.requests()) == 50
        assert len(server.links) == 1

    run(through(answers(answer), check))


def test_an_answer_that_says_close_ends_the_server_s_connection_and_not_the_client_s(
    run: Run,
) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        for _number in range(3):
            assert (await client.ask(GET)).raw == OK
        assert len(server.links) == 3
        for link in server.links:
            await link.gone()

    run(through(answers(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")), check))


def test_what_follows_an_answer_unasked_is_dropped(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        for number in range(2):
            assert (await client.ask(GET)).raw == OK
            await (await server.link(number)).gone()
        assert client.rest == b""

    evil = b"HTTP/1.1 404 Evil\r\nContent-Length: 4\r\n\r\nevil"
    for unasked in (evil, OK, b"more", b"\x16\x03\x01"):
        run(through(answers(OK + unasked), check))
        run(through(answers(OK, unasked), check_later))


async def check_later(server: RawServer, _: Proxied, client: Link) -> None:
    assert (await client.ask(GET)).raw == OK
    await (await server.link()).gone()
    assert (await client.ask(GET)).raw == OK
    assert client.rest == b""


def test_pipelined_requests_are_answered_in_order(run: Run) -> None:
    async def named(link: Link) -> None:
        while (request := await link.request()) is not None:
            sent = request.target + request.body
            link.send(head(len(sent)) + (b"" if request.first.startswith(b"HEAD") else sent))

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        client.send(
            b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n"
            b"POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
            b"POST /3 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n"
            b"HEAD /4 HTTP/1.1\r\nHost: x\r\n\r\n"
            b"POST /5 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
        )
        bodies = [(await client.answer()).body for _ in range(3)]
        assert bodies == [b"/1", b"/2abc", b"/3de"]
        assert (await client.answer(b"HEAD")).all(b"content-length") == [b"2"]
        client.send(b"fgGET /6 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [(await client.answer()).body for _ in range(2)] == [b"/5fg", b"/6"]
        assert len(server.links) == 1

    run(through(named, check))


MANY: Final = 1000  # requests: more than are read at once


def test_thousands_of_pipelined_requests_are_all_answered(run: Run) -> None:
    padding = b"X-A: " + b"a" * 100 + b"\r\n"
    upgrade = b"Connection: upgrade\r\nUpgrade: a\r\n"

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        for fields in (padding, upgrade):
            client.send((b"GET /a HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n") * MANY)
            await client.until(lambda: len(client.rest) >= MANY * len(OK))
            assert client.take(MANY * len(OK)) == OK * MANY
        assert len(server.requests()) == 2 * MANY

    run(through(answers(OK), check))


@pytest.mark.parametrize("version", [b"1.1\r\nConnection: close", b"1.0"])
@pytest.mark.parametrize("rest", [b"\r\n", GET, b"garbage\x01"])
def test_what_follows_a_last_request_is_ignored(run: Run, version: bytes, rest: bytes) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        client.send(b"GET /a HTTP/" + version + b"\r\nHost: x\r\n\r\n" + rest)
        answer = await client.answer()
        assert answer.status == 200
        assert await client.gone() == "fin"
        assert client.rest == b""
        assert len(server.requests()) == 1

    run(through(answers(OK), check))


def test_a_refused_request_is_answered_behind_those_before_it(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        client.send(GET + GET + b"GET /b HTTP/1.1\r\n\r\n" + GET)
        assert [(await client.answer()).status for _ in range(3)] == [200, 200, 400]
        assert await client.gone() == "fin"
        assert client.rest == b""
        assert len(server.requests()) == 2

    run(through(answers(b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n\r\n", b"o", b"k"), check))
