# SPDX-License-Identifier: Apache-2.0
"""Heads: what passes byte for byte, what is of one hop and does not."""

from typing import Final

import pytest

from tests.support.loops import Run
from tests.support.proxying import Proxied
from tests.support.rawserver import OK, Link, RawServer, answers
from tests.support.through import CHUNKED, GET, LAST, chunk, head, through

METHODS: Final = (
    *(b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"PROPFIND", b"PURGE"),
    *(b"MKCOL", b"REPORT", b"SEARCH", b"LOCK", b"QUERY", b"M-SEARCH"),
)


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
def test_connection_cannot_nominate_the_framing_of_an_answer(run: Run, nominated: bytes) -> None:
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
