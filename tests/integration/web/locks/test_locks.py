# SPDX-License-Identifier: Apache-2.0
"""TLS, passwords, header fields and a rate limit on the exporter's own port, over real sockets."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import quote

import bcrypt
import httpx
import pytest
import trustme
from click.testing import CliRunner
from starlette.applications import Starlette

from ollama_exporter.bounded_client import Credentials
from ollama_exporter.cli.announce import Announcer
from ollama_exporter.cli.main import cli
from ollama_exporter.metrics.collectors.exporter_collector import ExporterCollector, LogCounter
from ollama_exporter.net import listen
from ollama_exporter.simulator.simulator import Simulator
from ollama_exporter.web.locks.locks import Locks
from ollama_exporter.web.uvicorn_server import WebServer, server
from tests.support.exporting import Running, exporting, parsed, until
from tests.support.patience import PATIENCE
from tests.support.prometheus import prometheus, scraping

USER: Final = ("alice", "correct horse")
HASH: Final = bcrypt.hashpw(USER[1].encode(), bcrypt.gensalt(4)).decode()
AUTHORITY: Final = trustme.CA()
TLS: Final = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n"
USERS: Final = f"basic_auth_users: {{alice: {HASH}}}\n"


def write_certificate(folder: Path, *, lasts: timedelta = timedelta(days=30)) -> float:
    """Write a new certificate; return when it expires."""
    ends = (datetime.now(UTC) + lasts).replace(microsecond=0)
    issued = AUTHORITY.issue_cert("127.0.0.1", not_after=ends)
    issued.private_key_pem.write_to_path(folder / "server.key")
    (folder / "server.pem").write_bytes(b"".join(x.bytes() for x in issued.cert_chain_pems))
    AUTHORITY.cert_pem.write_to_path(folder / "ca.pem")
    return ends.timestamp()


def context_for(*, client: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """Return a client's context that trusts the authority."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    if client is not None:
        client.configure_cert(context)
    return context


@contextlib.asynccontextmanager
async def locked(folder: Path, text: str) -> AsyncIterator[Running]:
    """Run an exporter with this web configuration."""
    write_certificate(folder)
    (folder / "web.yml").write_text(text, "utf-8")
    async with (
        Simulator() as sim,
        exporting(sim.url, web_config_file=folder / "web.yml") as exporter,
    ):
        yield exporter


