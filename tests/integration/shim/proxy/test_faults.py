# SPDX-License-Identifier: Apache-2.0
"""A server that fails before its head: the client is told, in words and soon."""

import asyncio

import pytest

from ollama_exporter.shim.observation import Outcome
from tests.support.exporting import until
from tests.support.faultserver import closed_port
from tests.support.loops import Run
from tests.support.proxying import Clock, Proxied, limits_with, proxied
from tests.support.rawserver import (
    End,
    Link,
    RawServer,
    answers,
    caller,
    once,
)
from tests.support.through import ASK, GET, HASTY, error_of, passing, through


@pytest.mark.parametrize("request_", [GET, ASK], ids=["GET", "generate"])
def test_a_server_that_refuses_is_a_502(run: Run, request_: bytes) -> None:
    async def check() -> None:
        url = f"http://127.0.0.1:{closed_port()}"
        async with proxied(url) as proxy, caller(proxy.port) as client:
            assert "cannot connect to Ollama" in error_of(await client.ask(request_), 502)
            assert await client.gone() == "fin"
            assert proxy.observations[0].outcome is Outcome.UPSTREAM_ERROR

    run(check())


def test_a_name_that_does_not_resolve_is_a_502(run: Run) -> None:
    async def check() -> None:
        async with proxied("http://nosuch.invalid:1") as proxy, caller(proxy.port) as client:
            error_of(await client.ask(GET), 502)

    run(check())


@pytest.mark.parametrize("end", ["fin", "reset"])
@pytest.mark.parametrize("so_far", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nX-A: b\r\n"])
def test_an_end_before_the_head_s_is_a_502(run: Run, so_far: bytes, end: End) -> None:
    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        error_of(await client.ask(ASK), 502)
        assert len(server.links) == 1  # a fresh connection's death is no reason to ask again
        assert proxy.observations[0].outcome is Outcome.UPSTREAM_ERROR
        assert proxy.observations[0].code == 502

    run(through(once(so_far, end=end), check))


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01" + bytes(60),
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        b"<html>not HTTP at all</html>",
        bytes(range(256)) * 10,
    ],
    ids=lambda garbage: repr(garbage[:40]),
)
def test_garbage_is_a_502(run: Run, garbage: bytes) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        error_of(await client.ask(GET), 502)
        assert client.rest == b""
        await (await server.link()).gone()

    run(through(answers(garbage), check))


@pytest.mark.parametrize(
    "first", [b"", b"220 mail.example ESMTP\r\n", b"HTTP/1.1 408 T\r\nContent-Length: 0\r\n\r\n"]
)
@pytest.mark.parametrize("end", ["fin", "reset", None])
def test_a_server_that_answers_before_the_request_is_an_error_at_once(
    run: Run, first: bytes, end: End | None
) -> None:
    async def hasty(link: Link) -> None:
        link.send(first)
        if end == "reset":
            link.reset()
        elif end == "fin" or not first:
            link.close()

    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        client.send(ASK)
        answer = await client.answer()
        assert answer.status == 502 or (answer.status == 408 and first.startswith(b"HTTP"))

    for _ in range(5):  # when the loop hears of it is a matter of chance
        run(through(hasty, check, limits_with(shutdown_timeout=0.2)))


async def asked_in_vain(server: RawServer, proxy: Proxied, client: Link) -> None:
    """Ask, and let time pass until the proxy gives up."""
    client.send(ASK)
    await until(server.requests)
    await passing(proxy, until_ended=client)


def test_a_head_without_end_is_a_504_in_its_time(run: Run) -> None:
    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        await asked_in_vain(server, proxy, client)
        error_of(await client.answer(), 504)
        await (await server.link()).gone()
        assert proxy.observations[0].outcome is Outcome.TIMEOUT

    limits = limits_with(head_timeout=0.2, shutdown_timeout=1)
    run(through(once(b"HTTP/1.1 200 OK\r\nX-A: b\r\n"), check, limits, clock=Clock()))


def test_a_head_that_trickles_is_a_504_in_its_time(run: Run) -> None:
    async def trickle(link: Link) -> None:
        await link.request()
        link.send(b"HTTP/1.1 200 OK\r\n")
        while link.end is None:
            link.send(b"X: y\r\n")
            await asyncio.sleep(0.02)

    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        await asked_in_vain(server, proxy, client)
        error_of(await client.answer(), 504)

    limits = limits_with(head_timeout=0.3, shutdown_timeout=1)
    run(through(trickle, check, limits, clock=Clock()))


@pytest.mark.parametrize(
    "flood",
    [
        b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * (1 << 20),
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200_000,
        b"HTTP/1.1 200 " + b"a" * (1 << 20),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
    ],
    ids=["field", "fields", "reason", "informational answers"],
)
def test_a_head_too_long_is_a_502(run: Run, flood: bytes) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        client.send(GET)
        await client.gone()
        last = client.rest.rindex(b"HTTP/1.1 502")
        assert b'{"error": ' in client.rest[last:]
        await (await server.link()).gone()

    run(through(once(flood), check))


def test_silence_is_a_504_in_its_time(run: Run) -> None:
    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        await asked_in_vain(server, proxy, client)
        error_of(await client.answer(), 504)
        await (await server.link()).gone()
        assert proxy.observations[0].outcome is Outcome.TIMEOUT

    run(through(once(), check, HASTY, clock=Clock()))


def test_an_error_to_head_has_no_body(run: Run) -> None:
    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        answer = await client.ask(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.status == 502
        assert await client.gone() == "fin"
        assert client.rest == b""

    run(through(once(end="fin"), check))
