# SPDX-License-Identifier: Apache-2.0
"""A server that fails within its body: the answer breaks off, and never looks complete."""

import asyncio
from typing import Final

import pytest

from ollama_exporter.shim.observation import Outcome
from tests.support.exporting import until
from tests.support.loops import Run
from tests.support.proxying import Clock, Proxied
from tests.support.rawserver import (
    End,
    Link,
    RawServer,
    caller,
    once,
)
from tests.support.through import ASK, CHUNKED, GET, HASTY, passing, through

LENGTH: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"


async def broken(client: Link, request: bytes = GET) -> bytes:
    """Send a request whose answer breaks off; return what came, which is no complete answer."""
    client.send(request)
    await client.gone()
    with pytest.raises(AssertionError):
        await client.answer()
    return client.rest


BODIES: Final = {
    "length": (LENGTH + b"abc", b"abc"),
    "chunked": (CHUNKED + b"3\r\nabc\r\n", b"3\r\nabc\r\n"),
    "within a chunk": (CHUNKED + b"9\r\nabc", b"3\r\nabc\r\n"),
    "within a chunk's size": (CHUNKED + b"3\r\nabc\r\n1", b"3\r\nabc\r\n"),
    "before the last line": (CHUNKED + b"3\r\nabc\r\n0\r\n", b"3\r\nabc\r\n"),
    "within a trailer": (CHUNKED + b"3\r\nabc\r\n0\r\nX: y", b"3\r\nabc\r\n"),
    "before the body": (CHUNKED, b""),
}


@pytest.mark.parametrize("end", ["fin", "reset"])
@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("asked", [GET, ASK], ids=["GET", "generate"])
def test_a_death_within_the_body_breaks_the_answer_off(
    run: Run, asked: bytes, name: str, end: End
) -> None:
    wire, passed = BODIES[name]

    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        head, _, body = (await broken(client, asked)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body == passed  # what had come is not withheld
        assert len(server.links) == 1
        assert proxy.observations[0].outcome is Outcome.TRUNCATED

    run(through(once(wire, end=end), check))


@pytest.mark.parametrize(
    ("version", "end", "seen"),
    [
        (b"1.1", "fin", "fin"),
        (b"1.1", "reset", "fin"),
        (b"1.0", "fin", "fin"),
        (b"1.0", "reset", "reset"),
    ],
)
def test_a_body_until_close_ends_as_the_server_s_did(
    run: Run, version: bytes, end: End, seen: End
) -> None:
    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        client.send(b"GET /a HTTP/" + version + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert await client.gone() == seen
        if end == "fin":
            assert (await client.answer()).body == b"abc"
        elif version == b"1.1":
            assert client.rest.endswith(b"\r\n\r\n3\r\nabc\r\n")

    run(through(once(b"HTTP/1.1 200 OK\r\n\r\nabc", end=end), check))


@pytest.mark.parametrize("end", ["fin", "reset"])
def test_a_client_of_1_0_sees_a_reset_where_a_close_would_look_complete(run: Run, end: End) -> None:
    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        client.send(b"GET /a HTTP/1.0\r\n\r\n")
        await client.got(b"abc")
        assert await client.gone() == "reset"

    run(through(once(CHUNKED + b"3\r\nabc\r\n", end=end), check))


def test_garbage_within_the_body_breaks_the_answer_off(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        assert (await broken(client)).endswith(b"3\r\nabc\r\n")
        await (await server.link()).gone()

    run(through(once(CHUNKED + b"3\r\nabc\r\n", b"xyz\r\n"), check))
    run(through(once(CHUNKED + b"3\r\nabc\r\nxyz\r\n"), check_garbage_at_once))


async def check_garbage_at_once(_: RawServer, __: Proxied, client: Link) -> None:
    client.send(GET)
    await client.gone()
    assert not client.rest.endswith(b"0\r\n\r\n")
    assert client.rest.startswith((b"HTTP/1.1 200", b"HTTP/1.1 502"))


def test_silence_within_the_body_breaks_it_off_in_its_time(run: Run) -> None:
    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        client.send(ASK)
        await client.got(b"3\r\nabc\r\n")
        await passing(proxy, until_ended=client)
        with pytest.raises(AssertionError):  # it is no complete answer
            await client.answer()
        await (await server.link()).gone()
        assert proxy.observations[0].outcome is Outcome.TIMEOUT

    run(through(once(CHUNKED + b"3\r\nabc\r\n"), check, HASTY, clock=Clock()))


def test_a_slow_server_is_not_a_silent_one(run: Run) -> None:
    pieces = [b"1\r\n%d\r\n" % n for n in range(8)]

    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        client.send(ASK)
        await until(server.requests)
        for piece in [CHUNKED, *pieces]:
            await proxy.advance(HASTY.silence_timeout)
            server.links[0].send(piece)
            await client.got(piece[-5:])
        server.links[0].send(b"0\r\n\r\n")
        assert (await client.answer()).body == b"01234567"

    run(through(once(), check, HASTY, clock=Clock()))


def test_a_broken_connection_costs_other_clients_nothing(run: Run) -> None:
    async def by_path(link: Link) -> None:
        request = await link.request()
        assert request is not None
        if request.target == b"/dies":
            link.send(CHUNKED)
            link.reset()
            return
        link.send(CHUNKED)
        for n in range(10):
            link.send(b"1\r\n%d\r\n" % n)
            await asyncio.sleep(0.01)
        link.send(b"0\r\n\r\n")

    async def check(_: RawServer, proxy: Proxied, client: Link) -> None:
        client.send(GET)
        async with caller(proxy.port) as unlucky:
            unlucky.send(GET.replace(b"/a", b"/dies"))
            await unlucky.gone()
        assert (await client.answer()).body == b"0123456789"

    run(through(by_path, check))


def test_a_client_that_never_reads_is_ended_when_the_server_dies(run: Run) -> None:
    async def floods(link: Link) -> None:
        await link.request()
        link.send(CHUNKED)
        for _ in range(200):
            link.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        await asyncio.sleep(0.2)
        link.reset()

    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        client.transport.pause_reading()
        client.send(GET)
        await (await server.link()).gone()
        while proxy.proxy.connection_count:
            await proxy.advance(0.1)
        assert proxy.observations

    run(through(floods, check, HASTY, clock=Clock()))
