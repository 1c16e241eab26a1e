# SPDX-License-Identifier: Apache-2.0
"""A side that reads slowly holds the other side back, and gets everything in the end."""

import asyncio
import socket
from typing import Final

from tests.support.exporting import until
from tests.support.loops import Run
from tests.support.proxying import proxied
from tests.support.rawserver import Link, caller, rawserver
from tests.support.through import GET, head

SIZE: Final = 24 << 20  # bytes: more than all buffers of the kernel on the way
SMALL: Final = 1 << 16
STILL: Final = 10  # looks in a row at which nothing has moved


async def standstill(writer: asyncio.Transport) -> None:
    """Wait until nothing of what is being written goes out any more."""
    rest, looks = -1, 0
    while looks < STILL:
        await asyncio.sleep(0.01)
        looks = looks + 1 if writer.get_write_buffer_size() == rest else 0
        rest = writer.get_write_buffer_size()
    assert rest > 0


def test_a_client_that_does_not_read_holds_the_server_back(run: Run) -> None:
    body = bytes(range(256)) * (SIZE // 256)

    async def check() -> None:
        go_on = asyncio.Event()

        async def answers(link: Link) -> None:
            sock = link.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
            await link.request()
            link.send(head(SIZE) + body)
            await standstill(link.transport)
            go_on.set()
            await link.request()
            link.send(head(2) + b"ok")

        async with (
            rawserver(answers) as server,
            proxied(server.url) as proxy,
            caller(proxy.port, receive_buffer=SMALL) as client,
        ):
            client.transport.pause_reading()
            client.send(GET)
            await go_on.wait()
            client.transport.resume_reading()
            await client.until(lambda: client.end or len(client.received) > SIZE)
            assert (await client.answer()).body == body
            assert (await client.ask(GET)).body == b"ok"
            assert len(server.links) == 1

    run(check())


def test_a_server_that_does_not_read_holds_the_client_back(run: Run) -> None:
    async def check() -> None:
        go_on = asyncio.Event()

        async def takes(link: Link) -> None:
            await link.got(b"\r\n\r\n")
            link.transport.pause_reading()
            await go_on.wait()
            link.transport.resume_reading()
            await link.until(lambda: len(link.received) > SIZE)
            request = await link.request()
            assert request is not None
            link.send(head(2) + b"ok")

        async with (
            rawserver(takes, receive_buffer=SMALL) as server,
            proxied(server.url) as proxy,
            caller(proxy.port) as client,
        ):
            client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % SIZE)
            client.send(bytes(SIZE))
            await standstill(client.transport)
            go_on.set()
            assert (await client.answer()).body == b"ok"
            await until(lambda: proxy.observations)
            assert proxy.observations[0].request_bytes == SIZE

    run(check())
