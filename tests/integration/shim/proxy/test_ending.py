# SPDX-License-Identifier: Apache-2.0
"""The proxy's end: open answers end in peace, for a while."""

import asyncio
from typing import Final

from msgspec.structs import replace

from ollama_exporter.shim.proxy.limits import Limits
from tests.support.loops import Run
from tests.support.proxying import limits_with, proxied
from tests.support.rawserver import OK, Link, caller, rawserver
from tests.support.through import CHUNKED, GET
from tests.support.wire import Message

LIMITS: Final = limits_with(shutdown_timeout=0.3)


async def nobody_listens(port: int) -> bool:
    """Tell whether a connection is refused, or dropped before it was accepted."""
    try:
        async with caller(port) as late:
            await late.gone()
            return not late.received
    except OSError:
        return True


async def stopped(limits: Limits, *, ends: bool) -> tuple[Message | None, bytes]:
    """Stop a proxy whose client has an open response, which the server ends or not.

    Return the response or None, and the bytes that came of it.
    """
    async with (
        rawserver(streams) as server,
        proxied(server.url, limits=limits) as proxy,
        caller(proxy.port) as idle,
        caller(proxy.port) as client,
    ):
        assert (await idle.ask(GET)).status == 200
        client.send(GET)
        await client.got(b"begun")
        stopping = asyncio.get_running_loop().create_task(proxy.proxy.stop())
        assert await idle.gone() == "fin"
        assert idle.rest == b""
        assert await nobody_listens(proxy.port)
        if ends:
            (await server.link()).send(b"5\r\nended\r\n0\r\n\r\n")
        await client.until(lambda: client.end or client.rest.endswith(b"0\r\n\r\n"))
        client.close()
        await stopping
        whole = client.rest.endswith(b"0\r\n\r\n")
        return await client.answer() if whole else None, client.rest


async def streams(link: Link) -> None:
    """Answer the first request; begin to answer the second."""
    await link.request()
    link.send(OK)
    await link.request()
    link.send(CHUNKED + b"5\r\nbegun\r\n")


def test_an_open_response_may_end_during_the_shutdown(run: Run) -> None:
    async def check() -> None:
        answer, _ = await stopped(replace(LIMITS, shutdown_timeout=60), ends=True)
        assert answer is not None
        assert answer.body == b"begunended"

    run(check())


def test_a_response_that_takes_too_long_is_aborted_at_shutdown(run: Run) -> None:
    async def check() -> None:
        answer, so_far = await stopped(LIMITS, ends=False)
        assert answer is None
        assert so_far.endswith(b"5\r\nbegun\r\n")

    run(check())
