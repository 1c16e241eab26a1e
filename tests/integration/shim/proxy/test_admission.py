# SPDX-License-Identifier: Apache-2.0
"""Who may: the bearer token; and who is told of the client's address."""

import socket
from typing import Final

import pytest

from ollama_exporter.shim.observation import Outcome
from ollama_exporter.shim.proxy.server import Frontend
from tests.support.loops import Run
from tests.support.proxying import limits_with, proxied, unchanged
from tests.support.rawserver import OK, answers, caller, rawserver
from tests.support.through import GET

LIMITS: Final = limits_with(shutdown_timeout=0.3)
TOKEN: Final = "s3cret"  # noqa: S105 - of these tests


def get(fields: bytes, target: bytes = b"/a") -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n"


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
def test_a_request_without_the_token_gets_a_401(run: Run, request_: bytes) -> None:
    async def check() -> None:
        front = Frontend(token=unchanged(TOKEN))
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, frontend=front, limits=LIMITS) as proxy,
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


@pytest.mark.parametrize("value", ["Bearer ", "Bearer", "", f"Bearer {TOKEN}"])
def test_nothing_opens_while_the_token_is_void(run: Run, value: str) -> None:
    async def check() -> None:
        front = Frontend(token=unchanged(""))
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, frontend=front, limits=LIMITS) as proxy,
            caller(proxy.port) as client,
        ):
            assert (await client.ask(bearer(value))).status == 401
            assert server.links == []

    run(check())


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize("upstream_token", ["", "for-the-server"])
def test_the_token_opens_and_is_not_passed_on(run: Run, scheme: str, upstream_token: str) -> None:
    async def check() -> None:
        front = Frontend(token=unchanged(TOKEN))
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, frontend=front, token=upstream_token, limits=LIMITS) as proxy,
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


def test_the_client_s_address_is_sent_if_wanted_and_cannot_be_forged(run: Run) -> None:
    async def told(*, wanted: bool) -> list[bytes]:
        async with (
            rawserver(answers(OK)) as server,
            proxied(
                server.url, frontend=Frontend(forwarded_for=wanted, any_host=True), limits=LIMITS
            ) as proxy,
            caller(proxy.port) as client,
        ):
            await client.ask(get(b"x-forwarded-FOR: 10.0.0.1\r\nConnection: x-forwarded-for\r\n"))
            return server.requests()[0].all(b"x-forwarded-for")

    async def check() -> None:
        assert await told(wanted=True) == [b"127.0.0.1"]
        assert await told(wanted=False) == []  # named in Connection

    run(check())


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost:11435", 200),
        (b"127.0.0.1:1", 200),
        (b"[::1]:1", 200),
        (b"192.168.1.7", 200),
        (b"0.0.0.0:1", 200),
        (b"", 200),
        (b"box.local", 200),
        (b"host.docker.internal:1", 200),
        (socket.gethostname().encode(), 200),
        (b"evil.example", 403),
        (b"evil.example:11435", 403),
        (b"localhost.evil.example", 403),
        (b"8.8.8.8", 403),
    ],
)
def test_a_name_that_is_not_this_machine_s_does_not_become_its_own(
    run: Run, host: bytes, status: int
) -> None:
    """Else a page whose name was pointed at 127.0.0.1 would read what the server says."""

    async def check() -> None:
        for front in (Frontend(), Frontend(token=unchanged(TOKEN))):
            async with (
                rawserver(answers(OK)) as server,
                proxied(server.url, frontend=front, limits=LIMITS) as proxy,
                caller(proxy.port) as client,
            ):
                shown = b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"
                client.send(b"GET /a HTTP/1.1\r\nHost: " + host + b"\r\n" + shown + b"\r\n")
                wanted = 200 if front.token is not None else status
                assert (await client.answer()).status == wanted
                assert len(server.links) == (1 if wanted == 200 else 0)

    run(check())
