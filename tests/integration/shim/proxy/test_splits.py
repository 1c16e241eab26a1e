# SPDX-License-Identifier: Apache-2.0
"""The wire cut at every byte."""

import asyncio

from tests.support.loops import Run
from tests.support.proxying import Proxied
from tests.support.rawserver import OK, Link, RawServer, answers, caller
from tests.support.through import GET, LAST, chunk, through


def test_a_request_split_at_every_byte_is_the_same_request(run: Run) -> None:
    request = (
        b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: x-b\r\nX-A: b c\r\nX-B: d\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2;e=f\r\nab\r\n0\r\nX-T: 1\r\n\r\n"
    )

    async def check(server: RawServer, proxy: Proxied, _: Link) -> None:
        for at in range(1, len(request)):
            async with caller(proxy.port) as client:
                client.send(request[:at])
                await asyncio.sleep(0.001)
                client.send(request[at:])
                assert (await client.answer()).body == b"ok"
        heads = {request.raw.partition(b"\r\n\r\n")[0] for request in server.requests()}
        assert len(heads) == 1
        assert {request.body for request in server.requests()} == {b"ab"}
        assert len(server.requests()) == len(request) - 1

    run(through(answers(OK), check))


def test_an_answer_split_at_every_byte_is_the_same_answer(run: Run) -> None:
    wire = (
        b"HTTP/1.1 103 Hints\r\nX-A: b\r\n\r\nHTTP/1.1 200 Very well\r\nX-C: d e\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2;e=f\r\nab\r\n0\r\nX-T: 1\r\n\r\n"
    )
    cuts = iter(range(1, len(wire)))

    async def split(link: Link) -> None:
        while await link.request() is not None:
            at = next(cuts)
            link.send(wire[:at])
            await asyncio.sleep(0.001)
            link.send(wire[at:])

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        seen = {(await client.ask(GET)).raw for _ in range(1, len(wire))}
        heads = b"HTTP/1.1 103 Hints\r\nX-A: b\r\n\r\nHTTP/1.1 200 Very well\r\nX-C: d e\r\n"
        framed = heads + b"Transfer-Encoding: chunked\r\n\r\n"
        whole, halves = framed + chunk(b"ab") + LAST, framed + chunk(b"a") + chunk(b"b") + LAST
        assert seen == {whole, halves}
        assert len(server.links) == 1

    run(through(split, check))


def test_a_request_cut_off_at_every_byte_is_never_complete(run: Run) -> None:
    request = (
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nabcde\r\n2\r\nfg\r\n0\r\n\r\n"
    )

    async def check(server: RawServer, proxy: Proxied, _: Link) -> None:
        for at in range(len(request)):
            async with caller(proxy.port) as client:
                client.send(request[:at])
                await asyncio.sleep(0.001)
        for link in server.links:
            assert await link.gone()
            assert b"\r\n0\r\n" not in link.received

    run(through(answers(OK), check))
