# SPDX-License-Identifier: Apache-2.0
"""How long a client may take, and how many there may be."""

import asyncio
import json
import socket
import tracemalloc
from contextlib import AsyncExitStack, ExitStack
from typing import Final

import pytest
from msgspec.structs import replace

from ollama_exporter.shim.observation import Outcome
from tests.support.exporting import until
from tests.support.loops import Run
from tests.support.proxying import Clock, limits_with, proxied
from tests.support.rawserver import OK, Link, RawServer, answers, caller, once, rawserver
from tests.support.through import GET, passing

LIMITS: Final = limits_with(shutdown_timeout=0.3)


async def refused(client: Link, status: int) -> str:
    """Take the last answer of a connection, and its end; return the error."""
    answer = await client.answer()
    assert answer.status == status, answer
    assert await client.gone() == "fin"
    assert client.rest == b""
    return str(json.loads(answer.body)["error"])


BRIEF: Final = replace(LIMITS, head_timeout=0.2, idle_timeout=0.5)


@pytest.mark.parametrize(
    "so_far", [b"G", b"GET /a HTTP/1.1\r\n", GET[:-2]], ids=["method", "line", "fields"]
)
@pytest.mark.parametrize("before", [b"", GET], ids=["first", "second"])
def test_a_head_that_does_not_come_is_a_408(run: Run, before: bytes, so_far: bytes) -> None:
    clock = Clock()
    began = clock.at

    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=BRIEF, clock=clock) as proxy,
            caller(proxy.port) as client,
        ):
            client.send(before + so_far)
            if before:
                assert (await client.answer()).status == 200
            await passing(proxy, until_ended=client)
            assert "head" in await refused(client, 408)
            assert clock.at - began < BRIEF.idle_timeout

    run(check())


def test_a_head_that_trickles_is_a_408_in_its_time(run: Run) -> None:
    clock = Clock()
    began = clock.at

    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=BRIEF, clock=clock) as proxy,
            caller(proxy.port) as client,
        ):
            client.send(GET[:-2])
            while not client.received:
                client.send(b"X: y\r\n")
                await proxy.advance(0.05)
                assert clock.at - began < BRIEF.idle_timeout
            await refused(client, 408)

    run(check())


def test_an_idle_connection_is_closed_without_a_response(run: Run) -> None:
    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=replace(BRIEF, idle_timeout=0.2), clock=Clock()) as proxy,
            caller(proxy.port) as fresh,
            caller(proxy.port) as used,
        ):
            assert (await used.ask(GET)).status == 200
            await passing(proxy, until_ended=used)
            assert [await fresh.gone(), await used.gone()] == ["fin", "fin"]
            assert fresh.received == used.rest == b""
            await (await server.link()).gone()  # and so is the server's

    run(check())


def test_a_busy_connection_is_not_idle(run: Run) -> None:
    async def check() -> None:
        async with (
            rawserver(once()) as server,
            proxied(server.url, limits=BRIEF, clock=Clock()) as proxy,
            caller(proxy.port) as client,
        ):
            client.send(GET)
            await until(server.requests)
            for _ in range(3):
                await proxy.advance(BRIEF.idle_timeout)
            server.links[0].send(OK)
            assert (await client.answer()).status == 200

    run(check())


@pytest.mark.parametrize("fields", [b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_body_that_does_not_come_is_a_408(run: Run, fields: bytes) -> None:
    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=replace(BRIEF, idle_timeout=0.2), clock=Clock()) as proxy,
            caller(proxy.port) as client,
        ):
            client.send(b"POST /a HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n1\r\n")
            await (await server.link()).got(b"\r\n\r\n")
            await passing(proxy, until_ended=client)
            assert "body" in await refused(client, 408)
            await (await server.link()).gone()

    run(check())


def test_an_upload_that_makes_progress_is_not_stopped(run: Run) -> None:
    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=BRIEF, clock=Clock()) as proxy,
            caller(proxy.port) as client,
        ):
            client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n")
            link = await server.link()
            for sent in range(8):
                await link.got(b"\r\n\r\n" + b"a" * sent)
                await proxy.advance(0.3)
                client.send(b"a")
            assert (await client.answer()).status == 200

    run(check())


def test_a_server_that_does_not_accept_in_time_is_a_504(run: Run) -> None:
    async def check() -> None:
        with ExitStack() as stack:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            for _ in range(4):  # the backlog is full: whoever connects now waits
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)  # noqa: FBT003 - the standard library's
                waiting.connect_ex(listening.getsockname())
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            limits = replace(LIMITS, connect_timeout=0.2)
            async with proxied(url, limits=limits) as proxy, caller(proxy.port) as client:
                client.send(GET)
                await refused(client, 504)
                assert proxy.observations[0].outcome is Outcome.TIMEOUT

    run(check())


