# SPDX-License-Identifier: Apache-2.0
"""What a client may ask of the proxy and for how long; TLS, bearer token, the end."""

import asyncio
import json
import socket
import ssl
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from time import monotonic
from typing import Final

import pytest
import trustme

from ollama_exporter.shim.observation import Outcome
from ollama_exporter.shim.proxy.limits import Limits
from ollama_exporter.shim.proxy.server import Front
from tests.support.exporting import until
from tests.support.loops import Run
from tests.support.proxying import proxied
from tests.support.rawserver import OK, Link, Script, answers, caller, once, rawserver
from tests.support.wire import Message

GET: Final = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
LIMITS: Final = Limits(shutdown_time=0.3)
CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKEN: Final = "s3cret"  # noqa: S105 - of these tests


def get(fields: bytes, target: bytes = b"/a") -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n"


async def refused(client: Link, status: int) -> str:
    """Take the last answer of a connection, and its end; return the error."""
    answer = await client.answer()
    assert answer.status == status, answer
    assert await client.gone() == "fin"
    assert client.rest == b""
    return str(json.loads(answer.body)["error"])


# -- sizes -----------------------------------------------------------------------------------------

SIZES: Final = replace(LIMITS, head_bytes=4000, head_fields=20, url_bytes=1000)
TOO_MUCH: Final = {
    "a field": (431, get(b"X-A: " + b"a" * 4000 + b"\r\n")),
    "a name": (431, get(b"X" * 4000 + b": a\r\n")),
    "fields": (431, get(b"X-A: bcdefghijklmnopqrstuvwxyz\r\n" * 200)),
    "their number": (431, get(b"X: y\r\n" * 20)),
    "the URL": (414, get(b"", b"/" + b"a" * 1000)),
    "a field without end": (431, GET[:-2] + b"X-A: " + b"a" * 1_000_000),
    "a name without end": (431, GET[:-2] + b"X" * 1_000_000),
    "fields without end": (431, GET[:-2] + b"X: y\r\n" * 100_000),
    "a URL without end": (414, b"GET /" + b"a" * 1_000_000),
    "a trailer without end": (
        431,
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: "
        + b"a" * 1_000_000,
    ),
    "trailers without end": (
        431,
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
        + b"X: y\r\n" * 200_000,
    ),
    "an extension without end": (
        431,
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 1_000_000,
    ),
}


@pytest.mark.parametrize("name", TOO_MUCH)
@pytest.mark.parametrize("piece", [1 << 20, 1000], ids=["at once", "in pieces"])
def test_too_much_is_refused(run: Run, name: str, piece: int) -> None:
    status, request = TOO_MUCH[name]

    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=SIZES) as proxy,
            caller(proxy.port) as client,
        ):
            for at in range(0, len(request), piece):
                client.send(request[at : at + piece])
                await asyncio.sleep(0)
            answer = await client.answer()
            assert answer.status == status
            assert "too" in json.loads(answer.body)["error"]
            await client.gone()
            assert all(link.received.count(b"\r\n0\r\n") == 0 for link in server.links)
            if "trailer" not in name and "extension" not in name:
                assert server.links == []

    run(check())


def test_what_is_just_allowed_passes(run: Run) -> None:
    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=SIZES) as proxy,
            caller(proxy.port) as client,
        ):
            for request in (
                get(b"X-A: " + b"a" * 3980 + b"\r\n"),
                get(b"X: y\r\n" * 19),
                get(b"", b"/" + b"a" * 999),
            ):
                for piece in (len(request), 7):
                    for at in range(0, len(request), piece):
                        client.send(request[at : at + piece])
                        await asyncio.sleep(0)
                    assert (await client.answer()).status == 200

    run(check())


def test_many_small_requests_are_not_one_long_head(run: Run) -> None:
    """The sizes of one head are not those of a connection."""

    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=SIZES) as proxy,
            caller(proxy.port) as client,
        ):
            request = get(b"X-A: " + b"a" * 3000 + b"\r\n")
            wire = request * 50
            for at in range(0, len(wire), 1999):
                client.send(wire[at : at + 1999])
                await asyncio.sleep(0)
            for _ in range(50):
                assert (await client.answer()).status == 200

    run(check())


