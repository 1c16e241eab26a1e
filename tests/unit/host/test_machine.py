# SPDX-License-Identifier: Apache-2.0
"""What is looked at, by the settings."""

import asyncio
import errno
import logging
import platform
import time
from pathlib import Path

import pytest

from ollama_exporter.config.schema import Settings
from ollama_exporter.host.machine import Machine, process_reader, server_address, why_not_watched
from ollama_exporter.host.processes.find_server import ServerAddress
from ollama_exporter.host.processes.watcher import NOT_FOUND_YET
from ollama_exporter.protocol.wire import InstalledModel
from ollama_exporter.reporter import Reporter
from ollama_exporter.web.page.telling import sources
from tests.support.exporting import until
from tests.support.timelines import GivenTimeline


@pytest.mark.parametrize(
    ("url", "switch", "why"),
    [
        ("http://127.0.0.1:11434", "auto", ""),
        ("http://localhost:11434", "auto", ""),
        ("http://[::1]:11434", "auto", ""),
        ("http://gpu-box:11434", "auto", "not on loopback"),
        ("http://gpu-box:11434", "on", ""),
        ("http://127.0.0.1:11434", "off", "--collector.processes=off"),
    ],
)
def test_whether_processes_are_watched(url: str, switch: str, why: str) -> None:
    said = why_not_watched(Settings(ollama_url=url, collector_processes=switch))
    assert why in said
    assert bool(said) == bool(why)


@pytest.mark.parametrize(
    ("url", "there"),
    [
        ("http://127.0.0.1:11434", ServerAddress("127.0.0.1", 11434)),
        ("http://[::1]:1", ServerAddress("::1", 1)),
        ("https://localhost", ServerAddress("localhost", 443)),
        ("http://localhost:5/path", ServerAddress("localhost", 5)),
    ],
)
def test_where_the_polls_go(url: str, there: ServerAddress) -> None:
    assert server_address(Settings(ollama_url=url)) == there


def test_who_says_on_insists() -> None:
    assert server_address(Settings(collector_processes="on")).on_this_machine


def test_linux_is_read_by_files() -> None:
    assert process_reader(GivenTimeline()).slow == (platform.system() != "Linux")


class Fails:
    """A server whose answers meet a defect of ours."""

    async def tags(self) -> tuple[InstalledModel, ...]:
        raise RuntimeError("defect")

    async def show(self, name: str) -> str | None:
        raise RuntimeError(name)


def test_an_internal_error_is_counted_and_the_work_begins_again(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    counted: list[None] = []
    log = tmp_path / "server.log"
    log.touch()

    async def story() -> None:
        machine = Machine(
            Settings(collector_processes="off", ollama_log=str(log)),
            Fails(),
            reporter=Reporter(fact=_raise, error=lambda: counted.append(None)),
            timeline=GivenTimeline(time.time),
            up=lambda: True,
        )
        assert machine.usage(1) is None
        task = asyncio.create_task(machine.run())
        await until(lambda: "Following log" in caplog.text)
        with log.open("a", encoding="utf-8") as file:
            file.write('time=2026-11-23T20:03:49.426Z level=INFO source=x:1 msg="Listening on x"\n')
        await until(lambda: counted)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with caplog.at_level(logging.INFO):
        asyncio.run(story())
    assert "Failed to read local evidence" in caplog.text


@pytest.mark.parametrize(
    ("switch", "why", "line"),
    [
        ("off", "--collector.processes=off", "--collector.processes=on"),
        ("on", NOT_FOUND_YET, ""),
    ],
)
def test_the_page_says_why_processes_are_not_watched(switch: str, why: str, line: str) -> None:
    settings = Settings(collector_processes=switch)
    machine = Machine(
        settings,
        Fails(),
        reporter=Reporter(fact=_raise, error=lambda: None),
        timeline=GivenTimeline(time.time),
        up=lambda: True,
    )
    told = next(each for each in sources(settings, machine) if each.name == "Processes")
    assert not told.on
    assert why in told.detail
    assert told.line == line


def _raise(fact: object) -> None:
    raise RuntimeError(fact)


def test_where_no_more_files_may_be_opened_it_is_a_warning_and_no_defect(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    counted: list[None] = []
    log = tmp_path / "server.log"
    log.touch()

    def exhausted(_fact: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def story() -> None:
        machine = Machine(
            Settings(collector_processes="off", ollama_log=str(log)),
            Fails(),
            reporter=Reporter(fact=exhausted, error=lambda: counted.append(None)),
            timeline=GivenTimeline(time.time),
            up=lambda: True,
        )
        task = asyncio.create_task(machine.run())
        await until(lambda: "Following log" in caplog.text)
        with log.open("a", encoding="utf-8") as file:
            file.write('time=2026-11-23T20:03:49.426Z level=INFO source=x:1 msg="Listening on x"\n')
        await until(lambda: "Too many open files" in str([vars(r) for r in caplog.records]))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with caplog.at_level(logging.INFO):
        asyncio.run(story())
    assert counted == []
    assert "Traceback" not in caplog.text
