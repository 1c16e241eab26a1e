# SPDX-License-Identifier: Apache-2.0
"""What passes, byte for byte: both directions, every framing, one request after another."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from tests.support.loops import Run
from tests.support.proxying import Proxied, proxied
from tests.support.rawserver import OK, Link, RawServer, Script, answers, caller, once, rawserver

GET: Final = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
BYTES: Final = bytes(range(256)) * 40
METHODS: Final = (
    *(b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"PROPFIND", b"PURGE"),
    *(b"MKCOL", b"REPORT", b"SEARCH", b"LOCK", b"QUERY", b"M-SEARCH"),
)
Check = Callable[[RawServer, Proxied, Link], Awaitable[None]]


async def through(script: Script, check: Check) -> None:
    """Run a server, a proxy in front of it and a client."""
    async with (
        rawserver(script) as server,
        proxied(server.url) as proxy,
        caller(proxy.port) as client,
    ):
        await check(server, proxy, client)


def head(length: int, fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n" % (length, fields)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST: Final = b"0\r\n\r\n"


# -- heads -----------------------------------------------------------------------------------------


def test_a_request_s_fields_keep_order_and_case(run: Run) -> None:
    fields = (
        b"User-Agent: ollama/0.33 (arm64 darwin)\r\nx-LOWER: 1\r\nX-Twice: a\r\nACCEPT: */*\r\n"
        b"X-Twice: b\r\nAccept-Encoding: gzip\r\nAuthorization: Bearer abc\r\nCookie: a=b; c\r\n"
        b"Origin: http://app.example\r\nExpect: nothing\r\nX-Forwarded-For: 10.0.0.1\r\n"
    )

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        await client.ask(
            b"POST /a HTTP/1.1\r\nhost: x\r\n" + fields + b"Content-Length: 2\r\n\r\nab"
        )
        assert server.received == (
            b"POST /a HTTP/1.1\r\nHost: "
            + server.authority
            + b"\r\n"
            + fields
            + b"Content-Length: 2\r\n\r\nab"
        )

    run(through(answers(OK), check))


def test_an_answer_s_fields_keep_order_and_case(run: Run) -> None:
    fields = (
        b"content-TYPE: application/x-ndjson\r\nSet-Cookie: a=1\r\nDate: Tue, 24 Nov 2026\r\n"
        b"X-\xc3: no\r\n".replace(b"\xc3", b"b")
        + b"Set-Cookie: b=\xe4\r\nServer: x\r\nVary: *\r\n"
    )

    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        answer = await client.ask(GET)
        assert answer.raw == head(2, fields) + b"ok"

    run(through(answers(head(2, fields) + b"ok"), check))


def test_an_answer_s_fields_of_one_hop_are_dropped(run: Run) -> None:
    fields = (
        b"Keep-Alive: timeout=5\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-Kept: 2\r\n"
        b"Proxy-Authenticate: Basic\r\nTrailer: X-T\r\nUpgrade: h2c\r\nProxy-Connection: close\r\n"
    )

    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        answer = await client.ask(GET)
        assert answer.raw == head(2, b"X-Kept: 2\r\n") + b"ok"

    run(through(answers(head(2, fields) + b"ok"), check))


@pytest.mark.parametrize("nominated", [b"transfer-encoding", b"connection", b"content-length"])
def test_what_frames_an_answer_cannot_be_nominated_away(run: Run, nominated: bytes) -> None:
    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        for _number in range(2):
            assert (await client.ask(GET)).body == b"ok"
        client.send(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await client.answer()
        assert (answer.body, answer.all(b"connection")) == (b"ok", [b"close"])

    fields = b"Connection: " + nominated + b"\r\n"
    framed = CHUNKED[:-2] + fields + b"\r\n" + chunk(b"ok") + LAST
    run(through(answers(framed), check))
    run(through(answers(head(2, fields) + b"ok"), check))


@pytest.mark.parametrize(
    "line",
    [b"200 OK", b"200 Fine, thank you", b"200 ", b"404 Not Found", b"503 \xe4", b"207 M", b"418 I"],
)
def test_status_and_reason_pass(run: Run, line: bytes) -> None:
    answer = b"HTTP/1.1 " + line + b"\r\nContent-Length: 2\r\n\r\nok"

    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        assert (await client.ask(GET)).raw == answer

    run(through(answers(answer), check))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_pass_and_are_not_followed(run: Run, status: int) -> None:
    answer = b"HTTP/1.1 %d Moved\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n" % status

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        assert (await client.ask(GET)).raw == answer
        assert len(server.requests()) == 1

    run(through(answers(answer), check))


def test_unknown_methods_and_paths_pass(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        for method in METHODS:
            request = method + b" /no/such/route?%20=&a HTTP/1.1\r\nHost: x\r\n\r\n"
            assert (await client.ask(request)).body == b"ok"
        assert [r.first.split(b" ")[:2] for r in server.requests()] == [
            [method, b"/no/such/route?%20=&a"] for method in METHODS
        ]

    run(through(answers(OK), check))


@pytest.mark.parametrize(
    "target",
    [
        b"/a%2fb", b"//a//b", b"/a/../../b/./c", b"/%2e%2e/", b"/a?b=c?d&e=%zz", b"/?", b"/;a=b",
        b"/a%00", b"/~!$&'()*+,=:@", b"/a?u=http://x/y", b'/{}|^`"<>\\', b"/" + b"a" * 8000,
    ],
)  # fmt: skip
def test_targets_are_left_alone(run: Run, target: bytes) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        await client.ask(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [request.target for request in server.requests()] == [target]

    run(through(answers(OK), check))


# -- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"\0", b"0\r\n\r\n", BYTES, BYTES * 100], ids=len)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_bodies_pass_both_ways(run: Run, framing: str, body: bytes) -> None:
    async def echo(link: Link) -> None:
        while (request := await link.request()) is not None:
            sent = request.body
            link.send(head(len(sent)) + sent if framing == "length" else CHUNKED)
            if framing == "chunked":
                link.send((chunk(sent) if sent else b"") + LAST)

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        field = b"Transfer-Encoding: chunked" if framing == "chunked" else b"Content-Length: %d"
        framed = field % len(body) if framing == "length" else field
        client.send(b"POST /a HTTP/1.1\r\nHost: x\r\n" + framed + b"\r\n\r\n")
        if framing == "length":
            client.send(body)
        else:
            client.send(b"".join(chunk(body[i : i + 4096]) for i in range(0, len(body), 4096)))
            client.send(LAST)
        answer = await client.answer()
        assert answer.body == body
        [request] = server.requests()
        assert request.body == body
        assert (request.chunks is None) is (framing == "length")

    run(through(echo, check))


@pytest.mark.parametrize("path", [b"/a", b"/api/chat"])
@pytest.mark.parametrize("framing", ["chunked", "length", "until close"])
def test_each_piece_arrives_before_the_next_is_written(run: Run, framing: str, path: bytes) -> None:
    pieces = [b'{"n":%d}\n' % n + b"x" * n for n in range(30)]
    arrived = asyncio.Semaphore(0)

    async def stepwise(link: Link) -> None:
        await link.request()
        whole = sum(map(len, pieces))
        first = {"chunked": CHUNKED, "length": head(whole)}.get(framing, b"HTTP/1.1 200 OK\r\n\r\n")
        link.send(first)
        for piece in pieces:
            await arrived.acquire()
            link.send(chunk(piece) if framing == "chunked" else piece)
        await arrived.acquire()
        link.send(LAST) if framing == "chunked" else link.close()

    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        client.send(b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        await client.got(b"\r\n\r\n")
        for piece in pieces:
            arrived.release()
            await client.got(piece)
        arrived.release()
        answer = await client.answer()
        assert answer.body == b"".join(pieces)
        if framing != "length":
            assert answer.chunks == pieces

    run(through(stepwise, check))


def test_each_piece_of_a_request_arrives_before_the_next_is_written(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        link = await server.link()
        await link.got(b"\r\n\r\n")
        for n in range(20):
            client.send(chunk(b"piece %d" % n))
            await link.got(b"piece %d\r\n" % n)
        client.send(LAST)
        await link.got(LAST)

    async def nothing(_: Link) -> None:
        pass

    run(through(nothing, check))


def test_a_long_answer_whose_chunks_come_apart_from_their_sizes_passes(run: Run) -> None:
    count = 25_000

    async def apart(link: Link) -> None:
        await link.request()
        link.send(CHUNKED)
        for _ in range(count):
            for part in (b"5\r\n", b"abcde\r\n"):
                link.send(part)
                await asyncio.sleep(0)  # the proxy reads it
                await asyncio.sleep(0)
        link.send(LAST)

    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        client.send(GET)
        await client.until(lambda: client.end or client.received.endswith(LAST))
        assert client.received.count(b"abcde") == count

    run(through(apart, check))


def test_the_first_bytes_do_not_wait_for_the_end_of_a_head_s_read(run: Run) -> None:
    first = CHUNKED + chunk(b"first")

    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        client.send(GET)
        await client.got(b"first")
        assert client.rest == first

    run(through(once(first), check))


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_answers_without_a_body_end_at_once(run: Run, status: bytes) -> None:
    answer = b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n"

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        for _number in range(3):
            assert (await client.ask(GET)).raw == answer
        assert len(server.links) == 1

    run(through(answers(answer), check))


def test_a_304_may_name_the_length_it_does_not_have(run: Run) -> None:
    answer = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"

    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        for _number in range(3):
            assert (await client.ask(GET)).raw == answer

    run(through(answers(answer), check))


@pytest.mark.parametrize(
    "fields", [b"Content-Length: 1000\r\n", b"Transfer-Encoding: chunked\r\n", b""]
)
def test_head_has_no_body_whatever_its_fields_say(run: Run, fields: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + fields + b"X-A: b\r\n\r\n"

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        for _number in range(3):
            got = await client.ask(GET.replace(b"GET", b"HEAD"))
            assert got.status == 200
            assert got.all(b"x-a") == [b"b"]
            assert got.all(b"content-length") == ([b"1000"] if b"1000" in fields else [])
        assert [r.first[:4] for r in server.requests()] == [b"HEAD"] * 3

    run(through(answers(answer), check))


def test_a_body_behind_the_answer_to_head_goes_nowhere(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        for _number in range(2):
            got = await client.ask(GET.replace(b"GET", b"HEAD"))
            assert got.raw == head(5)
        await (await server.link()).gone()
        assert client.rest == b""

    run(through(answers(head(5) + b"hello"), check))


def test_delete_with_a_body_passes(run: Run) -> None:
    request = b'DELETE /api/delete HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{"model":"m"}'

    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        await client.ask(request)
        assert server.received == request.replace(b"Host: x", b"Host: " + server.authority)
        assert proxy.observations[0].route.label == "/api/delete"

    run(through(answers(OK), check))


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_body_until_close_passes(run: Run, version: bytes) -> None:
    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        client.send(b"GET /a HTTP/" + version + b"\r\nHost: x\r\n\r\n")
        answer = await client.answer()
        assert answer.body == BYTES * 2
        if version == b"1.0":
            assert answer.all(b"transfer-encoding") == []
            assert await client.gone() == "fin"

    run(through(once(b"HTTP/1.1 200 OK\r\n\r\n" + BYTES, BYTES, end="fin"), check))


def test_a_client_of_1_0_gets_no_chunks(run: Run) -> None:
    async def check(_: RawServer, __: Proxied, client: Link) -> None:
        client.send(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = await client.answer()
        assert (answer.body, answer.chunks) == (b"abcd", None)
        assert answer.all(b"connection") == [b"close"]
        assert await client.gone() == "fin"

    run(through(answers(CHUNKED + chunk(b"ab"), chunk(b"cd"), LAST), check))


def test_a_client_of_1_0_may_be_kept(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        for _number in range(3):
            answer = await client.ask(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert (answer.body, answer.all(b"connection")) == (b"ok", [b"keep-alive"])
        client.send(b"GET /a HTTP/1.0\r\n\r\n")
        assert (await client.answer()).all(b"connection") == [b"close"]
        assert await client.gone() == "fin"
        assert all(r.first.endswith(b"HTTP/1.1") for r in server.requests())

    run(through(answers(OK), check))


def test_trailers_and_extensions_of_an_answer_are_dropped(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        for _number in range(2):
            answer = await client.ask(GET)
            assert answer.raw == CHUNKED + chunk(b"ok") + LAST
        assert len(server.links) == 1

    body = CHUNKED + b"2;a=b\r\nok\r\n0\r\nX-T: 1\r\nContent-Length: 7\r\n\r\n"
    run(through(answers(body.replace(b"Content-Length: 7\r\n", b"")), check))


# -- informational answers -------------------------------------------------------------------------


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
        await link.got(b"GET /last")
        link.send(OK)

    async def uploads(client: Link, size: int) -> None:
        client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        client.send(bytes(size))
        await asyncio.sleep(0.3)  # everything on the way is full

    async def check() -> None:
        async with rawserver(late, receive_buffer=4096) as server:
            async with proxied(server.url) as proxy, caller(proxy.port) as client:
                await uploads(client, 30_000_000)
                await proxy.proxy.stop()
            taken = proxy.observations[0].request_bytes
            async with proxied(server.url) as proxy, caller(proxy.port) as client:
                await uploads(client, taken)
                answer.set()
                assert (await client.answer()).status == 200
                client.send(GET.replace(b"/a", b"/last"))
                assert (await client.answer()).status == 200

    run(check())


# -- one request after another ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [OK, CHUNKED + chunk(b"ok") + LAST, b"HTTP/1.1 204 No Content\r\n\r\n"],
    ids=["length", "chunked", "no body"],
)
def test_one_connection_to_the_server_serves_requests_in_turn(run: Run, answer: bytes) -> None:
    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        for _number in range(30):
            assert (await client.ask(GET)).raw == answer
        for _number in range(20):
            async with caller(proxy.port) as another:
                assert (await another.ask(GET)).raw == answer
        assert len(server.requests()) == 50
        assert len(server.links) == 1

    run(through(answers(answer), check))


def test_an_answer_that_says_close_ends_the_server_s_connection_and_not_the_client_s(
    run: Run,
) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        for _number in range(3):
            assert (await client.ask(GET)).raw == OK
        assert len(server.links) == 3
        for link in server.links:
            await link.gone()

    run(through(answers(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")), check))


def test_what_follows_an_answer_unasked_goes_nowhere(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        for number in range(2):
            assert (await client.ask(GET)).raw == OK
            await (await server.link(number)).gone()
        assert client.rest == b""

    evil = b"HTTP/1.1 404 Evil\r\nContent-Length: 4\r\n\r\nevil"
    for unasked in (evil, OK, b"more", b"\x16\x03\x01"):
        run(through(answers(OK + unasked), check))
        run(through(answers(OK, unasked), check_later))


async def check_later(server: RawServer, _: Proxied, client: Link) -> None:
    assert (await client.ask(GET)).raw == OK
    await (await server.link()).gone()
    assert (await client.ask(GET)).raw == OK
    assert client.rest == b""


def test_pipelined_requests_are_answered_in_order(run: Run) -> None:
    async def named(link: Link) -> None:
        while (request := await link.request()) is not None:
            sent = request.target + request.body
            link.send(head(len(sent)) + (b"" if request.first.startswith(b"HEAD") else sent))

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        client.send(
            b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n"
            b"POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
            b"POST /3 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n"
            b"HEAD /4 HTTP/1.1\r\nHost: x\r\n\r\n"
            b"POST /5 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
        )
        bodies = [(await client.answer()).body for _ in range(3)]
        assert bodies == [b"/1", b"/2abc", b"/3de"]
        assert (await client.answer(b"HEAD")).all(b"content-length") == [b"2"]
        client.send(b"fgGET /6 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [(await client.answer()).body for _ in range(2)] == [b"/5fg", b"/6"]
        assert len(server.links) == 1

    run(through(named, check))


def test_thousands_of_pipelined_requests_are_all_answered(run: Run) -> None:
    padding = b"X-A: " + b"a" * 100 + b"\r\n"
    upgrade = b"Connection: upgrade\r\nUpgrade: a\r\n"

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        for fields in (padding, upgrade):
            client.send((b"GET /a HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n") * 3000)
            await client.until(lambda: len(client.rest) >= 3000 * len(OK))
            assert client.take(3000 * len(OK)) == OK * 3000
        assert len(server.requests()) == 6000

    run(through(answers(OK), check))


@pytest.mark.parametrize("version", [b"1.1\r\nConnection: close", b"1.0"])
@pytest.mark.parametrize("rest", [b"\r\n", GET, b"garbage\x01"])
def test_what_follows_a_last_request_is_ignored(run: Run, version: bytes, rest: bytes) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        client.send(b"GET /a HTTP/" + version + b"\r\nHost: x\r\n\r\n" + rest)
        answer = await client.answer()
        assert answer.status == 200
        assert await client.gone() == "fin"
        assert client.rest == b""
        assert len(server.requests()) == 1

    run(through(answers(OK), check))


def test_a_refused_request_is_answered_behind_those_before_it(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        client.send(GET + GET + b"GET /b HTTP/1.1\r\n\r\n" + GET)
        assert [(await client.answer()).status for _ in range(3)] == [200, 200, 400]
        assert await client.gone() == "fin"
        assert client.rest == b""
        assert len(server.requests()) == 2

    run(through(answers(b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n\r\n", b"o", b"k"), check))


# -- every split -----------------------------------------------------------------------------------


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
