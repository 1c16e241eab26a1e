# SPDX-License-Identifier: Apache-2.0
"""The client against a server with every fault, over real sockets."""

import asyncio
import gzip
import os
import ssl
import time
import zlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final

import pytest
import trustme

from ollama_exporter import __version__
from ollama_exporter.config.target import BasicAuth, HeaderField, Target
from ollama_exporter.errors import ConfigError, FailureReason, OllamaExporterError, TargetError
from ollama_exporter.protocol.client import OllamaClient, PsAnswer, tls_context
from ollama_exporter.protocol.control_client import ControlClient
from tests.support.faultserver import (
    Behaviour,
    FaultServer,
    answer,
    closed_port,
    cut_short,
    entry,
    faultserver,
    good,
    hang_up,
    huge,
    late,
    not_http,
    reset,
    silent,
    trickling,
)
from tests.support.patience import PATIENCE
from tests.support.ports import free_port

TIMEOUT: Final = 0.3
HTML: Final = b"<html><title>Welcome to nginx!</title></html>"
FAULTS: Final[dict[str, tuple[Behaviour, FailureReason]]] = {
    "silent": (silent, FailureReason.TIMEOUT),
    "late": (late(2 * TIMEOUT), FailureReason.TIMEOUT),
    "trickling": (trickling, FailureReason.TIMEOUT),
    "reset": (reset, FailureReason.RESET),
    "cut short": (cut_short, FailureReason.RESET),
    "hung up": (hang_up, FailureReason.RESET),
    "not HTTP": (not_http, FailureReason.RESET),
    "404": (answer(b'{"error":"no"}', status="404 Not Found"), FailureReason.STATUS),
    "500": (answer(b'{"models":[]}', status="500 Internal Server Error"), FailureReason.STATUS),
    "204": (answer(b"", status="204 No Content"), FailureReason.STATUS),
    "HTML": (answer(HTML, headers="Content-Type: text/html\r\n"), FailureReason.MALFORMED),
    "cut JSON": (answer(b'{"models":[{"name":"a'), FailureReason.MALFORMED),
    "other JSON": (answer(b'{"models":{"name":"a"}}'), FailureReason.MALFORMED),
    "deep JSON": (answer(b'{"x":' + b"[" * 100_000), FailureReason.MALFORMED),
    "empty": (answer(b""), FailureReason.MALFORMED),
    "huge": (huge, FailureReason.MALFORMED),
    "brotli": (answer(b"\x0b\x02", headers="Content-Encoding: br\r\n"), FailureReason.MALFORMED),
    "zip bomb": (
        answer(gzip.compress(bytes(20 << 20)), headers="Content-Encoding: gzip\r\n"),
        FailureReason.MALFORMED,
    ),
    "zip cut short": (
        answer(gzip.compress(b'{"models":[]}')[:-9], headers="Content-Encoding: gzip\r\n"),
        FailureReason.MALFORMED,
    ),
}
Use = Callable[[OllamaClient, FaultServer], Awaitable[None]]


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("X-Gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda data: zlib.compress(data)[2:-4]),  # as old servers of Microsoft do
        ("identity", bytes),
    ],
)
def test_a_compressed_listing_is_read(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    async def use(client: OllamaClient, _: FaultServer) -> None:
        (model,) = (await client.ps()).models
        assert model.name == "a:latest"

    body = compress(b'{"models":[{"name":"a","size":1}]}')
    with_client(use, answer(body, headers=f"Content-Encoding: {encoding}\r\n"))


def with_client(use: Use, behave: Behaviour = good, *, timeout: float = PATIENCE) -> None:
    """Run `use` with a client of a server that behaves so."""

    async def main() -> None:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(faultserver(behave))
            client = OllamaClient(Target("ollama", server.url), timeout=timeout)
            stack.push_async_callback(client.aclose)
            await use(client, server)

    asyncio.run(main())


async def failure(request: Awaitable[object]) -> TargetError:
    with pytest.raises(TargetError) as caught:
        await request
    return caught.value


def ask(target: Target, *, context: ssl.SSLContext | None = None) -> PsAnswer:
    async def main() -> PsAnswer:
        client = OllamaClient(target, timeout=PATIENCE, ssl_context=context)
        try:
            return await client.ps()
        finally:
            await client.aclose()

    return asyncio.run(main())


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_reason_ends_and_is_recovered_from(fault: str) -> None:
    behave, reason = FAULTS[fault]

    async def use(client: OllamaClient, server: FaultServer) -> None:
        for _ in range(2):
            caught = await failure(client.ps())
            assert caught.reason is reason
            assert caught.detail
        server.behave, server.models = good, [entry("llama3.2:1b", None)]
        client._timeout = PATIENCE  # noqa: SLF001 - from here on nothing waits for it
        assert [model.name for model in (await client.ps()).models] == ["llama3.2:1b"]

    # Only where no answer comes does anything wait for that time to pass.
    with_client(use, behave, timeout=TIMEOUT if reason is FailureReason.TIMEOUT else PATIENCE)


@pytest.mark.parametrize("path", ["version", "tags"])
def test_version_and_tags_fail_alike(path: str) -> None:
    async def use(client: OllamaClient, server: FaultServer) -> None:
        ask_for = client.version if path == "version" else client.tags
        server.behave = answer(HTML)
        assert (await failure(ask_for())).reason is FailureReason.MALFORMED
        server.behave = hang_up
        assert (await failure(ask_for())).reason is FailureReason.RESET

    with_client(use)


def test_a_closed_port_is_refused_and_recovered_from() -> None:
    async def main() -> None:
        port = free_port()
        client = OllamaClient(Target("ollama", f"http://127.0.0.1:{port}"), timeout=PATIENCE)
        refused = await failure(client.ps())
        assert (refused.reason, refused.detail) == (FailureReason.REFUSED, "Connection refused")
        async with faultserver(port=port):
            assert (await client.ps()).new_connection
        assert (await failure(client.ps())).reason in (FailureReason.REFUSED, FailureReason.RESET)
        await client.aclose()

    asyncio.run(main())


def test_a_closed_client_opens_no_connection_again() -> None:
    """Nobody would close it: a task that ends after the client may still ask."""

    async def use(client: OllamaClient, server: FaultServer) -> None:
        await client.ps()
        await client.aclose()
        for ask in (client.ps, client.version):
            assert (await failure(ask())).reason is FailureReason.RESET
        assert server.connections == 1

    with_client(use)


@pytest.mark.parametrize("host", ["nobody.invalid", "255.255.255.255", "xn--a"])
def test_a_host_that_cannot_be_reached_has_refused_nothing(host: str) -> None:
    with pytest.raises(TargetError) as caught:
        ask(Target("ollama", f"http://{host}:11434"))
    assert caught.value.reason is FailureReason.UNREACHABLE
    assert "attempts" not in caught.value.detail  # the system's own words


def test_a_redirect_is_not_followed() -> None:
    async def use(client: OllamaClient, server: FaultServer) -> None:
        async with faultserver() as elsewhere:
            there = f"Location: {elsewhere.url}/api/ps\r\n"
            server.behave = answer(b"", status="301 Moved Permanently", headers=there)
            caught = await failure(client.ps())
            assert caught.reason is FailureReason.STATUS
            assert "301" in caught.detail
            assert elsewhere.connections == 0

    with_client(use)


def test_polls_keep_one_connection_and_say_when_it_was_new() -> None:
    async def use(client: OllamaClient, server: FaultServer) -> None:
        assert [(await client.ps()).new_connection for _ in range(3)] == [True, False, False]
        assert server.connections == 1
        await server.drop()
        assert [(await client.ps()).new_connection for _ in range(2)] == [True, False]
        assert server.connections == 2

    with_client(use)


def test_version_and_tags_leave_the_connection_of_the_polls_alone() -> None:
    async def use(client: OllamaClient, server: FaultServer) -> None:
        server.models = [entry("llama3.2:1b", None, size=7)]
        await client.ps()
        assert await client.version() == "0.33.0"
        assert [(model.name, model.size) for model in await client.tags()] == [("llama3.2:1b", 7)]
        assert not (await client.ps()).new_connection
        assert server.connections == 2

    with_client(use)


def test_the_answer_carries_status_body_and_the_date_of_the_server() -> None:
    async def use(client: OllamaClient, server: FaultServer) -> None:
        server.offset = 3600.0
        got = await client.ps()
        assert got.status == 200
        assert got.body == b'{"models": []}'
        assert got.date is not None
        assert got.date == pytest.approx(time.time() + 3600, abs=2)
        assert server.asked[0].headers["user-agent"] == f"ollama_exporter/{__version__}"
        assert server.asked[0].headers["accept-encoding"] == "identity"
        assert "authorization" not in server.asked[0].headers

    with_client(use)


@pytest.mark.parametrize(
    "date",
    [
        b"",
        b"Date: soon\r\n",
        b"Date: Mon, 99 Foo 2026\r\n",
        b"Date: Mon, 01 Jan 2026 00:00:00 +99999999999999\r\n",
    ],
)
def test_a_date_that_is_none_is_no_evidence(date: bytes) -> None:
    async def behave(_: object, __: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + date + b'Content-Length: 13\r\n\r\n{"models":[]}')
        await writer.drain()

    async def use(client: OllamaClient, _: FaultServer) -> None:
        assert (await client.ps()).date is None

    with_client(use, behave)


def test_a_proxy_in_the_environment_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")

    async def use(client: OllamaClient, server: FaultServer) -> None:
        assert (await client.ps()).status == 200
        assert server.count("/api/ps") == 1

    with_client(use)


# -- TLS -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def served_by(authority: trustme.CA, host: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


def test_https_with_a_ca_file(authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))

    async def main() -> None:
        async with faultserver(tls=served_by(authority)) as server:
            client = OllamaClient(Target("ollama", server.url, ca_file), timeout=PATIENCE)
            assert [(await client.ps()).new_connection for _ in range(2)] == [True, False]
            await client.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://127.0.0.1:1"])
