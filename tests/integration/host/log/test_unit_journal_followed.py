# SPDX-License-Identifier: Apache-2.0
"""`--ollama.log=auto`: the journal of the server's unit. The journalctl is this test's own."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast

import pytest

from ollama_exporter.config.schema import Settings
from ollama_exporter.host.machine import Machine
from ollama_exporter.protocol.client import OllamaClient
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.facts import LogKind, LogSaid, ProcessStarted
from ollama_exporter.simulator.simulator import Config, Simulator
from tests.support.exporting import Records, same_logger, until
from tests.support.timelines import GivenTimeline

LINE: Final = 'time=2026-11-23T20:03:47Z level=INFO source=x.go:1 msg="Listening on [::]:1"'
FOUND: Final = "Found the log of the server"
NONE: Final = "Not following a log"


class Cgroups:
    """A folder like /proc, in which every process is in one control group."""

    def __init__(self, folder: Path, cgroup: str) -> None:
        self._folder, self._cgroup = folder, cgroup

    def add(self, pid: int) -> None:
        """Write the control group of a process."""
        place = self._folder / str(pid)
        place.mkdir(parents=True, exist_ok=True)
        (place / "cgroup").write_text(self._cgroup, encoding="utf-8")


@asynccontextmanager
async def machine(
    folder: Path, cgroup: str
) -> AsyncIterator[tuple[Machine, list[object], Records]]:
    told: list[object] = []
    groups = Cgroups(folder, cgroup)

    def on_fact(fact: object) -> None:
        told.append(fact)
        if isinstance(fact, ProcessStarted):
            groups.add(fact.pid)

    async with Simulator(Config(processes=True)) as sim:
        settings = Settings(ollama_url=sim.url, ollama_log="auto", collector_runner="off")
        client = OllamaClient(settings.target, timeout=5.0)
        with same_logger() as logger:
            log = Records()
            logger.setLevel("DEBUG")
            logger.addHandler(log)
            watched = Machine(
                settings,
                client,
                reporter=Reporter(fact=cast("Any", on_fact)),
                timeline=GivenTimeline(time.time),
                up=lambda: True,
                proc=str(folder),
            )
            task = asyncio.create_task(watched.run())
            try:
                yield watched, told, log
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await client.aclose()


def journalctl(folder: Path, script: str) -> None:
    program = folder / "journalctl"
    program.write_text(f'#!/bin/sh\necho "$@" > {folder}/arguments\n{script}\n', encoding="utf-8")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("cgroup", "argument"),
    [
        ("0::/system.slice/llm.service\n", "--unit=llm.service"),
        (
            "0::/user.slice/user-7.slice/user@7.service/app.slice/ollama.service\n",
            "--user-unit=ollama.service",
        ),
    ],
)
def test_the_journal_of_the_server_s_unit_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup: str, argument: str
) -> None:
    journalctl(tmp_path, f"/bin/sleep 0.7; echo '{LINE}'; exec /bin/sleep 60")
    monkeypatch.setenv("PATH", str(tmp_path))

    async def story() -> None:
        async with machine(tmp_path / "proc", cgroup) as (watched, told, log):
            await until(lambda: any(isinstance(fact, LogSaid) for fact in told))
            (said,) = [fact for fact in told if isinstance(fact, LogSaid)]
            assert said.kind is LogKind.SERVER_STARTED
            assert watched.log_understood is True
            assert log.count(FOUND) == 1
            assert log.count(NONE) == 0

    asyncio.run(story())
    assert (tmp_path / "arguments").read_text("utf-8").split()[-1] == argument


@pytest.mark.parametrize(
    ("cgroup", "program"),
    [("0::/system.slice/docker-1.scope\n", True), ("0::/system.slice/llm.service\n", False)],
)
def test_without_a_unit_or_journalctl_nothing_is_followed_and_said_once_and_calmly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup: str, *, program: bool
) -> None:
    if program:
        journalctl(tmp_path, "exit 9")
    monkeypatch.setenv("PATH", str(tmp_path))

    async def story() -> None:
        async with machine(tmp_path / "proc", cgroup) as (watched, _, log):
            await until(lambda: log.count(NONE))
            assert watched.log_lines is None
            assert all(record.levelname in ("DEBUG", "INFO") for record in log.records)

    asyncio.run(story())
    assert not (tmp_path / "arguments").exists()


def test_a_journal_that_may_not_be_read_is_said_without_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journalctl(tmp_path, "echo 'No journal files were opened: permission' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))

    async def story() -> None:
        group = "0::/system.slice/llm.service\n"
        async with machine(tmp_path / "proc", group) as (_, _, log):
            await until(lambda: log.count("Failed to follow log"))
            assert all(record.levelname in ("DEBUG", "INFO") for record in log.records)

    asyncio.run(story())
