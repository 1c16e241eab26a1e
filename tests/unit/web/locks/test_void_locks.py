# SPDX-License-Identifier: Apache-2.0
"""A web configuration that cannot be read for too long closes the port."""

import asyncio
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from ollama_exporter.watched_file import GRACE
from ollama_exporter.web.locks.locks import Locks
from tests.support.proxying import Clock


class Counts:
    """What the locks count."""

    def __init__(self) -> None:
        self.refused = self.limited = self.failed = 0
        self.expires: float | None = None

    def login_refused(self) -> None:
        self.refused += 1

    def request_limited(self) -> None:
        self.limited += 1

    def certificate_expires(self, at: float | None) -> None:
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