@contextlib.asynccontextmanager
async def visiting(
    exporter: Running, *, tls: ssl.SSLContext | None = None, login: tuple[str, str] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of the exporter."""
    scheme = "http" if tls is None else "https"
    auth = None if login is None else httpx.BasicAuth(*login)
    async with httpx.AsyncClient(
        base_url=f"{scheme}://{exporter.address}",
        verify=tls or False,
        auth=auth,
        trust_env=False,
        timeout=PATIENCE,
    ) as client:
        yield client


async def eventually(
    ask: Callable[[], Awaitable[httpx.Response]], wanted: Callable[[httpx.Response], bool]
) -> httpx.Response:
    """Ask until the answer is what is wanted: the files are read once a second."""
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = await ask()
            if wanted(answer):
                return answer
            await asyncio.sleep(0.05)


def test_a_scrape_needs_tls_and_a_login(tmp_path: Path) -> None:
    async def story() -> None:
        async with locked(tmp_path, TLS + USERS) as exporter:
            with pytest.raises(httpx.HTTPError):
                await exporter.http.get("/metrics")  # without TLS
            async with visiting(exporter, tls=context_for()) as stranger:
                answer = await stranger.get("/metrics")
                assert (answer.status_code, answer.text) == (401, "Unauthorized\n")
                assert answer.headers["www-authenticate"] == "Basic"
                for path in ("/", "/sd", "/-/reload", "/nothing"):
                    assert (await stranger.get(path)).status_code == 401
                for path in ("/-/healthy", "/-/ready"):
                    assert (await stranger.get(path)).status_code == 200
            for login in (("alice", "wrong"), ("eve", USER[1]), ("", "")):
                async with visiting(exporter, tls=context_for(), login=login) as client:
                    assert (await client.get("/metrics")).status_code == 401
            async with visiting(exporter, tls=context_for(), login=USER) as client:
                samples = parsed((await client.get("/metrics")).text)
                assert samples["ollama_exporter_logins_refused_total", ""] == 3
                assert samples["ollama_exporter_certificate_expiry_timestamp_seconds", ""] > 1.7e9
                targets = (await client.get("/sd")).json()
                assert targets[0]["labels"]["__scheme__"] == "https"
            text = " ".join(str(vars(record)) for record in exporter.log.records)
            assert USER[1] not in text
            assert HASH not in text

    asyncio.run(story())


def test_many_logins_at_once_do_not_delay_a_scrape(tmp_path: Path) -> None:
    slow = bcrypt.hashpw(b"x", bcrypt.gensalt(8)).decode()

    async def story() -> None:
        text = f"basic_auth_users: {{alice: {HASH}, slow: {slow}}}\n"
        async with locked(tmp_path, text) as exporter, visiting(exporter, login=USER) as client:
            assert (await client.get("/metrics")).status_code == 200
            ended = list[int]()

            async def login(number: int) -> None:
                password = "x" if number % 2 else f"wrong {number}"
                # Of more connections than may be open, the one that is idle for longest is closed.
                with contextlib.suppress(httpx.RemoteProtocolError):
                    async with visiting(exporter, login=("slow", password)) as other:
                        ended.append((await other.get("/metrics")).status_code)

            logins = [asyncio.create_task(login(number)) for number in range(300)]
            await until(lambda: len(ended) > 3)
            assert (await client.get("/metrics")).status_code == 200
            assert len(ended) < 300  # the scrape did not wait for them
            await asyncio.gather(*logins)
            # More than fifty at once may be told to come again.
            assert set(ended) <= {200, 401, 503}
            assert ended.count(200) > 0
            assert ended.count(401) > 0

    asyncio.run(story())


def test_header_fields_and_a_rate_limit(tmp_path: Path) -> None:
    text = """
http_server_config:
  headers: {X-Frame-Options: deny, Strict-Transport-Security: max-age=1}
rate_limit: {interval: 1h, burst: 3}
"""

    async def story() -> None:
        async with locked(tmp_path, text) as exporter, visiting(exporter) as client:
            answers = [await client.get("/metrics") for _ in range(5)]
            assert [each.status_code for each in answers] == [200, 200, 200, 429, 429]
            assert all(each.headers["x-frame-options"] == "deny" for each in answers)
            assert all(each.headers["strict-transport-security"] == "max-age=1" for each in answers)
            (tmp_path / "web.yml").write_text("", "utf-8")
            answer = await eventually(
                lambda: client.get("/metrics"), lambda found: found.status_code != 429
            )
            samples = parsed(answer.text)
            assert samples["ollama_exporter_requests_limited_total", ""] >= 2
            assert "x-frame-options" not in answer.headers

    asyncio.run(story())


@pytest.mark.parametrize(
    ("name", "allowed"), [("prometheus.test", True), ("other.test", False), (None, False)]
)
def test_clients_show_a_certificate(name: str | None, tmp_path: Path, *, allowed: bool) -> None:
    text = (
        "tls_server_config: {cert_file: server.pem, key_file: server.key, client_ca_file: ca.pem,"
        " client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [prometheus.test]}\n"
    )

    async def story() -> None:
        async with locked(tmp_path, text) as exporter:
            leaf = None if name is None else AUTHORITY.issue_cert(name)
            async with visiting(exporter, tls=context_for(client=leaf)) as client:
                if allowed:
                    assert (await client.get("/metrics")).status_code == 200
                else:
                    with pytest.raises(httpx.HTTPError):
                        await client.get("/metrics")

    asyncio.run(story())


def test_commands_pass_the_locks(tmp_path: Path) -> None:
    text = (
        "tls_server_config: {cert_file: server.pem, key_file: server.key, client_ca_file: ca.pem,"
        f" client_auth_type: RequireAndVerifyClientCert}}\n{USERS}"
    )
    AUTHORITY.issue_cert("commands").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "client.pem"
    )
    files = ["--ca-file", str(tmp_path / "ca.pem"), "--cert-file", str(tmp_path / "client.pem")]

    async def story() -> None:
        async with locked(tmp_path, text) as exporter:
            login = ":".join(map(quote, USER))
            url = f"https://{login}@{exporter.address}"

            async def run(*command: str) -> str:
                return (await asyncio.to_thread(CliRunner().invoke, cli, command)).output

            assert '"models"' in await run("top", "--url", url, "--json", *files)
            assert "No model has been resident yet" in await run("advise", url, *files)
            said = await run("advise", url)
            assert said.endswith("Name the authority of its certificate with --ca-file.\n")
            assert USER[1] not in said
            assert "--cert-file" in await run("advise", url, *files[:2])
            credentials = Credentials(
                ca_file=tmp_path / "ca.pem", cert_file=tmp_path / "client.pem"
            )
            server = next(vars(x)["url"] for x in exporter.log.records if "url" in vars(x))
            announcer = Announcer(url, server, credentials, timeout=PATIENCE)
            async with announcer.announced({"model": "m"}, 1.0):
                assert announcer.is_heard

    asyncio.run(story())


def test_a_stranger_to_the_authority_is_refused(tmp_path: Path) -> None:
    text = (
        "tls_server_config: {cert_file: server.pem, key_file: server.key, client_ca_file: ca.pem,"
        " client_auth_type: VerifyClientCertIfGiven}\n"
    )

    async def story() -> None:
        async with locked(tmp_path, text) as exporter:
            async with visiting(exporter, tls=context_for()) as client:
                assert (await client.get("/metrics")).status_code == 200
            forged = trustme.CA().issue_cert("prometheus.test")
            async with visiting(exporter, tls=context_for(client=forged)) as client:
                with pytest.raises(httpx.HTTPError):
                    await client.get("/metrics")

    asyncio.run(story())


def test_old_versions_of_tls_are_refused(tmp_path: Path) -> None:
    async def story() -> None:
        text = TLS.replace("}", ", min_version: TLS13}")
        async with locked(tmp_path, text) as exporter:
            context = context_for()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            async with visiting(exporter, tls=context) as client:
                with pytest.raises(httpx.ConnectError):
                    await client.get("/metrics")
            async with visiting(exporter, tls=context_for()) as client:
                assert (await client.get("/metrics")).status_code == 200

    asyncio.run(story())


def test_certificate_and_users_follow_their_files(tmp_path: Path) -> None:
    expiry = ("ollama_exporter_certificate_expiry_timestamp_seconds", "")

    async def story() -> None:
        async with locked(tmp_path, TLS + USERS) as exporter:

            async def scrape() -> httpx.Response:
                async with visiting(exporter, tls=context_for(), login=USER) as client:
                    return await client.get("/metrics")

            assert (await scrape()).status_code == 200
            ends = write_certificate(tmp_path, lasts=timedelta(days=99))
            await eventually(scrape, lambda found: parsed(found.text)[expiry] == ends)
            (tmp_path / "web.yml").write_text(TLS + USERS.replace("alice", "bob"), "utf-8")
            await eventually(scrape, lambda found: found.status_code == 401)
            (tmp_path / "web.yml").write_text("nonsense: 1\n", "utf-8")
            await until(lambda: exporter.log.count("Credential file cannot be used") == 1)
            assert (await scrape()).status_code == 401  # the old locks, not none

    asyncio.run(story())


def test_prometheus_scrapes_through_the_locks(tmp_path: Path) -> None:
    async def story() -> None:
        async with locked(tmp_path, TLS + USERS) as exporter:
            config = scraping({"ollama": [exporter.address]})
            config["scrape_configs"][0] |= {
                "scheme": "https",
                "tls_config": {"ca_file": str(tmp_path / "ca.pem")},
                "basic_auth": {"username": USER[0], "password": USER[1]},
            }
            async with prometheus(tmp_path / "prometheus", config) as prom:
                assert await prom.until("ollama_up == 1")

    asyncio.run(story())


def test_a_handshake_that_does_not_come_is_ended(tmp_path: Path) -> None:
    class Hasty(WebServer):
        handshake = 0.1

    async def story() -> None:
        write_certificate(tmp_path)
        (tmp_path / "web.yml").write_text(TLS)
        metrics = ExporterCollector(log_lines=LogCounter())
        locks = Locks(tmp_path / "web.yml", metrics=metrics, now=lambda: 0.0)
        (listening,) = listen(("127.0.0.1:0",), field="web.listen-address")
        web = server(Starlette(), locks=locks, made=Hasty)
        serving = asyncio.create_task(web.serve(sockets=[listening]))
        try:
            async with asyncio.timeout(PATIENCE):
                for sent in (b"", b"\x16\x03\x01"):
                    reader, writer = await asyncio.open_connection(*listening.getsockname())
                    writer.write(sent)
                    with contextlib.suppress(ConnectionResetError):
                        assert await reader.read() == b""
                    writer.close()
        finally:
            web.should_exit = True
            await serving

    asyncio.run(story())