def test_small_chunks_are_not_one_long_head(run: Run) -> None:
    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=replace(SIZES, head_bytes=500)) as proxy,
            caller(proxy.port) as client,
        ):
            client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(1000):
                for part in (b"1\r\n", b"a\r\n"):
                    client.send(part)
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
            client.send(b"0\r\n\r\n")
            assert (await client.answer()).status == 200
            assert server.requests()[0].body == b"a" * 1000

    run(check())


# -- times -----------------------------------------------------------------------------------------

BRIEF: Final = replace(LIMITS, head_time=0.2, idle_time=0.5)


@pytest.mark.parametrize(
    "so_far", [b"G", b"GET /a HTTP/1.1\r\n", GET[:-2]], ids=["method", "line", "fields"]
)
@pytest.mark.parametrize("before", [b"", GET], ids=["first", "second"])
def test_a_head_that_does_not_come_is_a_408(run: Run, before: bytes, so_far: bytes) -> None:
    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=BRIEF) as proxy,
            caller(proxy.port) as client,
        ):
            begun = monotonic()
            client.send(before + so_far)
            if before:
                assert (await client.answer()).status == 200
            assert "head" in await refused(client, 408)
            assert monotonic() - begun < BRIEF.idle_time

    run(check())


def test_a_head_that_trickles_is_a_408_in_its_time(run: Run) -> None:
    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=BRIEF) as proxy,
            caller(proxy.port) as client,
        ):
            begun = monotonic()
            client.send(GET[:-2])
            while not client.received:
                client.send(b"X: y\r\n")
                await asyncio.sleep(0.02)
                assert monotonic() - begun < BRIEF.idle_time
            await refused(client, 408)

    run(check())


def test_an_idle_connection_is_closed_without_a_word(run: Run) -> None:
    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=replace(BRIEF, idle_time=0.2)) as proxy,
            caller(proxy.port) as fresh,
            caller(proxy.port) as used,
        ):
            assert (await used.ask(GET)).status == 200
            assert [await fresh.gone(), await used.gone()] == ["fin", "fin"]
            assert fresh.received == used.rest == b""
            await (await server.link()).gone()  # and so is the server's

    run(check())


def test_a_busy_connection_is_not_idle(run: Run) -> None:
    async def slow(link: Link) -> None:
        await link.request()
        await asyncio.sleep(0.5)
        link.send(OK)

    async def check() -> None:
        async with (
            rawserver(slow) as server,
            proxied(server.url, limits=replace(BRIEF, idle_time=0.1, head_time=0.1)) as proxy,
            caller(proxy.port) as client,
        ):
            assert (await client.ask(GET)).status == 200

    run(check())


@pytest.mark.parametrize("fields", [b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_body_that_does_not_come_is_a_408(run: Run, fields: bytes) -> None:
    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=replace(BRIEF, idle_time=0.2)) as proxy,
            caller(proxy.port) as client,
        ):
            client.send(b"POST /a HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n1\r\n")
            assert "body" in await refused(client, 408)
            await (await server.link()).gone()

    run(check())


def test_an_upload_that_makes_progress_is_not_stopped(run: Run) -> None:
    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=replace(BRIEF, idle_time=0.3)) as proxy,
            caller(proxy.port) as client,
        ):
            client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n")
            for _ in range(8):
                await asyncio.sleep(0.1)
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
            limits = replace(LIMITS, connect_time=0.2)
            async with proxied(url, limits=limits) as proxy, caller(proxy.port) as client:
                client.send(GET)
                await refused(client, 504)
                assert proxy.observations[0].outcome is Outcome.TIMEOUT

    run(check())


# -- connections -----------------------------------------------------------------------------------


def test_one_connection_too_many_is_a_503(run: Run) -> None:
    async def check() -> None:
        limits = replace(LIMITS, connections=3)
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
            await until(lambda: len(proxy.proxy._connections) < 3)  # noqa: SLF001 - is what is bounded
            async with caller(proxy.port) as again:
                assert (await again.ask(GET)).status == 200

    run(check())


def test_refused_connections_do_not_stay(run: Run) -> None:
    async def check() -> None:
        limits = replace(LIMITS, connections=1, idle_time=0.5, head_time=0.5)
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=limits) as proxy,
            AsyncExitStack() as stack,
        ):
            for _ in range(10):
                client = await stack.enter_async_context(caller(proxy.port))
                client.transport.pause_reading()  # it neither reads nor leaves
            await until(lambda: not proxy.proxy._connections)  # noqa: SLF001 - as above

    run(check())


