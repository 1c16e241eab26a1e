# SPDX-License-Identifier: Apache-2.0
"""Several servers over minutes of virtual time. None of them answers."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ollama_exporter.clock import Timeline
from ollama_exporter.config.schema import Settings
from ollama_exporter.errors import ConfigError, ProbeRefusedError
from ollama_exporter.fleet.checked_address import NameResolver
from ollama_exporter.fleet.target_client import SharedByTargets
from ollama_exporter.fleet.target_section import targets
from ollama_exporter.metrics.collectors.exporter_collector import ExporterCollector, LogCounter
from ollama_exporter.watched_fleet import FORGOTTEN, PERIOD, SAVE_ALL, WatchedFleet
from tests.support.faultserver import closed_port
from tests.support.patience import PATIENCE
from tests.support.virtual import now, run_virtually
from tests.support.virtual_ollama import clock


def nobody() -> str:
    """Return the URL of a server that refuses."""
    return f"http://127.0.0.1:{closed_port()}"


def files(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def unresolved(_host: str, _port: int) -> list[str]:
    raise OSError(-2, "Name or service not known")


def watching(
    check: Callable[[WatchedFleet, Settings], Awaitable[None]], **settings: Any
) -> ExporterCollector:
    """Run a fleet in virtual time; return what it counts."""
    exporter = ExporterCollector(log_lines=LogCounter())

    async def main() -> None:
        given = replace(Settings(poll_interval=15.0), **settings)
        fleet = WatchedFleet(
            given,
            exporter,
            Timeline(wall=clock, monotonic=now),
            clients=SharedByTargets(PATIENCE, resolver=NameResolver(unresolved)),
        )
        task = asyncio.create_task(fleet.run())
        await asyncio.sleep(1.0)
        try:
            await check(fleet, given)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    run_virtually(main())
    return exporter


def test_a_probed_url_is_polled_until_nobody_has_asked_for_it_for_a_while() -> None:
    async def check(fleet: WatchedFleet, _: Settings) -> None:
        found = await fleet.find(nobody())
        await asyncio.sleep(FORGOTTEN - 2 * PERIOD)
        assert await fleet.find(nobody()) is found
        polls = found.published().server.polls
        assert polls > 10
        await asyncio.sleep(FORGOTTEN - 2 * PERIOD)
        assert found.published().server.polls > polls
        await asyncio.sleep(4 * PERIOD)
        assert await fleet.find(nobody()) is not found
        with pytest.raises(ProbeRefusedError, match="the host cannot be resolved"):
            await fleet.find("http://gpu.test:11434")

    watching(check, probe_allow=("127.0.0.0/8:*", "gpu.test:*"))


def test_the_states_of_all_targets_are_written_in_turn(tmp_path: Path) -> None:
    async def check(_fleet: WatchedFleet, _settings: Settings) -> None:
        assert files(tmp_path) == []
        await asyncio.sleep(SAVE_ALL + PERIOD)
        assert files(tmp_path) == ["state.a", "state.b"]

    watching(
        check,
        targets=targets("targets", {"a": nobody(), "b": nobody()}),
        state_file=tmp_path / "state",
    )


def test_a_target_whose_file_was_damaged_since_it_was_checked_costs_the_others_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = {"url": nobody(), "bearer-token-file": str(tmp_path / "none")}

    async def check(fleet: WatchedFleet, settings: Settings) -> None:
        changed = replace(settings, targets=targets("targets", {"b": damaged, "c": nobody()}))
        with pytest.raises(ConfigError, match=r"targets\.b\.bearer-token-file"):
            fleet.check(changed)
        await fleet.apply(changed)
        assert [name for name, _ in fleet.rows()] == ["c"]

    watching(check, targets=targets("targets", {"a": nobody()}))
    said = [x for x in caplog.records if x.getMessage() == "Target cannot be watched"]
    assert [vars(record)["target"] for record in said] == ["b"]


def test_a_name_that_a_file_has_is_refused_in_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"a: {nobody()}\n", "utf-8")

    async def check(fleet: WatchedFleet, settings: Settings) -> None:
        with pytest.raises(ConfigError, match=r"targets: .*a\.yaml"):
            fleet.check(replace(settings, targets=targets("targets", {"a": nobody()})))
        assert (fleet.count, fleet.files_rejected) == (1, 0)

    watching(check, targets_dir=tmp_path)
