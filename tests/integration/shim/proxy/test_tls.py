# SPDX-License-Identifier: Apache-2.0
"""TLS on the listening side."""

import asyncio
import ssl
from typing import Final

import pytest
import trustme
from msgspec.structs import replace

from ollama_exporter.shim.proxy.server import Frontend
from tests.support.loops import Run
from tests.support.proxying import limits_with, proxied, unchanged
from tests.support.rawserver import OK, Link, answers, caller, once, rawserver
from tests.support.through import CHUNKED, GET

LIMITS: Final = limits_with(shutdown_timeout=0.3)


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
        front = Frontend(certificate=unchanged(front_of(authority)), any_host=True)
        async with rawserver(echo) as server, proxied(server.url, frontend=front) as proxy:
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
        front = Frontend(certificate=unchanged(front_of(authority)), any_host=True)
        script = once(CHUNKED + b"3\r\nabc\r\n", end="reset")
        async with rawserver(script) as server, proxied(server.url, frontend=front) as proxy:
            client = await over_tls(proxy.port, trusting(authority))
            client.send(GET)
            await client.gone()
            assert client.rest.endswith(b"\r\n\r\n3\r\nabc\r\n")

    run(check())


def test_tls_a_client_that_leaves_ends_the_server_s_connection(
    run: Run, authority: trustme.CA
) -> None:
    async def check() -> None:
        front = Frontend(certificate=unchanged(front_of(authority)), any_host=True)
        async with rawserver(once()) as server, proxied(server.url, frontend=front) as proxy:
            client = await over_tls(proxy.port, trusting(authority))
            client.send(GET)
            link = await server.link()
            await link.got(b"\r\n\r\n")
            client.transport.abort()
            await link.gone()

    run(check())


def test_plain_text_to_a_tls_port_gets_nothing_and_does_no_harm(
    run: Run, authority: trustme.CA
) -> None:
    async def check() -> None:
        front = Frontend(certificate=unchanged(front_of(authority)), any_host=True)
        async with rawserver(answers(OK)) as server, proxied(server.url, frontend=front) as proxy:
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
        front = Frontend(certificate=unchanged(front_of(authority)), any_host=True)
        limits = replace(LIMITS, head_timeout=0.3)
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, frontend=front, limits=limits) as proxy,
            caller(proxy.port) as silent,
        ):
            await silent.gone()

    run(check())