# -- who may ---------------------------------------------------------------------------------------


def bearer(value: str) -> bytes:
    return get(f"X-A: b\r\nAuthorization: {value}\r\nX-C: d\r\n".encode())


@pytest.mark.parametrize(
    "request_",
    [
        GET,
        bearer("Bearer wrong"),
        bearer("Bearer "),
        bearer("Bearer"),
        bearer(TOKEN),
        bearer(f"Basic {TOKEN}"),
        bearer(f"Bearer {TOKEN}x"),
        bearer(f"Bearer {TOKEN[:-1]}"),
        bearer(f"Bearer {TOKEN}, Bearer {TOKEN}"),
        bearer(f"Bearer x\r\nAuthorization: Bearer {TOKEN}"),
        bearer("Bearer \xe4"),
        b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: authorization\r\n\r\n",
    ],
)
def test_who_does_not_show_the_token_gets_a_401(run: Run, request_: bytes) -> None:
    async def check() -> None:
        front = Front(token=lambda: TOKEN)
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, front=front, limits=LIMITS) as proxy,
            caller(proxy.port) as client,
        ):
            client.send(request_)
            answer = await client.answer()
            assert answer.status == 401
            assert answer.all(b"www-authenticate") == [b"Bearer"]
            assert TOKEN.encode() not in answer.raw
            assert server.links == []
            assert proxy.observations[0].outcome is Outcome.REJECTED

    run(check())


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize("upstream_token", ["", "for-the-server"])
def test_the_token_opens_and_is_not_passed_on(run: Run, scheme: str, upstream_token: str) -> None:
    async def check() -> None:
        front = Front(token=lambda: TOKEN)
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, front=front, token=upstream_token, limits=LIMITS) as proxy,
            caller(proxy.port) as client,
        ):
            for _ in range(2):
                assert (await client.ask(bearer(f"{scheme} {TOKEN}"))).status == 200
            assert TOKEN.encode() not in server.received
            given = [f"Bearer {upstream_token}".encode()] if upstream_token else []
            for request in server.requests():
                assert request.all(b"authorization") == given
                assert request.all(b"x-a") + request.all(b"x-c") == [b"b", b"d"]

    run(check())


def test_without_a_token_of_its_own_the_client_s_is_the_server_s(run: Run) -> None:
    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=LIMITS) as proxy,
            caller(proxy.port) as client,
        ):
            await client.ask(bearer("Bearer abc"))
            assert server.requests()[0].all(b"authorization") == [b"Bearer abc"]

    run(check())


def test_the_client_s_address_is_told_if_wanted_and_cannot_be_forged(run: Run) -> None:
    async def told(*, wanted: bool) -> list[bytes]:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, front=Front(forwarded_for=wanted), limits=LIMITS) as proxy,
            caller(proxy.port) as client,
        ):
            await client.ask(get(b"x-forwarded-FOR: 10.0.0.1\r\nConnection: x-forwarded-for\r\n"))
            return server.requests()[0].all(b"x-forwarded-for")

    async def check() -> None:
        assert await told(wanted=True) == [b"127.0.0.1"]
        assert await told(wanted=False) == []  # named in Connection

    run(check())


# -- TLS -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def front_of(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def over_tls(port: int, context: ssl.SSLContext) -> Link:
    loop = asyncio.get_running_loop()
    _, link = await loop.create_connection(
        Link, "127.0.0.1", port, ssl=context, server_hostname="127.0.0.1"
    )
    return link


def test_tls_passes_the_same_bytes(run: Run, authority: trustme.CA) -> None:
    body = bytes(range(256)) * 4000

    async def echo(link: Link) -> None:
        while (request := await link.request()) is not None:
            link.send(CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(request.body), request.body))

    async def check() -> None:
        front = Front(tls=front_of(authority))
        async with rawserver(echo) as server, proxied(server.url, front=front) as proxy:
            client = await over_tls(proxy.port, trusting(authority))
            for _ in range(2):
                client.send(
                    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
                )
                client.send(body)
                assert (await client.answer()).body == body
            client.send(GET + b"bad\r\n\r\n")
            assert (await client.answer()).status == 200 or client.rest
            client.close()

    run(check())


