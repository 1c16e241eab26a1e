# SPDX-License-Identifier: Apache-2.0
"""A server that fails: the client sees it, in words or as a body that breaks off, and soon."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

import pytest

from ollama_exporter.shim.observation import Outcome
from ollama_exporter.shim.proxy.limits import Limits
from tests.support.exporting import until
from tests.support.faultserver import closed_port
from tests.support.loops import Run
from tests.support.proxying import Proxied, proxied
from tests.support.rawserver import (
    OK,
    End,
    Link,
    RawServer,
    Script,
    answers,
    caller,
    once,
    rawserver,
)
from tests.support.wire import Message

GET: Final = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
ASK: Final = (
    b"POST /api/generate HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\n\r\n"
    b'{"model":"m","prompt":"p"}'
)
LENGTH: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SOON: Final = 2.0  # seconds; far below every time limit that is not set here
HASTY: Final = Limits(
    head_time=0.3, silence=0.3, idle_time=0.3, connect_time=0.3, shutdown_time=0.5
)
Check = Callable[[RawServer, Proxied, Link], Awaitable[None]]


async def through(script: Script, check: Check, limits: Limits | None = None) -> None:
    async with (
        rawserver(script) as server,
        proxied(server.url, limits=limits) as proxy,
        caller(proxy.port) as client,
    ):
        await check(server, proxy, client)


def told(answer: Message, status: int) -> str:
    """Return the error of an answer of the proxy's own."""
    assert answer.status == status, answer
    assert answer.all(b"content-type") == [b"application/json"]
    assert answer.all(b"connection") == [b"close"]
    error = json.loads(answer.body)
    assert list(error) == ["error"]
    return str(error["error"])


async def broken(client: Link, request: bytes = GET) -> bytes:
    """Send a request whose answer breaks off; return what came, which is no complete answer."""
    client.send(request)
    await client.gone()
    with pytest.raises(AssertionError):
        await client.answer()
    return client.rest


# -- before the head -------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [GET, ASK], ids=["GET", "generate"])
def test_a_server_that_refuses_is_a_502(run: Run, request_: bytes) -> None:
    async def check() -> None:
        url = f"http://127.0.0.1:{closed_port()}"
        async with proxied(url) as proxy, caller(proxy.port) as client:
            assert "no connection" in told(await client.ask(request_), 502)
            assert await client.gone() == "fin"
            assert proxy.observations[0].outcome is Outcome.UPSTREAM_ERROR

    run(check())


def test_a_name_that_does_not_resolve_is_a_502(run: Run) -> None:
    async def check() -> None:
        async with proxied("http://nosuch.invalid:1") as proxy, caller(proxy.port) as client:
            told(await client.ask(GET), 502)

    run(check())


@pytest.mark.parametrize("end", ["fin", "reset"])
@pytest.mark.parametrize("so_far", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nX-A: b\r\n"])
def test_an_end_before_the_head_s_is_a_502(run: Run, so_far: bytes, end: End) -> None:
    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        told(await client.ask(ASK), 502)
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
        told(await client.ask(GET), 502)
        assert client.rest == b""
        await (await server.link()).gone()

    run(through(answers(garbage), check))


def test_a_head_without_end_is_a_504_in_its_time(run: Run) -> None:
    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        begun = monotonic()
        told(await client.ask(ASK), 504)
        assert monotonic() - begun < SOON
        await (await server.link()).gone()
        assert proxy.observations[0].outcome is Outcome.TIMEOUT

    run(
        through(
            once(b"HTTP/1.1 200 OK\r\nX-A: b\r\n"), check, Limits(head_time=0.2, shutdown_time=1)
        )
    )


def test_a_head_that_trickles_is_a_504_in_its_time(run: Run) -> None:
    async def trickle(link: Link) -> None:
        await link.request()
        link.send(b"HTTP/1.1 200 OK\r\n")
        while link.end is None:
            link.send(b"X: y\r\n")
            await asyncio.sleep(0.02)

    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        told(await client.ask(GET), 504)

    run(through(trickle, check, Limits(head_time=0.3, shutdown_time=1)))


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
        told(await client.ask(ASK), 504)
        await (await server.link()).gone()
        assert proxy.observations[0].outcome is Outcome.TIMEOUT

    run(through(once(), check, HASTY))


def test_an_error_to_head_has_no_body(run: Run) -> None:
    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        answer = await client.ask(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.status == 502
        assert await client.gone() == "fin"
        assert client.rest == b""

    run(through(once(end="fin"), check))


# -- within the body -------------------------------------------------------------------------------

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
def test_a_client_of_1_0_sees_a_reset_where_it_could_not_see_a_lack(run: Run, end: End) -> None:
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
        assert (await broken(client, ASK)).endswith(b"3\r\nabc\r\n")
        await (await server.link()).gone()
        assert proxy.observations[0].outcome is Outcome.TIMEOUT

    run(through(once(CHUNKED + b"3\r\nabc\r\n"), check, HASTY))


def test_a_slow_server_is_not_a_silent_one(run: Run) -> None:
    pieces = [b"1\r\n%d\r\n" % n for n in range(8)]

    async def slowly(link: Link) -> None:
        await link.request()
        for piece in [CHUNKED, *pieces, b"0\r\n\r\n"]:
            await asyncio.sleep(0.15)
            link.send(piece)

    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        assert (await client.ask(ASK)).body == b"01234567"

    run(through(slowly, check, HASTY))


def test_a_death_costs_nobody_else_anything(run: Run) -> None:
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


# -- a connection that died while it was kept ------------------------------------------------------


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
        told(await client.ask(create), 502)
        assert len(server.links) == 1

    run(through(dies_idle(1, end), check))


def test_it_is_repeated_only_once(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        assert (await client.ask(GET)).raw == OK
        server.script = once(end="reset")
        told(await client.ask(GET), 502)
        assert len(server.links) == 2

    run(through(dies_idle(1, "reset"), check))


def test_a_connection_that_ended_while_idle_is_not_used(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        create = SHOW.replace(b"show", b"create")
        for number in range(3):
            assert (await client.ask(create)).raw == OK
            server.links[number].close()
            await server.links[number].gone()
            await asyncio.sleep(0.02)  # the FIN is read
        assert len(server.links) == 3

    run(through(answers(OK), check))


def test_nothing_is_repeated_when_an_answer_had_begun(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        assert (await client.ask(GET)).raw == OK
        told(await client.ask(GET), 502)
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
        told(await client.answer(), 502)
        assert len(server.links) == 1

    run(through(dies_idle(1, "reset"), check))


# -- a client that does not read -------------------------------------------------------------------


def test_a_client_that_never_reads_is_ended_when_the_server_dies(run: Run) -> None:
    async def floods(link: Link) -> None:
        await link.request()
        link.send(CHUNKED)
        for _ in range(200):
            link.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        await asyncio.sleep(0.2)
        link.reset()

    async def check(_: RawServer, proxy: Proxied, client: Link) -> None:
        client.transport.pause_reading()
        client.send(GET)
        await until(lambda: proxy.observations)
        await until(lambda: not proxy.proxy._connections)  # noqa: SLF001 - its count is what is tested

    run(through(floods, check, HASTY))