def test_one_connection_too_many_is_a_503(run: Run) -> None:
    async def check() -> None:
        limits = replace(LIMITS, max_connections=3)
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=limits) as proxy,
            AsyncExitStack() as stack,
        ):
            clients = [await stack.enter_async_context(caller(proxy.port)) for _ in range(3)]
            for client in clients:
                assert (await client.ask(GET)).status == 200
            async with caller(proxy.port) as fourth:
                fourth.send(GET)
                assert "connections" in await refused(fourth, 503)
            assert (await clients[0].ask(GET)).status == 200  # nobody pays for the fourth
            clients[1].close()
            await until(lambda: proxy.proxy.connection_count < 3)
            async with caller(proxy.port) as again:
                assert (await again.ask(GET)).status == 200

    run(check())


def test_a_client_that_never_reads_is_ended_also_when_its_answer_is_complete(run: Run) -> None:
    """Answers of many sizes: of some, just the last part has not left the proxy."""

    async def sized(link: Link) -> None:
        request = await link.request()
        if request is not None:
            body = bytes(int(request.target[1:]))
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await link.gone()

    async def check() -> None:
        limits = replace(LIMITS, idle_timeout=0.3, silence_timeout=0.3)
        async with (
            rawserver(sized) as server,
            proxied(server.url, limits=limits, clock=Clock()) as proxy,
            AsyncExitStack() as stack,
        ):
            sizes = range(100_000, 6_000_000, 150_000)
            for size in sizes:
                client = await stack.enter_async_context(caller(proxy.port, receive_buffer=4096))
                client.transport.pause_reading()
                client.send(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % size)
            await until(lambda: len(server.requests()) == len(sizes))
            before = -1
            while before != (now := unsent(server)):  # until all that is on the way is full
                before = now
                await asyncio.sleep(0.1)
            while proxy.proxy.connection_count:
                await proxy.advance(0.1)
            assert len(proxy.observations) == len(sizes)

    run(check())


def unsent(server: RawServer) -> int:
    """Return how many bytes the server could not yet hand to the system."""
    return sum(link.transport.get_write_buffer_size() for link in server.links)


def test_requests_that_wait_for_their_turn_are_bounded(run: Run) -> None:
    """However small they are: what is not yet read costs a client's kernel, not this process."""

    async def check() -> None:
        async with (
            rawserver(once()) as server,
            proxied(server.url, limits=LIMITS) as proxy,
            caller(proxy.port) as client,
        ):
            tracemalloc.start()
            try:
                client.send(b"GET / HTTP/1.1\r\nHost:\r\n\r\n" * 10_400)
                await (await server.link()).got(b"\r\n\r\n")
                for _ in range(200):  # turns of the loop: the proxy reads in each until it is full
                    await asyncio.sleep(0)
                kept, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert kept < 2_000_000

    run(check())


def test_a_head_whose_rest_waits_in_the_queue_of_the_proxy_is_no_408(run: Run) -> None:
    """Many pipelined requests behind one that takes long: reading stops in the midst of a head."""
    many, clock, go_on = 3000, Clock(), asyncio.Event()

    async def slow(link: Link) -> None:
        await link.got(b"\r\n\r\n")
        await go_on.wait()
        await answers(OK)(link)

    async def check() -> None:
        go_on.clear()
        async with (
            rawserver(slow) as server,
            proxied(server.url, limits=BRIEF, clock=clock) as proxy,
            caller(proxy.port) as client,
        ):
            client.send(GET.replace(b"\r\n\r\n", b"\r\nX-A: " + b"a" * 100 + b"\r\n\r\n") * many)
            await (await server.link()).got(b"\r\n\r\n")
            for _ in range(20):
                await proxy.advance(0.1)
            go_on.set()
            await client.until(lambda: client.end or len(client.rest) >= many * len(OK))
            assert client.take(many * len(OK)) == OK * many

    run(check())


def test_refused_connections_do_not_stay(run: Run) -> None:
    async def check() -> None:
        limits = replace(LIMITS, max_connections=1, idle_timeout=0.5, head_timeout=0.5)
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=limits) as proxy,
            AsyncExitStack() as stack,
        ):
            for _ in range(10):
                client = await stack.enter_async_context(caller(proxy.port))
                client.transport.pause_reading()  # it neither reads nor leaves
            await until(lambda: not proxy.proxy.connection_count)

    run(check())
