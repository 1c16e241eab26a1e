# SPDX-License-Identifier: Apache-2.0
"""The proxy behind a web configuration file: logins, certificates, header fields, a rate limit."""

import asyncio
import base64
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import bcrypt
import pytest
import trustme

from ollama_exporter.config.schema import Settings
from ollama_exporter.errors import ConfigError
from ollama_exporter.metrics.collectors.exporter_collector import ExporterCollector, LogCounter
from ollama_exporter.shim.proxy.build import frontend_of, is_open_to_network
from ollama_exporter.shim.proxy.server import Frontend
from ollama_exporter.web.locks.admission import Admission
from ollama_exporter.web.locks.locks import Locks
from ollama_exporter.web.locks.passwords import Passwords
from ollama_exporter.web.locks.web_config import WebConfig
from tests.support.exporting import exporting, until
from tests.support.loops import Run
from tests.support.patience import PATIENCE
from tests.support.proxying import Proxied, limits_with, proxied, unchanged
from tests.support.rawserver import OK, Link, RawServer, answers, caller, rawserver
from tests.support.through import head

HASH: Final = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
USERS: Final = f"basic_auth_users: {{alice: {HASH}}}\n"
OPEN: Final = "sesame"
LIMITS: Final = limits_with(shutdown_timeout=0.3)
AUTHORITY: Final = trustme.CA()
POST: Final = b"POST /api/show HTTP/1.1\r\nHost: x\r\n%bContent-Length: 4\r\n\r\nbody"


def login(password: str) -> bytes:
    sent = base64.b64encode(f"alice:{password}".encode())
    return b"Authorization: Basic " + sent + b"\r\n"


def collector() -> ExporterCollector:
    return ExporterCollector(log_lines=LogCounter())


@asynccontextmanager
async def locked(
    folder: Path, text: str, *, token: str = "", any_host: bool = True
) -> AsyncIterator[tuple[RawServer, Proxied, Link]]:
    """Run a server that says ok, a proxy with this web configuration, and a client."""
    (folder / "web.yml").write_text(text)
    locks = Locks(folder / "web.yml", metrics=collector(), now=lambda: 0.0)
    own = unchanged(token) if token else None
    frontend = Frontend(locks=locks, token=own, any_host=any_host)
    async with (
        rawserver(answers(OK)) as server,
        proxied(server.url, frontend=frontend, limits=LIMITS) as proxy,
        caller(proxy.port) as client,
    ):
        yield server, proxy, client


def test_a_password_opens_and_is_not_passed_on(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with locked(tmp_path, USERS, any_host=False) as (server, _, client):
            for _ in range(2):  # checked, then remembered
                assert (await client.ask(POST % login("right"))).body == b"ok"
            assert [request.body for request in server.requests()] == [b"body", b"body"]
            assert not any(request.all(b"authorization") for request in server.requests())

    run(main())


@pytest.mark.parametrize("sent", [b"", login("wrong"), b"Authorization: Bearer right\r\n"])
def test_anything_else_gets_a_challenge(run: Run, tmp_path: Path, sent: bytes) -> None:
    async def main() -> None:
        async with locked(tmp_path, USERS) as (server, proxy, client):
            answer = await client.ask(POST % sent)
            assert (answer.status, answer.all(b"www-authenticate")) == (401, [b"Basic"])
            assert not server.requests()
            assert [seen.code for seen in proxy.observations] in ([], [401])

    run(main())


def test_a_token_or_a_password_opens_where_both_are_asked_for(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with locked(tmp_path, USERS, token=OPEN) as (_, proxy, client):
            for sent in (b"Authorization: Bearer sesame\r\n", login("right")):
                assert (await client.ask(POST % sent)).status == 200
            async with caller(proxy.port) as other:
                answer = await other.ask(POST % b"")
            assert answer.all(b"www-authenticate") == [b"Bearer", b"Basic"]

    run(main())


class SlowPasswords:
    """Locks whose only user's password is checked when the test says so."""

    def __init__(self) -> None:
        self.go, config = threading.Event(), WebConfig(users={"alice": HASH})

        def check(password: bytes, _hashed: bytes) -> bool:
            assert self.go.wait(PATIENCE)
            return password == b"right"

        passwords = Passwords(check)
        self.admission = Admission(
            lambda: config, metrics=collector(), now=lambda: 0.0, passwords=passwords
        )

    def context(self) -> None:
        """Use no TLS."""

    def is_peer_allowed(self, _certificate: object) -> bool:
        """Allow all."""
        return True


def test_requests_behind_a_slow_check_keep_their_order_and_bodies(run: Run) -> None:
    async def main() -> None:
        locks = SlowPasswords()
        frontend = Frontend(locks=locks, any_host=True)
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, frontend=frontend, limits=LIMITS) as proxy,
            caller(proxy.port) as client,
            caller(proxy.port) as leaver,
            caller(proxy.port) as refused,
        ):
            first, second = POST % login("right"), POST % login("right")
            client.send(first[:-2])
            leaver.send(first)
            refused.send(POST % login("wrong") + second)
            await asyncio.sleep(0.01)
            client.send(first[-2:] + second)
            leaver.close()
            await until(lambda: proxy.proxy.connection_count == 2)
            assert not server.requests()
            locks.go.set()
            for _ in range(2):
                assert (await client.answer()).body == b"ok"
            assert (await refused.answer()).status == 401
            await refused.gone()
            assert [request.body for request in server.requests()] == [b"body"] * 2

    run(main())


