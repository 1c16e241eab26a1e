# SPDX-License-Identifier: Apache-2.0
"""Keep-warm on the virtual clock."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec import structs

from ollama_exporter.actions.defaults.defaults_section import Rule
from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm, WarmModel
from ollama_exporter.actions.keep_warm.weekly_schedule import schedule
from ollama_exporter.errors import RequestError
from ollama_exporter.protocol.wire import ModelDetails
from ollama_exporter.simulator.model_files import GIB
from ollama_exporter.simulator.state import Host, TrueReason
from ollama_exporter.state_file import StateFile
from tests.support.memory_file import MemoryFile
from tests.support.virtual import now, run_virtually
from tests.support.virtual_ollama import (
    HOST,
    SETTINGS,
    VirtualExporter,
    VirtualOllama,
    clock,
    virtual_exporter,
)

MISTRAL, QWEN = WarmModel("mistral:latest", 600.0), WarmModel("qwen2.5:7b", 600.0)
SMALL = replace(HOST, memory=7 * GIB)  # one of the two at a time
GEMMA = WarmModel("gemma2:27b", 600.0)
LABEL = "model=mistral:latest"
HELD = "ollama_warmup_held"
Check = Callable[[VirtualOllama, VirtualExporter], Awaitable[None]]


def kept(check: Check, keep_warm: KeepWarm, host: Host = HOST, **changes: Any) -> None:
    async def main() -> None:
        ollama = VirtualOllama(host)
        async with virtual_exporter(ollama, keep_warm=keep_warm, **changes) as exporter:
            await check(ollama, exporter)

    run_virtually(main())


def killed(
    meanwhile: Callable[[VirtualOllama], Awaitable[None]], keep_warm: KeepWarm, *, seconds: float
) -> None:
    """Kill an exporter that has loaded its model: the next one loads nothing for so long."""
    file = MemoryFile()

    async def main() -> None:
        ollama = VirtualOllama()
        async with virtual_exporter(ollama, keep_warm=keep_warm, state_file=file):
            await asyncio.sleep(35)
            file.dead = True
        await meanwhile(ollama)
        file.dead = False
        async with virtual_exporter(ollama, keep_warm=keep_warm, state_file=file):
            await asyncio.sleep(seconds)
            assert len(ollama.loads()) == 1

    run_virtually(main())


FAILURES: Final = [RequestError(500, "no"), ZeroDivisionError("a defect of ours")]


@pytest.mark.parametrize("failure", FAILURES, ids=["refused", "internal"])
def test_a_load_that_fails_is_tried_again_after_longer_and_longer_pauses(
    failure: Exception,
) -> None:
    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        ollama.failure = failure
        await asyncio.sleep(300)
        assert 2 <= len(exporter.warnings()) <= 5
        assert ollama.loads() == []
        ollama.failure = None
        await asyncio.sleep(900)
        assert len(ollama.loads()) == 1

    kept(check, KeepWarm((MISTRAL,)))


@pytest.mark.parametrize("failure", FAILURES, ids=["refused", "internal"])
def test_a_renewal_that_fails_is_tried_again(failure: Exception) -> None:
    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await asyncio.sleep(60)
        ollama.failure = failure
        await asyncio.sleep(400)
        assert set(exporter.warnings()) <= {"Renewal failed", "Unexpected error in keep-warm"}
        assert len(exporter.warnings()) >= 1
        ollama.failure = None
        await asyncio.sleep(600)
        assert len(ollama.loads()) == 1

    kept(check, KeepWarm((MISTRAL,)))


def held(exporter: VirtualExporter) -> set[str]:
    return {labels for name, labels in exporter.samples() if name == HELD}


def test_a_stop_is_not_undone_within_the_grace_time() -> None:
    """Promise 8."""

    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await asyncio.sleep(60)
        assert len(ollama.loads()) == 1
        await ollama.stop()
        await asyncio.sleep(1500)
        assert ollama.runner() is None
        assert held(exporter) <= {f"{LABEL},why={why}" for why in ("stopped", "unknown")}
        assert ollama.reasons() == [TrueReason.STOPPED]
        await asyncio.sleep(600)
        assert len(ollama.loads()) == 2

    kept(check, KeepWarm((MISTRAL,)))


@pytest.mark.parametrize("ends", ["restart", "stop"])
def test_a_load_of_ours_is_not_taken_for_what_evicted_a_stopped_model(ends: str) -> None:
    """Promise 8. Once the other model is gone again, nothing but the grace holds this one."""

    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await asyncio.sleep(60)
        await ollama.stop()
        exporter.reload(replace(exporter.settings, keep_warm=KeepWarm((MISTRAL, QWEN))))
        await asyncio.sleep(20)
        await (ollama.restart() if ends == "restart" else ollama.stop("qwen2.5:7b"))
        await asyncio.sleep(1500)
        assert len(ollama.loads("mistral")) == 1
        assert ollama.runner("qwen2.5:7b") is not None

    kept(check, KeepWarm((MISTRAL,)))


def test_two_that_do_not_fit_do_not_thrash_and_the_earlier_one_wins() -> None:
    """Promise 9."""

    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await asyncio.sleep(120)
        assert ollama.reasons() == [TrueReason.EVICTED]
        assert held(exporter) == {f"{LABEL},why=no_room"}
        await asyncio.sleep(5 * 3600)
        # the later one was not renewed, so it left, and made way
        assert ollama.reasons() == [TrueReason.EVICTED, TrueReason.EXPIRED]
        assert ollama.runner("mistral") is not None
        assert held(exporter) == {"model=qwen2.5:7b,why=no_room"}

    kept(check, KeepWarm((MISTRAL, QWEN)), SMALL)


def test_p11_a_dry_run_logs_all_that_it_would_do_once_and_does_nothing() -> None:
    """Promise 10."""

    async def main() -> None:
        ollama = VirtualOllama()
        await ollama.ask("llama3.2", keep_alive="5m")
        models = (MISTRAL, WarmModel("llama3.2:latest", 1200.0), QWEN)
        async with virtual_exporter(ollama, keep_warm=KeepWarm(models, dry_run=True)) as exporter:
            await asyncio.sleep(200)
            records = [vars(r) for r in exporter.log.records if "Dry run" in r.getMessage()]
            assert [(each["message"], each["model"]) for each in records] == [
                ("Dry run: model would be loaded", "mistral:latest"),
                ("Dry run: model would be loaded", "qwen2.5:7b"),
                ("Dry run: keep-alive would be renewed", "llama3.2:latest"),
            ]
            assert len(ollama.loads()) == 1

    run_virtually(main())


def test_outside_its_hours_a_model_is_neither_expected_nor_loaded() -> None:
    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await asyncio.sleep(600)
        assert ("ollama_model_expected", LABEL) not in exporter.samples()
        assert exporter.samples()["ollama_warmups_total", LABEL] == 0
        assert ollama.loads() == []

    never = schedule("s", "Mon 00:00-00:01 UTC")
    kept(check, KeepWarm((structs.replace(MISTRAL, schedule=never),)))


def test_a_load_that_fails_is_counted_and_repeated_after_a_back_off() -> None:
    async def main() -> None:
        ollama = VirtualOllama()
        ollama.engine.fail_next_load(TrueReason.CRASHED)
        async with virtual_exporter(ollama, keep_warm=KeepWarm((MISTRAL,))) as exporter:
            await asyncio.sleep(50)
            assert exporter.samples()["ollama_warmup_failures_total", LABEL] == 1
            assert held(exporter) == {f"{LABEL},why=backing_off"}
            assert exporter.log.count("Warm-up failed") == 1
            assert ollama.loads() == []
            await asyncio.sleep(60)
            assert len(ollama.loads()) == 1

    run_virtually(main())


def test_p2_a_client_with_a_shorter_keep_alive_does_not_make_the_model_leave() -> None:
    """Promise 7."""

    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await asyncio.sleep(60)
        for pause in (20, 6, 30, 7, 300, 6, 6):
            await ollama.ask(keep_alive="20s")
            await asyncio.sleep(pause)
        for _ in range(40):
            await ollama.ask(keep_alive="5m")
            await asyncio.sleep(170)
        assert len(ollama.loads()) == 1
        assert ollama.unloads() == []
        assert exporter.samples()["ollama_warmups_total", LABEL] == 1

    kept(check, KeepWarm((structs.replace(MISTRAL, keep_alive=7200.0),)))


def test_a_model_in_use_past_its_deadline_is_renewed_when_it_is_idle() -> None:
    """Promise 11."""

    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await asyncio.sleep(60)
        await ollama.ask(keep_alive="20s", prompt="[[n=100 tps=1]]")
        await asyncio.sleep(60)
        assert ollama.unloads() == []
        assert ollama.keep_alive() == 600
        assert exporter.log.count("Keep-alive renewed") == 1  # in use, it was not renewed

    kept(check, KeepWarm((MISTRAL,)))


def test_p14_a_load_of_another_model_does_not_hold_renewals_up() -> None:
    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await asyncio.sleep(60)
        ollama.slow_down("gemma2:27b", 300.0)
        await ollama.ask(keep_alive="60s")
        exporter.reload(replace(exporter.settings, keep_warm=KeepWarm((MISTRAL, GEMMA))))
        await asyncio.sleep(290)
        assert ollama.runner() is not None
        assert ollama.unloads() == []
        await asyncio.sleep(60)
        assert ollama.runner("gemma2:27b") is not None

    kept(check, KeepWarm((MISTRAL,)), replace(HOST, memory=80 * GIB))


def test_p14_a_reload_that_removes_a_held_model_while_the_server_is_down_shows_it_no_more() -> None:
    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await asyncio.sleep(60)
        await ollama.stop()
        await asyncio.sleep(60)
        assert len(held(exporter)) == 1
        ollama.up = False
        exporter.reload(replace(exporter.settings, keep_warm=KeepWarm()))
        assert held(exporter) == set()

    kept(check, KeepWarm((MISTRAL,)))


def test_p14_a_cloud_model_is_refused_in_words() -> None:
    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await asyncio.sleep(300)
        assert held(exporter) == {"model=gpt-oss:120b-cloud,why=remote"}
        samples = exporter.samples()
        assert samples["ollama_warmup_failures_total", "model=gpt-oss:120b-cloud"] == 0
        assert ollama.loads() == []

    kept(check, KeepWarm((WarmModel("gpt-oss:120b-cloud", 600.0),)))


def test_an_operators_spelling_is_matched_as_the_server_matches_it() -> None:
    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await asyncio.sleep(3000)
        assert len(ollama.loads()) == 1
        assert held(exporter) == set()
        assert ollama.unloads() == []

    kept(check, KeepWarm((WarmModel("MiStRaL:latest", 600.0),)))


@pytest.mark.parametrize("longer", ["2h", -1])
def test_a_longer_keep_alive_is_left_as_it_is(longer: str | int) -> None:
    """Promise 2. No listing shows it: the deadline comes near, the keep-alive is longer."""

    async def main() -> None:
        ollama = VirtualOllama()
        await ollama.ask(keep_alive=longer)
        before = ollama.keep_alive()
        await asyncio.sleep(6300)
        keep_warm = KeepWarm((structs.replace(MISTRAL, keep_alive=3600.0),))
        async with virtual_exporter(ollama, keep_warm=keep_warm) as exporter:
            await asyncio.sleep(20)
            assert ollama.keep_alive() == before
            left = ollama.left()
            assert left is not None
            assert left > 7100
            renewals = ("ollama_keep_alive_renewals_total", f"by=keep_warm,{LABEL}")
            assert exporter.samples()[renewals] == 0

    run_virtually(main())


@pytest.mark.parametrize("until_restart", [0.5, 5.0, 200.0, 1500.0])
@pytest.mark.parametrize("down", [0.0, 60.0])
def test_p6_a_stop_is_respected_across_a_restart(
    tmp_path: Path, until_restart: float, down: float
) -> None:
    """Promise 8."""

    async def main() -> None:
        ollama, keep_warm = VirtualOllama(), KeepWarm((MISTRAL,))
        file = StateFile(tmp_path / "state.json", url=SETTINGS.ollama_url)
        async with virtual_exporter(ollama, keep_warm=keep_warm, state_file=file):
            await asyncio.sleep(60)
            await ollama.stop()
            stopped = now()
            await asyncio.sleep(until_restart)
        await asyncio.sleep(down)
        async with virtual_exporter(ollama, keep_warm=keep_warm, state_file=file):
            await asyncio.sleep(stopped + keep_warm.grace - 10 - now())
            assert len(ollama.loads()) == 1
            await asyncio.sleep(600)
            assert len(ollama.loads()) == 2

    run_virtually(main())


def test_p6_a_stop_while_the_exporter_is_down_is_respected(tmp_path: Path) -> None:
    async def main() -> None:
        ollama, keep_warm = VirtualOllama(), KeepWarm((MISTRAL,))
        file = StateFile(tmp_path / "state.json", url=SETTINGS.ollama_url)
        async with virtual_exporter(ollama, keep_warm=keep_warm, state_file=file):
            await asyncio.sleep(60)
        await ollama.stop()
        await asyncio.sleep(20)
        async with virtual_exporter(ollama, keep_warm=keep_warm, state_file=file):
            await asyncio.sleep(1500)
            assert len(ollama.loads()) == 1

    run_virtually(main())


def test_p6_the_bound_the_back_off_and_conflicts_outlast_a_restart(tmp_path: Path) -> None:
    """Promise 9."""

    async def main() -> None:
        ollama, keep_warm = VirtualOllama(SMALL), KeepWarm((MISTRAL, QWEN), most_per_hour=2)
        file = StateFile(tmp_path / "state.json", url=SETTINGS.ollama_url)
        for _ in range(10):
            async with virtual_exporter(ollama, keep_warm=keep_warm, state_file=file):
                await asyncio.sleep(60)
        assert len(ollama.loads()) == 2
        assert ollama.reasons() == [TrueReason.EVICTED]

    run_virtually(main())


def test_a_stop_under_another_name_of_the_same_weights_is_a_stop() -> None:
    """Promise 8."""

    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        found = ollama.library.find("mistral")
        assert found is not None
        ollama.library.copy(found[1], "mine", clock())
        await ollama.ask("mine", keep_alive="1h")  # it is listed as `mine`
        await asyncio.sleep(60)
        exporter.reload(replace(exporter.settings, keep_warm=KeepWarm((MISTRAL,))))
        await asyncio.sleep(60)
        await ollama.stop("mine")
        await asyncio.sleep(1500)
        assert len(ollama.loads()) == 1

    kept(check, KeepWarm())


def test_p6_a_killed_exporter_has_not_forgotten_its_loads() -> None:
    """Promise 9."""
    killed(VirtualOllama.restart, KeepWarm((MISTRAL,), most_per_hour=1), seconds=1800)


@pytest.mark.parametrize("reuse_weights", [False, True])
def test_a_model_that_was_created_anew_is_not_reloaded_by_a_renewal(*, reuse_weights: bool) -> None:
    """Promise 1. With new weights it leaves at its deadline, and the new version is loaded."""

    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await asyncio.sleep(60)
        found = ollama.library.find("mistral")
        assert found is not None
        source = found[1]
        ollama.library.create("mistral", source, clock(), num_ctx=None, reuse_weights=reuse_weights)
        await asyncio.sleep(1200)
        assert exporter.warnings() == []
        assert exporter.samples()["ollama_warmups_total", LABEL] == len(ollama.loads())
        expected = [] if reuse_weights else [TrueReason.EXPIRED]
        assert ollama.reasons() == expected
        assert ollama.runner() is not None

    kept(check, KeepWarm((MISTRAL,)))


def test_a_stop_right_after_a_kill_is_respected() -> None:
    """Promise 8. The file is written as soon as the model is loaded, and says that it is."""
    killed(VirtualOllama.stop, KeepWarm((MISTRAL,)), seconds=1500)


def test_a_model_that_was_deleted_expires_without_a_word() -> None:
    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await asyncio.sleep(60)
        ollama.library.delete("mistral:latest")
        await asyncio.sleep(4000)
        assert exporter.warnings() == []
        assert ollama.reasons() == [TrueReason.EXPIRED]
        assert held(exporter) == {f"{LABEL},why=not_installed"}

    kept(check, KeepWarm((MISTRAL,)))


def test_names_are_resolved_when_they_are_installed_and_not_again_and_again() -> None:
    class Counting(VirtualOllama):
        asked = 0

        async def details(self, name: str) -> ModelDetails:
            self.asked += 1
            return await super().details(name)

    async def main() -> None:
        ollama = Counting()
        rules = (Rule("*", keep_alive=600.0),)
        async with virtual_exporter(ollama, keep_warm=KeepWarm((MISTRAL,)), defaults=rules):
            await asyncio.sleep(60)
            asked = ollama.asked
            await asyncio.sleep(3600)
            assert ollama.asked == asked

    run_virtually(main())
