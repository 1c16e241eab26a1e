# SPDX-License-Identifier: Apache-2.0
"""Odd requests: each is refused, or forwarded once with one meaning, as the server's bytes show."""

import pytest

from tests.support.loops import Run
from tests.support.oddities import BROKEN, CHUNKED, FORWARDED, REFUSED
from tests.support.proxying import proxied
from tests.support.rawserver import OK, Link, RawServer, answers, caller, rawserver
from tests.support.wire import Message

GOOD_CHUNK = b"1\r\nx\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\n\r\n"


async def got(client: Link, server: RawServer, request: bytes, count: int) -> list[Message]:
    """Send it, take its answers and, if the connection is kept, that of one more request.

    Return what the server was asked before that one.
    """
    client.send(request)
    for _ in range(count):
        answer = await client.answer()
        assert answer.status == 200, answer
    client.send(LAST)
    assert (await client.answer()).status == 200
    *before, last = server.requests()
    assert last.target == b"/last"
    return before


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_rejected_and_nothing_of_it_is_sent_on(run: Run, name: str) -> None:
    status, request = REFUSED[name]

    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url) as proxy,
            caller(proxy.port) as client,
        ):
            client.send(request)
            answer = await client.answer()
            assert (answer.status, answer.all(b"connection")) == (status, [b"close"])
            assert await client.gone() == "fin"
            assert client.rest == b""  # one answer, whatever came behind it
            assert server.received == b""

    run(check())


@pytest.mark.parametrize("name", BROKEN)
def test_a_body_that_breaks_is_never_a_complete_request(run: Run, name: str) -> None:
    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url) as proxy,
            caller(proxy.port) as at_once,
            caller(proxy.port) as later,
        ):
            at_once.send(BROKEN[name])
            await refused(at_once)
            assert server.received == b""
            later.send(CHUNKED + GOOD_CHUNK)
            link = await server.link()
            await link.got(GOOD_CHUNK)
            later.send(BROKEN[name].removeprefix(CHUNKED))
            await refused(later)
            await link.gone()
            assert b"\r\n0\r\n\r\n" not in link.received
            assert b"/smuggled" not in link.received

    async def refused(client: Link) -> None:
        answer = await client.answer()
        assert answer.status == 400
        assert await client.gone() == "fin"
        assert client.rest == b""

    run(check())


@pytest.mark.parametrize("name", FORWARDED)
def test_forwarded_once_with_one_meaning(run: Run, name: str) -> None:
    request, expected = FORWARDED[name]

    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url) as proxy,
            caller(proxy.port) as client,
        ):
            [seen] = await got(client, server, request, 1)
            assert seen.raw == expected.replace(b"@", server.authority)

    run(check())