def test_certificates_header_fields_and_the_rate_limit_hold(run: Run, tmp_path: Path) -> None:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = AUTHORITY.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    text = """
tls_server_config:
  cert_file: server.pem
  key_file: server.pem
  client_ca_file: ca.pem
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [friend]
http_server_config: {headers: {X-Frame-Options: deny, X-Content-Type-Options: nosniff}}
rate_limit: {interval: 1h, burst: 2}
"""

    async def connect(proxy: Proxied, name: str) -> Link:
        context = ssl.create_default_context()
        AUTHORITY.configure_trust(context)
        AUTHORITY.issue_cert(name).configure_cert(context)
        _, link = await asyncio.get_running_loop().create_connection(
            Link, "127.0.0.1", proxy.port, ssl=context, server_hostname="127.0.0.1"
        )
        return link

    async def main() -> None:
        async with locked(tmp_path, text) as (server, proxy, _):
            server.script = answers(head(2, b"x-frame-options: sameorigin\r\n") + b"ok")
            stranger = await connect(proxy, "stranger")
            stranger.send(POST % b"")
            await stranger.gone()
            assert not server.requests()
            client = await connect(proxy, "friend")
            for status in (200, 200, 429):
                answer = await client.ask(POST % b"")
                frame = [b"sameorigin"] if status == 200 else [b"deny"]
                assert (answer.status, answer.all(b"x-frame-options")) == (status, frame)
                assert answer.all(b"x-content-type-options") == [b"nosniff"]

    run(main())


def test_the_exporter_s_proxy_uses_the_file_and_counts(tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text(USERS)

    async def main() -> None:
        async with (
            rawserver(answers(OK)) as server,
            exporting(
                server.url,
                proxy_addresses=("127.0.0.1:0",),
                proxy_web_config_file=tmp_path / "web.yml",
            ) as exporter,
        ):
            line = next(r for r in exporter.log.records if r.getMessage() == "Proxy listening on")
            port = int(vars(line)["address"].rpartition(":")[2])
            async with caller(port) as client, caller(port) as other:
                assert (await client.ask(POST % login("wrong"))).status == 401
                assert (await other.ask(POST % login("right"))).status == 200
            refused = ("ollama_exporter_logins_refused_total", "")
            assert (await exporter.samples())[refused] == 1.0

    asyncio.run(main())


def test_two_certificates_for_one_port_are_an_error(tmp_path: Path) -> None:
    issued = AUTHORITY.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "s.pem")
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: s.pem, key_file: s.pem}\n")
    locks = Locks(tmp_path / "web.yml", metrics=collector(), now=lambda: 0.0)
    settings = Settings(proxy_tls_cert_file=tmp_path / "s.pem", proxy_addresses=("0.0.0.0:1",))
    with pytest.raises(ConfigError, match=r"unset, because proxy\.web-config-file"):
        frontend_of(settings, locks=locks)
    assert not locks.keeps_out
    assert is_open_to_network(settings)
    assert not is_open_to_network(settings, is_locked=True)
