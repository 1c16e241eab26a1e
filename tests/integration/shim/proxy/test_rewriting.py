# SPDX-License-Identifier: Apache-2.0
"""A request in which the proxy sets something: every other byte, every framing, every end."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest

from ollama_exporter.actions.defaults.defaults_section import Rule
from ollama_exporter.actions.defaults.rewrite_rules import Changed, Rules, append, change
from ollama_exporter.protocol.request_body import RequestFields
from ollama_exporter.protocol.routes import Route
from ollama_exporter.residency.facts import RequestStarted
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.proxy.limits import MAX_HELD, HeldBytes
from tests.support.exporting import until
from tests.support.loops import Run
from tests.support.proxying import Clock, Proxied
from tests.support.rawserver import OK, Link, RawServer, Script, answers, caller
from tests.support.through import HASTY, LAST, Check, chunk, error_of, head, passing, through

BODY = b'{ "model":"m",\t"prompt" : "\xc3\xa9" }'
SET = b'{"keep_alive":"10m0s", "model":"m",\t"prompt" : "\xc3\xa9" }'
FIELDS = b"X-b: 1\r\naccept: */*\r\nX-A: 2\r\n"
SAID = b"X-Ollama-Exporter-Set: keep_alive=10m0s\r\n"


class TenMinutes:
    """Sets ten minutes where none are asked for."""

    def __init__(self) -> None:
        self.is_active = True

    def change(self, route: Route, body: bytes) -> Changed | None:
        """Set them."""
        return change(route, body, Rules((Rule("*", keep_alive=600.0),)), lambda _model: None)

    def append(self, route: Route, asked: RequestFields) -> Changed | None:
        """Set them behind what a large body holds."""
        return append(route, asked, Rules((Rule("*", keep_alive=600.0),)), lambda _model: None)

    def afterwards(self, exchange: Exchange) -> str:
        """Say nothing."""
        return "later" if exchange.route.runs and not exchange.route.native else ""


def request(body: bytes, fields: bytes = FIELDS, path: bytes = b"/api/generate") -> bytes:
    return (
        b"POST %b HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n" % (path, fields, len(body))
    ) + body


def sent_on(server: RawServer, body: bytes, path: bytes = b"/api/generate") -> bytes:
    first = b"POST %b HTTP/1.1\r\nHost: %b\r\n%b" % (path, server.authority, FIELDS)
    return first + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def amended(script: Script, check: Check) -> Coroutine[Any, Any, None]:
    return through(script, check, rules=TenMinutes())


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_body_with_a_length_gets_the_right_one(run: Run, size: int) -> None:
    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        raw = request(BODY)
        for begin in range(0, len(raw), size):
            client.send(raw[begin : begin + size])
            await asyncio.sleep(0)
        answer = await client.answer()
        assert answer.raw == head(2, SAID) + b"ok"
        assert server.received == sent_on(server, SET)
        (seen,) = proxy.observations
        assert (seen.request_fields.keep_alive, seen.request_bytes) == (None, len(BODY))
        (began,) = [fact for fact in proxy.facts if isinstance(fact, RequestStarted)]
        assert began.keep_alive == 600.0

    run(amended(answers(OK), check))


def test_a_chunked_body_stays_chunked(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        first = b"POST /api/generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = await client.ask(first + chunk(BODY[:9]) + chunk(BODY[9:]) + LAST)
        assert answer.all(b"x-ollama-exporter-set") == [b"keep_alive=10m0s"]
        (got,) = server.requests()
        assert (got.body, got.chunks) == (SET, [SET])

    run(amended(answers(OK), check))


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        (b"/api/generate", BODY.replace(b"}", b',"keep_alive":5}'), FIELDS),
        (b"/api/generate", b"{oops", FIELDS),
        (b"/api/generate", b"", FIELDS),
        (b"/api/show", BODY, FIELDS),
    ],
)
def test_what_is_not_changed_is_the_same_to_the_byte(
    run: Run, path: bytes, body: bytes, fields: bytes
) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        answer = await client.ask(request(body, fields, path))
        assert answer.raw == OK
        assert server.received == sent_on(server, body, path)

    run(amended(answers(OK), check))


def test_what_is_set_afterwards_is_announced_as_well(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        path = b"/v1/chat/completions"
        answer = await client.ask(request(BODY, FIELDS, path))
        assert answer.all(b"x-ollama-exporter-set") == [b"later"]
        assert server.received == sent_on(server, BODY, path)

    run(amended(answers(OK), check))


@pytest.mark.parametrize("encoding", [b"identity", b"gzip", b"zstd"])
def test_a_field_for_an_encoding_does_not_get_around_the_rules(run: Run, encoding: bytes) -> None:
    """Ollama reads a native body as JSON whatever the field says."""

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        fields = FIELDS + b"Content-Encoding: " + encoding + b"\r\n"
        assert (await client.ask(request(BODY, fields))).all(b"x-ollama-exporter-set")
        assert server.requests()[0].body == SET

    run(amended(answers(OK), check))


@pytest.mark.parametrize("path", [b"/api/%67enerate", b"/%61pi%2fgenerate?x=1"])
def test_an_encoded_path_does_not_get_around_the_rules(run: Run, path: bytes) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        assert (await client.ask(request(BODY, FIELDS, path))).all(b"x-ollama-exporter-set")
        assert server.received == sent_on(server, SET, path)

    run(amended(answers(OK), check))


def test_a_client_that_expects_100_gets_it_and_the_rules_hold(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        raw = request(BODY, FIELDS + b"Expect: 100-Continue\r\n")
        client.send(raw[: -len(BODY)])
        await client.got(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(BODY)
        assert (await client.answer()).all(b"x-ollama-exporter-set")
        assert server.received == sent_on(server, SET)

    run(amended(answers(OK), check))


def test_an_encoded_body_passes_as_it_is(run: Run) -> None:
    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        body = b"\x28\xb5\x2f\xfd" + BODY
        assert (await client.ask(request(body))).raw == OK
        assert server.received == sent_on(server, body)

    run(amended(answers(OK), check))


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_beyond_the_bound_is_changed_while_it_passes(run: Run, *, is_chunked: bool) -> None:
    long = BODY[:-2] + b" " * MAX_HELD + b"}"

    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        raw = request(long)
        if is_chunked:
            first = b"POST /api/generate HTTP/1.1\r\nHost: x\r\n%b" % FIELDS
            raw = first + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(long) + LAST
        answer = await client.ask(raw)
        assert answer.all(b"x-ollama-exporter-set") == [b"keep_alive=10m0s"]
        first = server.received.partition(b"\r\n\r\n")[0].lower()
        assert b"transfer-encoding: chunked" in first
        assert b"content-length" not in first
        (asked,) = server.requests()
        assert asked.body == long[:-1] + b',"keep_alive":"10m0s"}'
        assert proxy.proxy.held.size == 0

    run(amended(answers(OK), check))


def test_many_slow_uploads_hold_no_more_than_the_bound_together(run: Run) -> None:
    """The rules apply to those that find no room as well: they are changed while they pass."""
    uploads = 9

    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        del client
        proxy.proxy.held = HeldBytes(2 * MAX_HELD)
        body = BODY[:-2] + b" " * (MAX_HELD - 1000) + b"}"
        opened = AsyncExitStack()
        links = [await opened.enter_async_context(caller(proxy.port)) for _ in range(uploads)]
        for link in links:
            link.send(request(body)[:-1])
        await until(lambda: len(server.links) == uploads)
        await until(lambda: len(server.received) > (uploads - 2) * (MAX_HELD - 2000))
        assert 0 < proxy.proxy.held.size <= 2 * MAX_HELD
        for link in links:
            link.send(b"}")
        for link in links:
            answer = await link.answer()
            assert answer.all(b"x-ollama-exporter-set") == [b"keep_alive=10m0s"]
        assert proxy.proxy.held.size == 0
        await opened.aclose()

    run(amended(answers(OK), check))


def test_a_client_that_leaves_gives_back_what_was_held(run: Run) -> None:
    async def check(_: RawServer, proxy: Proxied, client: Link) -> None:
        client.send(request(BODY)[:-3])
        await until(lambda: proxy.proxy.held.size > 0)
        client.close()
        await until(lambda: proxy.proxy.held.size == 0)

    run(amended(answers(OK), check))


def test_requests_in_a_row_and_pipelined_are_each_their_own(run: Run) -> None:
    other = BODY.replace(b"}", b',"keep_alive":5}')

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        client.send(request(BODY) + request(other) + request(BODY))
        got = [await client.answer() for _ in range(3)]
        assert [len(answer.all(b"x-ollama-exporter-set")) for answer in got] == [1, 0, 1]
        assert server.received == b"".join(sent_on(server, body) for body in (SET, other, SET))

    run(amended(answers(OK), check))


def test_a_kept_connection_that_dies_while_a_body_is_waited_for_is_replaced(run: Run) -> None:
    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        assert (await client.ask(request(BODY))).status == 200
        raw = request(BODY)
        client.send(raw[:-3])
        await until(lambda: not proxy.proxy.pool.idle_count)  # it is held for this request
        server.links[0].close()
        await server.link(1)
        client.send(raw[-3:])
        assert (await client.answer()).status == 200

    run(amended(answers(OK), check))


def test_a_request_whose_client_leaves_before_its_end_is_not_sent(run: Run) -> None:
    async def check(server: RawServer, proxy: Proxied, client: Link) -> None:
        client.send(request(BODY)[:-3])
        await server.link()
        client.close()
        await until(lambda: proxy.observations)
        assert server.received == b""
        assert proxy.observations[0].outcome == "client_gone"

    run(amended(answers(OK), check))


def test_a_body_that_never_ends_is_given_up(run: Run) -> None:
    async def check(_: RawServer, proxy: Proxied, client: Link) -> None:
        client.send(request(BODY)[:-3])
        await until(lambda: proxy.proxy.held.size > 0)
        await passing(proxy, until_ended=client)
        error_of(await client.answer(), 408)

    run(through(answers(OK), check, HASTY, rules=TenMinutes(), clock=Clock()))


def test_rules_come_and_go_on_an_open_connection(run: Run) -> None:
    rules = TenMinutes()

    async def check(server: RawServer, _: Proxied, client: Link) -> None:
        assert len((await client.ask(request(BODY))).all(b"x-ollama-exporter-set")) == 1
        rules.is_active = False
        assert (await client.ask(request(BODY))).raw == OK
        rules.is_active = True
        assert len((await client.ask(request(BODY))).all(b"x-ollama-exporter-set")) == 1
        assert server.received == b"".join(sent_on(server, body) for body in (SET, BODY, SET))

    run(through(answers(OK), check, rules=rules))
