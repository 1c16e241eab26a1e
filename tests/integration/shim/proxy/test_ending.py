# SPDX-License-Identifier: Apache-2.0
"""The proxy's end: open answers end in peace, for a while."""

import asyncio
from dataclasses import replace
from time import monotonic
from typing import Final

from ollama_exporter.shim.proxy.limits import Limits
from tests.support.loops import Run
from tests.support.proxying import limits_with, proxied
from tests.support.rawserver import OK, Link, Script, caller, rawserver
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
        answer, _, took = await ends_in(streams(0.3), replace(LIMITS, shutdown_timeout=5))
        assert answer is not None
        assert answer.body == b"begunended"
        assert took < 1.0

    run(check())


def test_an_answer_that_takes_too_long_is_cut_and_looks_it(run: Run) -> None:
    async def check() -> None:
        answer, so_far, took = await ends_in(streams(20), replace(LIMITS, shutdown_timeout=0.3))
        assert answer is None
        assert so_far.endswith(b"5\r\nbegun\r\n")
        assert 0.25 < took < 1.0

    run(check())
