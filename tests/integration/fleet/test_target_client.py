# SPDX-License-Identifier: Apache-2.0
"""The client of a fleet's target against real sockets, good ones and bad ones."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import trustme
from msgspec.structs import replace

from ollama_exporter.config.target import BasicAuth, HeaderField, Target
from ollama_exporter.errors import ConfigError, FailureReason, TargetError
from ollama_exporter.fleet.checked_address import NameResolver
from ollama_exporter.fleet.target_client import SharedByTargets, TargetClient, TlsContexts
from ollama_exporter.protocol.kept_connection import FREE, BodyBudget, KeptConnection
from tests.support import faultserver as faults
from tests.support.exporting import until
from tests.support.faultserver import closed_port, entry, faultserver
from tests.support.growth import assert_linear
from tests.support.patience import PATIENCE
from tests.support.rawserver import Link, Script, answers, once, rawserver

BODY = json.dumps({"models": [entry("mistral:latest", None)]}).encode()
HEAD = b"HTTP/1.1 200 OK\r\nDate: Fri, 27 Nov 2026 21:00:00 GMT\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


@asynccontextmanager
async def client_of(
    url: str, shared: SharedByTargets | None = None, **more: Any
) -> AsyncIterator[TargetClient]:
    target = Target("t", url, **more)
    client = TargetClient(target, shared or SharedByTargets(PATIENCE))
    try:
        yield client
    finally:
        await client.aclose()


async def failure(asking: Coroutine[Any, Any, object]) -> TargetError:
    with pytest.raises(TargetError) as caught:
        await asking
    return caught.value


def test_polls_keep_their_connection_and_notice_a_new_one() -> None:
    async def main() -> None:
        async with faultserver() as server, client_of(server.url) as client:
            server.models = [entry("mistral:latest", None)]
            first, second = await client.ps(), await client.ps()
            assert [model.name for model in first.models] == ["mistral:latest"]
            assert (first.new_connection, second.new_connection) == (True, False)
            assert first.date is not None
            assert await client.version() == "0.33.0"
            assert [model.name for model in await client.tags()] == ["mistral:latest"]
            await server.drop()
            third = await client.ps()
            assert third.new_connection
            assert server.connections == 4  # the inventory has connections of its own

    asyncio.run(main())


@pytest.mark.parametrize(
    "pieces",
    [
        [WHOLE],
        [WHOLE[:17], WHOLE[17:40], WHOLE[40:-1], WHOLE[-1:]],
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)],
        [b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + WHOLE],
        [b"HTTP/1.1 100 Continue\r\n\r\n", WHOLE],
    ],
)
def test_every_framing_of_an_answer_is_read(pieces: Sequence[bytes]) -> None:
    async def main() -> None:
        async with rawserver(answers(*pieces)) as server, client_of(server.url) as client:
            for _ in range(3):
                assert [x.name for x in (await client.ps()).models] == ["mistral:latest"]
            (link,) = server.links
            await client.aclose()
            await link.gone()

    asyncio.run(main())


OLD = b"HTTP/1.0" + HEAD[8:] + b"\r\n"


@pytest.mark.parametrize(
    "piece", [HEAD + b"\r\n" + BODY, HEAD + b"Connection: close\r\n\r\n" + BODY, OLD + BODY]
)  # fmt: skip
def test_an_answer_may_end_with_its_connection(piece: bytes) -> None:
    async def main() -> None:
        async with rawserver(once(piece, end="fin")) as server, client_of(server.url) as client:
            for _ in range(2):
                answer = await client.ps()
                assert answer.new_connection
                assert len(answer.models) == 1

    asyncio.run(main())


async def no_answer(link: Link) -> None:
    await link.gone()


SWITCH = b"HTTP/1.1 101 x\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
TWO_LENGTHS = b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"
MOVED = b"HTTP/1.1 302 x\r\nLocation: http://127.0.0.1:1/\r\n"
EMPTY = b"Content-Length: 2\r\n\r\n{}"
MANY = b"".join(b"X-%d: y\r\n" % number for number in range(200))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (no_answer, FailureReason.TIMEOUT),
        (answers(HEAD), FailureReason.TIMEOUT),
        (once(end="fin"), FailureReason.RESET),
        (once(WHOLE[:-1], end="fin"), FailureReason.RESET),
        (once(WHOLE[:-1], end="reset"), FailureReason.RESET),
        (answers(b"SSH-2.0-OpenSSH_9.6\r\n"), FailureReason.MALFORMED),
        (answers(SWITCH), FailureReason.MALFORMED),
        (answers(HEAD + TWO_LENGTHS), FailureReason.MALFORMED),
        (answers(HEAD + b"Content-Length: -1\r\n\r\n"), FailureReason.MALFORMED),
        (answers(HEAD + MANY + b"\r\n"), FailureReason.MALFORMED),
        (answers(HEAD + b"X: " + b"y" * (1 << 20)), FailureReason.MALFORMED),
        (answers(HEAD + b"Content-Length: 3\r\n\r\n[1]"), FailureReason.MALFORMED),
        (answers(HEAD + b"Content-Type: text/html\r\n" + EMPTY), FailureReason.MALFORMED),
        (answers(b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n"), FailureReason.STATUS),
        (answers(b"HTTP/1.1 204 x\r\n\r\n"), FailureReason.STATUS),
        (answers(MOVED + EMPTY), FailureReason.STATUS),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_a_failure_with_its_reason(
    script: Script, reason: FailureReason
) -> None:
    async def main() -> None:
        patience = 0.3 if reason is FailureReason.TIMEOUT else PATIENCE
        shared = SharedByTargets(patience)
        async with rawserver(script) as server, client_of(server.url, shared) as client:
            assert (await failure(client.ps())).reason is reason
            assert (await failure(client.version())).reason is reason

    asyncio.run(main())


@pytest.mark.parametrize("behave", [faults.huge, faults.trickling, faults.not_http])
def test_floods_and_rubbish_end_in_time_and_take_no_memory(behave: faults.Behaviour) -> None:
    async def main() -> None:
        async with (
            faultserver(behave) as server,
            client_of(server.url, SharedByTargets(0.5)) as client,
        ):
            begun = monotonic()
            for _ in range(3):
                await failure(client.ps())
            assert monotonic() - begun < PATIENCE
            client._shared = replace(client._shared, timeout=PATIENCE)  # noqa: SLF001 - from here on nothing waits for it
            for behaves in (faults.good, faults.zipped):
                server.behave = behaves
                assert (await client.ps()).models == ()

    asyncio.run(main())


def test_large_answers_share_a_bound_and_small_ones_never_wait_for_it() -> None:
    large = json.dumps({"models": [entry(f"m{n}:latest", None) for n in range(400)]}).encode()
    assert FREE < len(large) < 512 << 10

    async def main() -> None:
        shared = SharedByTargets(PATIENCE, budget=BodyBudget(len(large) - FREE))
        held = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(large) + large[:-1]
        async with (
            rawserver(answers(held)) as holding,
            faultserver(faults.answer(large)) as big,
            faultserver() as small,
            client_of(holding.url, shared) as first,
            client_of(big.url, shared) as second,
            client_of(small.url, shared) as third,
        ):
            asking = asyncio.create_task(first.ps())
            link = await holding.link()
            await link.until(lambda: b"api/ps" in link.received)
            await until(lambda: shared.budget._left == 1)  # noqa: SLF001 - what it holds has arrived
            assert "too many large" in (await failure(second.ps())).detail
            assert (await third.ps()).models == ()
            link.send(large[-1:])
            assert len((await asking).models) == 400
            assert len((await second.ps()).models) == 400

    asyncio.run(main())


def test_what_comes_unasked_closes_the_connection() -> None:
    async def main() -> None:
        async def script(link: Link) -> None:
            while await link.request() is not None:
                link.send(WHOLE + WHOLE)

        async with rawserver(script) as server, client_of(server.url) as client:
            for _ in range(2):
                assert len((await client.ps()).models) == 1
                await (await server.link(len(server.links) - 1)).gone()

    asyncio.run(main())


@pytest.mark.parametrize(
    "make",
    [
        lambda n: HEAD + b"X: " + b"y" * n,
        lambda n: HEAD + b"a: b\r\n" * (n // 6),
        lambda n: HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * (n // 6),
        lambda n: b"HTTP/1.1 100 x\r\n\r\n" * (n // 18),
        lambda n: HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * n,
        lambda n: b"\r\n" * (n // 2),
    ],
)
def test_answers_are_read_in_linear_time(make: Any) -> None:
    class Transport(asyncio.Transport):
        def write(self, data: Any) -> None:
            pass

        def abort(self) -> None:
            pass

    async def read(data: bytes) -> None:
        connection = KeptConnection(BodyBudget(1 << 30))
        connection.connection_made(Transport())
        asking = asyncio.create_task(connection.request(b"", limit=1 << 30))
        await asyncio.sleep(0)
        for start in range(0, len(data), 4096):
            connection.data_received(data[start : start + 4096])
        connection.connection_lost(None)
        await asyncio.gather(asking, return_exceptions=True)

    assert_linear(lambda data: asyncio.run(read(data)), make)


# -- addresses -------------------------------------------------------------------------------------


def test_the_next_address_is_tried_where_nobody_listens() -> None:
    async def main() -> None:
        async with faultserver() as server:
            resolver = NameResolver(lambda _host, _port: ["127.0.0.2", "127.0.0.1"])
            shared = SharedByTargets(PATIENCE, resolver=resolver)
            async with client_of(f"http://gpu.test:{server.port}", shared) as client:
                await client.ps()
                assert server.asked[0].headers["host"] == f"gpu.test:{server.port}"

    asyncio.run(main())


def test_a_name_that_is_unknown_is_unreachable_and_a_port_where_nobody_listens_refuses() -> None:
    def unknown(_host: str, _port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    async def main() -> None:
        shared = SharedByTargets(PATIENCE, resolver=NameResolver(unknown))
        async with client_of("http://gpu.test:1", shared) as client:
            error = await failure(client.ps())
            assert error.reason is FailureReason.UNREACHABLE
            assert "not known" in error.detail
        async with client_of(f"http://127.0.0.1:{closed_port()}") as client:
            error = await failure(client.ps())
            assert (error.reason, error.detail) == (FailureReason.REFUSED, "Connection refused")

    asyncio.run(main())


# -- TLS and credentials ---------------------------------------------------------------------------


def test_credentials_a_prefix_and_a_client_certificate_are_sent(tmp_path: Path) -> None:
    authority, secret = trustme.CA(), tmp_path / "secret"
    secret.write_text("hidden")
    ca, pem = tmp_path / "ca.pem", tmp_path / "client.pem"
    authority.cert_pem.write_to_path(str(ca))
    authority.issue_cert("exporter.test").private_key_and_cert_chain_pem.write_to_path(str(pem))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("gpu.test").configure_cert(tls)
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED

    async def main() -> None:
        async with faultserver(tls=tls) as server:
            target = Target(
                "t",
                f"{server.url}/ollama",
                ca,
                basic_auth=BasicAuth("me", secret),
                headers=(HeaderField("X-Secret", file=secret),),
                cert_file=pem,
                server_name="gpu.test",
            )
            client = TargetClient(target, SharedByTargets(PATIENCE))
            await client.ps()
            await client.tags()
            await client.aclose()
            assert [asked.path for asked in server.asked] == ["/ollama/api/ps", "/ollama/api/tags"]
            for asked in server.asked:
                assert asked.headers["authorization"].startswith("Basic ")
                assert asked.headers["x-secret"] == "hidden"

    asyncio.run(main())


def test_another_name_in_the_certificate_is_a_reset(tmp_path: Path) -> None:
    authority, ca = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.test").configure_cert(tls)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        async with faultserver(tls=tls) as server, client_of(server.url, ca_file=ca) as client:
            assert (await failure(client.ps())).reason is FailureReason.RESET

    asyncio.run(main())


def test_targets_share_a_context_and_a_new_certificate_is_taken_up(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca))
    contexts = TlsContexts()
    one, two = (Target(name, "https://x:1", ca) for name in "ab")
    first = contexts.of(one)
    assert first is contexts.of(two)
    assert contexts.of(Target("c", "https://x:1")) is not first
    assert contexts.of(Target("d", "http://x:1")) is None
    ca.unlink()
    trustme.CA().cert_pem.write_to_path(str(ca))
    assert contexts.of(two) is not first
    ca.unlink()
    with pytest.raises(ConfigError, match="ca-file"):
        contexts.of(two)


def test_a_certificate_that_was_damaged_later_fails_the_poll_and_nothing_else(
    tmp_path: Path,
) -> None:
    authority, ca = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)

    async def main() -> None:
        async with faultserver(tls=tls) as server, client_of(server.url, ca_file=ca) as client:
            await client.ps()
            ca.write_text("x")
            await client.ps()  # the connection stands
            connection = client._connection  # noqa: SLF001 - that which is dropped
            assert connection is not None
            await server.drop()
            await until(lambda: connection._closed)  # noqa: SLF001 - as above
            assert (await failure(client.ps())).reason is FailureReason.UNREACHABLE
            authority.cert_pem.write_to_path(str(ca))
            await client.ps()

    asyncio.run(main())
