# SPDX-License-Identifier: Apache-2.0
"""Answers before the answer, and answers before the request is complete."""

import asyncio

import pytest
from msgspec.structs import replace

from ollama_exporter.shim.proxy.socket_options import READ_SIZE
from tests.support.loops import Run
from tests.support.proxying import Clock, Proxied, proxied
from tests.support.rawserver import OK, Link, RawServer, answers, caller, once, rawserver
from tests.support.through import CHUNKED, GET, HASTY, LAST, chunk, passing, through


def test_informational_answers_pass(run: Run) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"

    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        for _number in range(2):
            answer = await client.ask(GET)
            assert answer.raw == b"HTTP/1.1 102 Processing\r\n\r\n" + early + early + OK

    run(through(answers(b"HTTP/1.1 102 Processing\r\n\r\n" + early, early + OK), check))


def test_a_client_of_1_0_gets_no_informational_answers(run: Run) -> None:
    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        answer = await client.ask(b"GET /a HTTP/1.0\r\n\r\n")
        assert answer.before == []
        assert answer.body == b"ok"

    run(through(answers(b"HTTP/1.1 100 Continue\r\n\r\n", OK), check))


def test_expect_continue_is_the_server_s_to_answer(run: Run) -> None:
    async def waits(link: Link) -> None:
        await link.got(b"\r\n\r\n")
        assert b"Expect: 100-continue\r\n" in link.received
        link.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await link.request() is not None
        link.send(OK)

    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        client.send(
            b"POST /api/blobs/sha256-0 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            b"Content-Length: 4\r\n\r\n"
        )
        await client.got(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(b"abcd")
        assert (await client.answer()).body == b"ok"

    run(through(waits, check))


@pytest.mark.parametrize("early", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
def test_what_follows_an_early_answer_outlives_the_time_of_a_head(run: Run, early: bytes) -> None:
    async def takes_long(link: Link) -> None:
        await link.got(b"\r\n\r\n")
        link.send(b"HTTP/1.1 " + early + b"\r\n\r\n")
        await link.request()
        link.send(OK)

    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        link = await server.link()
        for sent in range(10):
            await link.got(b"\r\n\r\n" + b"a" * sent)
            await proxy.advance(0.2)
            client.send(b"a")
        assert (await client.answer()).status == 200

    run(through(takes_long, check, HASTY, clock=Clock()))


def test_silence_behind_an_early_answer_is_still_bounded(run: Run) -> None:
    async def check(_: RawServer, proxy: Proxied, client: Link) -> None:
        client.send(GET)
        await client.got(b"100 Continue")
        await passing(proxy, until_ended=client)
        assert (await client.answer()).status == 504

    run(through(once(b"HTTP/1.1 100 Continue\r\n\r\n"), check, HASTY, clock=Clock()))


def test_a_body_that_stalls_behind_an_early_answer_is_a_408(run: Run) -> None:
    async def asks_for_it(link: Link) -> None:
        await link.got(b"\r\n\r\n")
        link.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def check(_: RawServer, proxy: Proxied, client: Link) -> None:
        client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        await client.got(b"100 Continue")
        await passing(proxy, until_ended=client)
        assert (await client.answer()).status == 408

    run(through(asks_for_it, check, replace(HASTY, silence_timeout=5), clock=Clock()))


def test_a_refusal_instead_of_100_ends_the_connection_with_the_answer(run: Run) -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"

    async def refuses(link: Link) -> None:
        await link.got(b"\r\n\r\n")
        link.send(refusal)

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        client.send(
            b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        )
        answer = await client.answer()
        assert (answer.status, answer.body) == (413, b"no")
        assert answer.all(b"connection") == [b"close"]
        assert await client.gone() == "fin"
        await (await server.link()).gone()  # it still waits for four bytes: of no use to others

    run(through(refuses, check))


def test_an_answer_may_begin_before_the_request_is_complete(run: Run) -> None:
    async def both_ways(link: Link) -> None:
        await link.got(b"\r\n\r\n")
        link.send(CHUNKED + chunk(b"begun"))
        await link.request()
        link.send(chunk(b"ended") + LAST)

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        await client.got(b"begun")
        client.send(b"cd" + GET)  # the second request is void if the first answer said close
        answer = await client.answer()
        assert answer.chunks == [b"begun", b"ended"]
        if answer.all(b"connection") == [b"close"]:
            assert await client.gone() == "fin"
            assert len(server.requests()) == 1

    run(through(both_ways, check))


def test_a_client_is_read_on_when_an_answer_overtakes_its_upload(run: Run) -> None:
    """The upload is as long as the proxy takes before it stops its client."""
    answer = asyncio.Event()

    async def late(link: Link) -> None:
        await link.got(b"\r\n\r\n")
        link.transport.pause_reading()
        await answer.wait()
        link.send(OK)
        await asyncio.sleep(0.1)
        link.transport.resume_reading()
        await link.until(lambda: link.end or b"GET /last" in link.rest)
        link.send(OK)

    async def uploads(client: Link, size: int) -> None:
        client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        client.send(bytes(size))
        rest, unchanged = -1, 0
        while unchanged < 10:  # until everything on the way is full
            await asyncio.sleep(0.02)
            unchanged = unchanged + 1 if client.transport.get_write_buffer_size() == rest else 0
            rest = client.transport.get_write_buffer_size()

    async def check() -> None:
        async with rawserver(late, receive_buffer=4096) as server:
            async with proxied(server.url) as proxy, caller(proxy.port) as client:
                await uploads(client, 30_000_000)
                await proxy.proxy.stop()
            taken = proxy.observations[0].request_bytes
            # Reads come in other pieces each time, on a busy machine in quite others: the longest
            # upload that is taken as a whole. The kernel may have held more the first time.
            near = range(taken, taken - 4 * READ_SIZE, -READ_SIZE // 8)
            for size in (*near, taken // 2, taken // 4, taken // 8):
                answer.clear()
                async with proxied(server.url) as proxy, caller(proxy.port) as client:
                    await uploads(client, size)
                    answer.set()
                    answered = await client.answer()
                    assert answered.status == 200
                    if b"Connection: close" in answered.raw:
                        continue
                    client.send(GET.replace(b"/a", b"/last"))
                    assert (await client.answer()).status == 200
                    return
            raise AssertionError("no upload was taken as a whole")

    run(check())