def test_a_ca_file_that_is_a_fifo_or_has_no_end_is_refused_at_once(
    url: str, tmp_path: Path
) -> None:
    fifo = tmp_path / "ca.pem"
    os.mkfifo(fifo)
    for file in (fifo, Path("/dev/zero"), tmp_path):
        with pytest.raises(ConfigError, match="ca-file"):
            tls_context(Target("ollama", url, file))


@pytest.mark.parametrize(
    "case", ["unknown authority", "another name", "https to http", "http to https"]
)
def test_a_failed_handshake_is_a_reset(case: str, authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    (trustme.CA() if case == "unknown authority" else authority).cert_pem.write_to_path(
        str(ca_file)
    )
    tls = served_by(authority, "other.test" if case == "another name" else "127.0.0.1")
    scheme = "http" if case == "http to https" else "https"

    async def main() -> None:
        # asyncio reports the failed handshake to the loop's handler; that is the server's side.
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        async with faultserver(tls=None if case == "https to http" else tls) as server:
            url = f"{scheme}://127.0.0.1:{server.port}"
            client = OllamaClient(Target("ollama", url, ca_file), timeout=PATIENCE)
            assert (await failure(client.ps())).reason is FailureReason.RESET
            await client.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_unusable_ca_file_is_a_config_error(content: str | None, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        OllamaClient(Target("ollama", "https://127.0.0.1:1", ca_file))
    assert (caught.value.field, caught.value.value) == ("ollama.ca-file", str(ca_file))


def test_https_without_a_ca_file_trusts_the_system() -> None:
    context = tls_context(Target("ollama", "https://127.0.0.1:1"))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


# -- token -----------------------------------------------------------------------------------------


def test_a_token_is_sent_and_may_be_rotated_or_unreadable_for_a_moment(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("first\n")

    async def main() -> None:
        async with faultserver() as server:
            client = OllamaClient(Target("ollama", server.url, None, token_file), timeout=PATIENCE)
            await client.ps()
            token_file.write_text("second")
            await client.ps()
            token_file.unlink()
            await client.ps()
            token_file.write_text("third")
            await client.version()
            await client.aclose()
            sent = [asked.headers["authorization"] for asked in server.asked]
            assert sent == ["Bearer first", "Bearer second", "Bearer second", "Bearer third"]

    asyncio.run(main())


@pytest.mark.parametrize("content", [None, b"", b"two\nlines", b"\xc3\xa9", b"nul\0"])
def test_an_unusable_token_file_is_a_config_error_without_the_token(
    content: bytes | None, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    if content is not None:
        token_file.write_bytes(content)
    target = Target("ollama", "http://127.0.0.1:1", None, token_file)
    with pytest.raises(ConfigError) as caught:
        OllamaClient(target)
    assert (caught.value.field, caught.value.value) == ("ollama.token-file", str(token_file))


def test_a_poll_that_was_given_up_at_any_moment_ends_no_later_one() -> None:
    """A request cancelled while its connection was made kept its place in httpx's pool for ever."""

    async def main() -> None:
        async with faultserver(good) as server:
            for moment in range(80):
                client = OllamaClient(Target("test", server.url), timeout=PATIENCE)
                client._timeout = moment * 5e-5  # noqa: SLF001 - a busy machine, at that moment
                for _ in range(3):
                    with suppress(TargetError):
                        await client.ps()
                client._timeout = PATIENCE  # noqa: SLF001 - a calmer one
                await client.ps()
                await client.aclose()

    asyncio.run(main())


# -- hints -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "behaviour", "said"),
    [
        ("/v1", answer(b"", status="404 Not Found"), "root, http://127.0.0.1:{port}, without /v1"),
        ("/api", answer(b"", status="404 Not Found"), "without /v1 or /api"),
        ("", answer(b"", status="404 Not Found"), "HTTP status 404"),
        (
            "",
            answer(b"", status="301 Moved Permanently", headers="Location: https://u:p@new/\r\n"),
            "redirects to https://***@new/; set ollama.url to that server",
        ),
        (
            "",
            answer(b"", status="302 Found", headers="Location: https://u:p\u00a0q@new/\r\n"),
            "redirects to https://***@new/; set ollama.url",
        ),
        (
            "",
            answer(b"", status="302 Found", headers="Location: /\x01\r\n"),
            "is no URL; set ollama.url",
        ),
        ("", answer(b"", status="302 Found", headers="Location: //a:b@\x7f\r\n"), "is no URL; set"),
        ("", answer(b"", headers="Bad Field: x\r\n"), "not valid HTTP"),
        (
            "",
            answer(b"<html>", headers="Content-Type: text/html; charset=utf-8\r\n"),
            "a web page instead of JSON",
        ),
        ("", answer(b"\n<!DOCTYPE html><title>Log in</title>"), "a web page instead of JSON"),
        ("", answer(b"<html>", status="200 OK", headers="Content-Type: text/plain\r\n"), "login"),
        ("", answer(b"<html>Log in</html>", status="503 Busy"), "a web page instead of JSON"),
        ("", answer(b"", status="401 Unauthorized"), "it wants credentials"),
        ("", answer(b"404 page not found", status="404 Not Found"), "from before May 2024"),
        ("", answer(b"", status="508 Loop Detected"), "this exporter's own proxy"),
    ],
)
def test_what_usually_causes_an_answer_is_said(path: str, behaviour: Behaviour, said: str) -> None:
    async def main() -> None:
        async with faultserver() as server:
            server.behave = behaviour
            client = OllamaClient(Target("ollama", server.url + path), timeout=PATIENCE)
            with pytest.raises(TargetError) as caught:
                await client.ps()
            await client.aclose()
            assert said.format(port=server.port) in caught.value.detail

    asyncio.run(main())


# -- what a gateway asks for -----------------------------------------------------------------------


def test_every_request_carries_the_credentials_and_the_clients_certificate(
    authority: trustme.CA, tmp_path: Path
) -> None:
    ca, cert, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(str(ca))
    mine = authority.issue_cert("exporter.test")
    mine.cert_chain_pems[0].write_to_path(str(cert))
    mine.private_key_pem.write_to_path(str(key))
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    tls = served_by(authority, "gpu.test")
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED

    async def main() -> None:
        async with faultserver(tls=tls) as server:
            target = Target(
                "ollama",
                server.url,
                ca,
                basic_auth=BasicAuth("me", secret),
                headers=(HeaderField("X-Id", "1"), HeaderField("X-Secret", file=secret)),
                cert_file=cert,
                key_file=key,
                server_name="gpu.test",
            )
            client = OllamaClient(target, timeout=PATIENCE)
            acting = ControlClient(target, timeout=PATIENCE)
            await client.ps()
            await client.version()
            await acting.ps()
            with suppress(OllamaExporterError):
                await acting.stop("m", patience=5.0)
            await client.aclose()
            await acting.aclose()
            assert [asked.path for asked in server.asked][-1] == "/api/generate"
            for asked in server.asked:
                assert asked.headers["authorization"].startswith("Basic ")
                assert (asked.headers["x-id"], asked.headers["x-secret"]) == ("1", "hidden")

    asyncio.run(main())


def test_a_certificate_is_not_looked_at_when_told_so() -> None:
    async def main() -> None:
        async with faultserver(tls=served_by(trustme.CA(), "other.test")) as server:
            target = Target("ollama", server.url, insecure_skip_verify=True)
            client = OllamaClient(target, timeout=PATIENCE)
            await client.ps()
            await client.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("damage", ["missing", "fifo", "no certificate", "key alone"])
def test_an_unusable_client_certificate_is_a_config_error(damage: str, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    if damage == "fifo":
        os.mkfifo(cert)
    elif damage == "no certificate":
        cert.write_text("x")
    target = Target("ollama", "https://127.0.0.1:1", cert_file=cert, key_file=None)
    if damage == "key alone":
        target = Target("ollama", "https://127.0.0.1:1", key_file=key)
    with pytest.raises(ConfigError, match=r"ollama\.tls-"):
        tls_context(target)