def test_tls_a_broken_answer_has_no_clean_end(run: Run, authority: trustme.CA) -> None:
    async def check() -> None:
        front = Front(tls=front_of(authority))
        script = once(CHUNKED + b"3\r\nabc\r\n", end="reset")
        async with rawserver(script) as server, proxied(server.url, front=front) as proxy:
            client = await over_tls(proxy.port, trusting(authority))
            client.send(GET)
            await client.gone()
            assert client.rest.endswith(b"\r\n\r\n3\r\nabc\r\n")

    run(check())


def test_tls_a_client_that_leaves_ends_the_server_s_connection(
    run: Run, authority: trustme.CA
) -> None:
    async def check() -> None:
        front = Front(tls=front_of(authority))
        async with rawserver(once()) as server, proxied(server.url, front=front) as proxy:
            client = await over_tls(proxy.port, trusting(authority))
            client.send(GET)
            link = await server.link()
            await link.got(b"\r\n\r\n")
            left = monotonic()
            client.transport.abort()
            await link.gone()
            assert link.ended_at - left < 0.1

    run(check())


def test_plain_text_to_a_tls_port_gets_nothing_and_harms_nobody(
    run: Run, authority: trustme.CA
) -> None:
    async def check() -> None:
        front = Front(tls=front_of(authority))
        async with rawserver(answers(OK)) as server, proxied(server.url, front=front) as proxy:
            async with caller(proxy.port) as plain:
                plain.send(GET)
                await plain.gone()
                assert b"HTTP/1.1 200" not in plain.received
            client = await over_tls(proxy.port, trusting(authority))
            assert (await client.ask(GET)).status == 200
            client.close()
            assert len(server.requests()) == 1

    run(check())


def test_a_handshake_that_does_not_come_is_ended(run: Run, authority: trustme.CA) -> None:
    async def check() -> None:
        front = Front(tls=front_of(authority))
        limits = replace(LIMITS, head_time=0.3)
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, front=front, limits=limits) as proxy,
            caller(proxy.port) as silent,
        ):
            await silent.gone()

    run(check())


# -- the end ---------------------------------------------------------------------------------------


async def nobody_listens(port: int) -> bool:
    """Tell whether a connection is refused, or dropped before it was accepted."""
    try:
        async with caller(port) as late:
            await late.gone()
            return not late.received
    except OSError:
        return True


async def ends_in(script: Script, limits: Limits) -> tuple[Message | None, bytes, float]:
    """Stop a proxy whose client has an open answer.

    Return the answer or None, what came of it, and how long stopping took.
    """
    async with (
        rawserver(script) as server,
        proxied(server.url, limits=limits) as proxy,
        caller(proxy.port) as idle,
        caller(proxy.port) as client,
    ):
        assert (await idle.ask(GET)).status == 200
        client.send(GET)
        await client.got(b"begun")
        begun = monotonic()
        stopping = asyncio.get_running_loop().create_task(proxy.proxy.stop())
        assert await idle.gone() == "fin"
        assert idle.rest == b""
        assert await nobody_listens(proxy.port)
        await client.until(lambda: client.end or client.rest.endswith(b"0\r\n\r\n"))
        client.close()
        await stopping
        took = monotonic() - begun
        whole = client.rest.endswith(b"0\r\n\r\n")
        return await client.answer() if whole else None, client.rest, took


def streams(seconds: float) -> Script:
    """Answer the first request at once, the second over some time."""

    async def script(link: Link) -> None:
        await link.request()
        link.send(OK)
        await link.request()
        link.send(CHUNKED + b"5\r\nbegun\r\n")
        await asyncio.sleep(seconds)
        link.send(b"5\r\nended\r\n0\r\n\r\n")

    return script


def test_an_open_answer_ends_in_peace(run: Run) -> None:
    async def check() -> None:
        answer, _, took = await ends_in(streams(0.3), replace(LIMITS, shutdown_time=5))
        assert answer is not None
        assert answer.body == b"begunended"
        assert took < 1.0

    run(check())


def test_an_answer_that_takes_too_long_is_cut_and_looks_it(run: Run) -> None:
    async def check() -> None:
        answer, so_far, took = await ends_in(streams(20), replace(LIMITS, shutdown_time=0.3))
        assert answer is None
        assert so_far.endswith(b"5\r\nbegun\r\n")
        assert 0.25 < took < 1.0

    run(check())
