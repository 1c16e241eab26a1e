# SPDX-License-Identifier: Apache-2.0
"""A connection to the server that died while it was kept."""

import asyncio
from typing import Final

import pytest

from ollama_exporter.shim.observation import Outcome
from tests.support.exporting import until
from tests.support.loops import Run
from tests.support.proxying import Proxied
from tests.support.rawserver import (
    OK,
    End,
    Link,
    RawServer,
    Script,
    answers,
    once,
)
from tests.support.through import ASK, GET, error_of, through


def dies_idle(count: int, end: End) -> Script:
    """Serve `count` requests for each connection; end it at the next one's first byte."""

    async def script(link: Link) -> None:
        for _ in range(count):
            if await link.request() is None:
                return
            link.send(OK)
        await link.until(lambda: link.rest)
        link.reset() if end == "reset" else link.close()

    return script


PUT: Final = b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"
SHOW: Final = b"POST /api/show HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("end", ["fin", "reset"])
@pytest.mark.parametrize("asked", [GET, PUT, ASK], ids=["GET", "PUT", "generate"])
def test_a_request_on_a_dead_connection_is_repeated_once(run: Run, asked: bytes, end: End) -> None:
    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        assert (await client.ask(asked)).raw == OK
        assert (await client.ask(asked)).raw == OK
        assert len(server.links) == 2
        assert server.links[1].received == server.links[0].received[: len(server.links[1].received)]
        assert [seen.outcome for seen in proxy.observations].count(Outcome.UPSTREAM_ERROR) == 0

    run(through(dies_idle(1, end), check))


@pytest.mark.parametrize("end", ["fin", "reset"])
def test_what_the_server_may_have_acted_on_is_not_repeated(run: Run, end: End) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        create = SHOW.replace(b"show", b"create")
        assert (await client.ask(create)).raw == OK
        error_of(await client.ask(create), 502)
        assert len(server.links) == 1

    run(through(dies_idle(1, end), check))


def test_it_is_repeated_only_once(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        assert (await client.ask(GET)).raw == OK
        server.script = once(end="reset")
        error_of(await client.ask(GET), 502)
        assert len(server.links) == 2

    run(through(dies_idle(1, "reset"), check))


def test_a_connection_that_ended_while_idle_is_not_used(run: Run) -> None:
    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        create = SHOW.replace(b"show", b"create")
        for number in range(3):
            assert (await client.ask(create)).raw == OK
            server.links[number].close()
            await until(lambda: not proxy.proxy.pool.idle_count)
        assert len(server.links) == 3

    run(through(answers(OK), check))


def test_nothing_is_repeated_when_an_answer_had_begun(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        assert (await client.ask(GET)).raw == OK
        error_of(await client.ask(GET), 502)
        assert len(server.links) == 1

    async def begins(link: Link) -> None:
        await link.request()
        link.send(OK)
        await link.request()
        link.send(b"HTTP/1.1 2")
        await asyncio.sleep(0.01)
        link.reset()

    run(through(begins, check))


def test_a_body_that_was_not_kept_is_not_repeated(run: Run) -> None:
    big = b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + bytes(1_000_000)

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        assert (await client.ask(GET)).raw == OK
        client.send(big)
        error_of(await client.answer(), 502)
        assert len(server.links) == 1

    run(through(dies_idle(1, "reset"), check))
