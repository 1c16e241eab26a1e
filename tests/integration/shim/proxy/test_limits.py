# SPDX-License-Identifier: Apache-2.0
"""How much a client may send."""

import asyncio
import json
from typing import Final

import pytest
from msgspec.structs import replace

from tests.support.loops import Run
from tests.support.proxying import limits_with, proxied
from tests.support.rawserver import OK, answers, caller, rawserver
from tests.support.through import GET

LIMITS: Final = limits_with(shutdown_timeout=0.3)


def get(fields: bytes, target: bytes = b"/a") -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n"


SIZES: Final = replace(LIMITS, max_head_bytes=4000, max_head_fields=20, max_url_bytes=1000)
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
            proxied(server.url, limits=replace(SIZES, max_head_bytes=500)) as proxy,
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
