# SPDX-License-Identifier: Apache-2.0
"""A web configuration that cannot be read for too long closes the port."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final

import pytest
import trustme
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from ollama_exporter.watched_file import GRACE
from ollama_exporter.web.locks.admission import Admission
from ollama_exporter.web.locks.guard import Guard
from ollama_exporter.web.locks.locks import Locks, kinds_of_locks
from ollama_exporter.web.locks.web_config import parse_web_config
from tests.support.proxying import Clock

HASH: Final = "$2y$10$fI0d6NZtWyVgSG0hGL4Roe6ccFTtWDlKtqGLM6JyJ1ZAGjxGb5qwe"
PAIR: Final = {"cert": "certificate", "key": "key"}


class Counts:
    """What the locks count."""

    def __init__(self) -> None:
        self.refused = self.limited = self.failed = 0
        self.expires: float | None = None

    def login_refused(self) -> None:
        self.refused += 1

    def request_limited(self) -> None:
        self.limited += 1

    def certificate_expires(self, _setting: str, at: float | None) -> None:
        self.expires = at

    def file_failed(self, setting: str) -> None:
        assert setting == "web.config.file"
        self.failed += 1


def test_the_old_locks_stay_for_the_grace_and_then_nobody_comes_in(tmp_path: Path) -> None:
    clock, counts, file = Clock(), Counts(), tmp_path / "web.yml"
    file.write_text("http_server_config: {headers: {X-Frame-Options: deny}}", "utf-8")
    locks = Locks(file, metrics=counts, now=clock)
    client = TestClient(locks.guard(PlainTextResponse("secret")))
    assert client.get("/").headers["x-frame-options"] == "deny"
    file.unlink()
    asyncio.run(locks.refresh())
    assert client.get("/").headers["x-frame-options"] == "deny"
    clock.at += GRACE + 1
    asyncio.run(locks.refresh())
    answer = client.get("/")
    assert (answer.status_code, answer.text) == (503, "Service Unavailable\n")
    assert counts.failed == 2
    file.write_text("", "utf-8")
    asyncio.run(locks.refresh())
    assert client.get("/").text == "secret"


@pytest.mark.parametrize(
    "rest", ["", "# half\n", "basic_auth_users:\n", "rate_limit: {burst: 9}\n"]
)
def test_a_file_without_its_users_opens_nothing(tmp_path: Path, rest: str) -> None:
    clock, counts, file = Clock(), Counts(), tmp_path / "web.yml"
    users = f"basic_auth_users: {{alice: {HASH}}}\n"
    file.write_text(users, "utf-8")
    locks = Locks(file, metrics=counts, now=clock)
    client = TestClient(locks.guard(PlainTextResponse("secret")))
    file.write_text(rest, "utf-8")
    asyncio.run(locks.refresh())
    assert (client.get("/").status_code, counts.failed) == (401, 1)
    clock.at += GRACE + 1
    asyncio.run(locks.refresh())
    assert (client.get("/").status_code, counts.failed) == (503, 2)
    file.write_text(users.replace("alice", "bob"), "utf-8")
    asyncio.run(locks.refresh())
    assert client.get("/").status_code == 401


@pytest.mark.parametrize(
    ("mapping", "kinds"),
    [
        ({}, set()),
        ({"rate_limit": {"interval": "1s", "burst": 1}}, set()),
        ({"tls_server_config": PAIR}, set()),
        ({"basic_auth_users": {"alice": HASH}}, {"basic_auth_users"}),
        (
            {
                "tls_server_config": {
                    **PAIR,
                    "client_auth_type": "RequireAndVerifyClientCert",
                    "client_ca": "authority",
                    "client_allowed_sans": ["prometheus"],
                }
            },
            {"tls_server_config.client_auth_type", "tls_server_config.client_allowed_sans"},
        ),
    ],
)
def test_what_keeps_clients_out(
    tmp_path: Path, mapping: dict[object, object], kinds: set[str]
) -> None:
    assert kinds_of_locks(parse_web_config(mapping, directory=tmp_path)) == kinds


def test_locks_that_cannot_be_read_open_at_no_step() -> None:
    admission = Admission(lambda: None, metrics=Counts(), now=lambda: 0.0)
    assert (admission.has_users, admission.headers) == (True, ())
    sent = b"Basic " + base64.b64encode(b"alice:secret")
    for status in (
        admission.refusal(),
        admission.remembered(sent),
        asyncio.run(admission.login(sent)),
    ):
        assert status is HTTPStatus.SERVICE_UNAVAILABLE


def test_what_is_no_request_passes_the_guard() -> None:
    begun = []

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        begun.append(True)
        yield

    admission = Admission(lambda: None, metrics=Counts(), now=lambda: 0.0)
    with TestClient(Guard(Starlette(lifespan=lifespan), admission)) as client:
        assert begun == [True]
        assert client.get("/").status_code == 503


def test_tls_begins_with_a_restart_and_does_not_end_without_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    issued = trustme.CA().issue_cert("localhost")
    pem = tmp_path / "server.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(str(pem))
    with_tls, file = f"tls_server_config: {{cert_file: {pem}, key_file: {pem}}}", tmp_path / "w.yml"
    file.write_text("", "utf-8")
    clock, counts = Clock(), Counts()
    plain = Locks(file, metrics=counts, now=clock)
    file.write_text(with_tls, "utf-8")
    for _ in range(2):
        asyncio.run(plain.refresh())
    assert not plain.is_tls
    assert caplog.messages.count("TLS begins with the next restart") == 1
    secure = Locks(file, metrics=counts, now=clock)
    before = secure.context()
    assert before is not None
    for text in ("", "junk"):  # without TLS, and then of no use for too long
        file.write_text(text, "utf-8")
        asyncio.run(secure.refresh())
        clock.at += GRACE + 1
        asyncio.run(secure.refresh())
        assert (secure.is_tls, secure.context()) == (True, before)
    assert counts.failed >= 2
