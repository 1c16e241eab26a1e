# SPDX-License-Identifier: Apache-2.0
"""The exporter beside a simulated server whose runners are processes, over real sockets."""

import asyncio
import os
import platform
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from ollama_exporter.residency.events import Loaded, Measured, Reason, Restarted, Unloaded
from ollama_exporter.residency.evidence.matching import WIDE
from ollama_exporter.simulator.model_files import default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Generation, Host
from ollama_exporter.simulator.workload_client import ask
from tests.support.exporting import Running, Samples, exporting, until
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="real processes need Linux")
SPEED: Final = 30.0  # loads take half a second to a second
SLOW_POLLS: Final = 4.0  # seconds between two polls: most is known sooner, by processes
MODEL: Final = "model=mistral:latest"


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


@asynccontextmanager
async def scene(
    generation: Generation = "new", **changes: Any
) -> AsyncIterator[tuple[Simulator, Running]]:
    """Yield a simulated server with processes, and an exporter that sees them."""
    config = Config(
        host=replace(Host(), generation=generation, recovery=0.3, convergence=0.1),
        catalogue=default_catalogue().compressed(SPEED),
        processes=True,
    )
    wanted = {"poll_interval": SLOW_POLLS} | changes
    async with Simulator(config) as sim, exporting(sim.url, **wanted) as exporter:
        await until(lambda: exporter.log.count("Watching processes"))
        await exporter.until(lambda s: value(s, "ollama_server_start_time_seconds") is not None)
        await asyncio.sleep(1.2)  # names are being asked for
        yield sim, exporter


def value(samples: Samples, name: str, labels: str = "") -> float | None:
    return samples.get((name, labels))


async def load(sim: Simulator, model: str = "mistral", **more: Any) -> None:
    body = {"model": model, "prompt": "Hello [[n=2 tps=100]]"} | more
    reply = await ask(sim.url, "/api/generate", body, patience=PATIENCE)
    assert reply.error is None


def kill(sim: Simulator, model: str = "mistral:latest") -> None:
    found = sim.server.library.find(model)
    assert found is not None
    assert sim.server.engine.crash(found[1].file.weights)


def unloads(exporter: Running) -> list[tuple[str, Reason]]:
    return [(x.model.name, x.reason) for x in exporter.events if isinstance(x, Unloaded)]


def assert_measured(load: Loaded) -> None:
    """Check that its process has measured it, unless a busy machine polled too late for that."""
    late = load.not_after - load.not_before > WIDE
    assert load.measured is (None if late and load.measured is None else Measured.PROCESS)
    if load.load_seconds is not None:
        assert load.load_seconds > 0.1  # a process that is born late lives shorter than the load


@pytest.mark.parametrize("generation", ["new", "old"])
def test_a_load_is_seen_while_it_goes_on_and_measured(generation: Generation) -> None:
    async def story() -> None:
        async with scene(generation) as (sim, exporter):
            begun = time.time()
            loading = asyncio.create_task(load(sim, "gemma2:27b"))  # 2.5 s
            labels = "model=gemma2:27b"
            if generation == "new":
                samples = await exporter.until(
                    lambda s: value(s, "ollama_model_loading", labels) == 1.0
                )
                since = value(samples, "ollama_model_load_started_timestamp_seconds", labels)
                assert since is not None
                assert begun - 1.0 < since <= time.time()  # ticks of a kernel are coarse
                assert value(samples, "ollama_model_loaded", labels) in (None, 0.0)
            await loading
            samples = await exporter.until(
                lambda s: value(s, "ollama_model_runner_up", labels) == 1.0
            )
            assert value(samples, "ollama_model_loading", labels) == 0.0
            assert value(samples, "ollama_model_load_started_timestamp_seconds", labels) is None
            assert (value(samples, "ollama_runner_resident_memory_bytes", labels) or 0) > 2**20
            assert value(samples, "ollama_runner_cpu_seconds_total", labels) is not None
            (loaded,) = [x for x in exporter.events if isinstance(x, Loaded)]
            if generation == "new":
                assert_measured(loaded)
                counted = value(samples, "ollama_model_load_seconds_count", labels)
                assert (counted or 0.0) == (loaded.measured is not None)
                took = value(samples, "ollama_model_load_seconds_sum", labels) or 0
                assert took == (loaded.load_seconds or 0)
                assert took < time.time() - begun

    run(story)


def test_a_crash_is_known_while_the_model_is_still_listed() -> None:
    async def story() -> None:
        async with scene() as (sim, exporter):
            await load(sim)
            await exporter.until(lambda s: value(s, "ollama_model_runner_up", MODEL) == 1.0)
            kill(sim)
            samples = await exporter.until(
                lambda s: value(s, "ollama_model_runner_up", MODEL) == 0.0
            )
            assert value(samples, "ollama_model_loaded", MODEL) == 1.0
            async with asyncio.timeout(PATIENCE):  # others might have been condemned with it
                while not unloads(exporter):  # noqa: ASYNC110 - the next polls tell
                    await asyncio.sleep(0.05)
            assert unloads(exporter) == [("mistral:latest", Reason.CRASHED)]
            await load(sim)
            await exporter.until(lambda s: value(s, "ollama_model_runner_up", MODEL) == 1.0)
            assert unloads(exporter) == [("mistral:latest", Reason.CRASHED)]

    run(story)


def test_a_reload_between_two_polls_cannot_hide() -> None:
    async def story() -> None:
        async with scene() as (sim, exporter):
            await load(sim)
            await exporter.until(lambda s: value(s, "ollama_model_runner_up", MODEL) == 1.0)
            await load(sim, options={"num_gpu": 5})  # what is listed looks the same afterwards
            await exporter.until(lambda s: value(s, "ollama_model_loads_total", MODEL) == 2.0)
            await until(lambda: unloads(exporter))
            assert [name for name, _ in unloads(exporter)] == ["mistral:latest"]
            bounds = [x for x in exporter.events if isinstance(x, Unloaded)]
            width = bounds[0].not_after - bounds[0].not_before
            assert width < SLOW_POLLS / 2  # exact, not a poll wide

    run(story)


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGKILL"])
def test_a_restart_is_one_however_short(signal: Any) -> None:
    async def story() -> None:
        async with scene() as (sim, exporter):
            await load(sim)
            samples = await exporter.until(
                lambda s: value(s, "ollama_model_runner_up", MODEL) == 1.0
            )
            before = value(samples, "ollama_server_start_time_seconds")
            await sim.restart(signal=signal, down=0.0)
            await until(lambda: [x for x in exporter.events if isinstance(x, Restarted)])
            await until(lambda: unloads(exporter))
            assert unloads(exporter) == [("mistral:latest", Reason.SERVER_RESTARTED)]
            samples = await exporter.until(
                lambda s: value(s, "ollama_server_start_time_seconds") not in (None, before)
            )
            assert (value(samples, "ollama_server_start_time_seconds") or 0) > (before or 0)
            assert value(samples, "ollama_restarts_total") == 1.0
            await load(sim)
            await exporter.until(lambda s: value(s, "ollama_model_runner_up", MODEL) == 1.0)

    run(story)


def test_an_eviction_is_known_by_who_is_born_next() -> None:
    async def story() -> None:
        async with scene(proxy_addresses=()) as (sim, exporter):
            await load(sim, "gemma2:27b")
            await exporter.until(
                lambda s: value(s, "ollama_model_runner_up", "model=gemma2:27b") == 1.0
            )
            await load(sim, "mistral")
            await exporter.until(lambda s: value(s, "ollama_model_runner_up", MODEL) == 1.0)
            for each in (x for x in exporter.events if isinstance(x, Loaded)):
                assert_measured(each)
            await until(lambda: unloads(exporter))
            assert unloads(exporter) == [("gemma2:27b", Reason.EVICTED)]

    run(story)


def test_switched_off_nothing_is_looked_for_and_the_log_says_so() -> None:
    async def story() -> None:
        config = Config(catalogue=default_catalogue().compressed(SPEED), processes=True)
        async with (
            Simulator(config) as sim,
            exporting(sim.url, collector_processes="off") as exporter,
        ):
            await load(sim)
            samples = await exporter.until(lambda s: value(s, "ollama_model_loaded", MODEL) == 1.0)
            (record,) = [
                r for r in exporter.log.records if r.getMessage() == "Not watching processes"
            ]
            assert vars(record)["why"] == "--collector.processes=off"
            for name in (
                "ollama_model_runner_up",
                "ollama_model_loading",
                "ollama_runner_cpu_seconds_total",
            ):
                assert value(samples, name, MODEL) is None
            assert value(samples, "ollama_server_start_time_seconds") is None

    run(story)


def test_where_no_server_is_to_be_seen_nothing_is_claimed() -> None:
    """As behind a tunnel, or in a container: the polls go on, the reason is said once."""

    async def story() -> None:
        config = Config(catalogue=default_catalogue().compressed(SPEED))
        async with Simulator(config) as sim, exporting(sim.url) as exporter:
            await until(lambda: exporter.log.count("Not watching processes"))
            await load(sim)
            samples = await exporter.until(lambda s: value(s, "ollama_model_loaded", MODEL) == 1.0)
            assert value(samples, "ollama_model_runner_up", MODEL) is None
            assert value(samples, "ollama_model_loading", MODEL) is None
            assert exporter.log.count("Not watching processes") == 1

    run(story)


def test_the_log_is_followed_beside_the_polls(tmp_path: Path) -> None:
    async def story() -> None:
        log = tmp_path / "server.log"
        log.touch()
        async with Simulator() as sim, exporting(sim.url, ollama_log=str(log)) as exporter:
            await until(lambda: exporter.log.count("Following log"))
            with log.open("a", encoding="utf-8") as file:
                file.write('time=2026-11-23T20:03:49.426Z level=WARN source=x:1 msg="hm"\n')
                file.write("[GIN] 2026/11/23 - 20:03:43 | 200 |\n")
            samples = await exporter.until(
                lambda s: value(s, "ollama_log_lines_total", "level=other") == 1.0
            )
            assert value(samples, "ollama_log_lines_total", "level=warn") == 1.0
            assert value(samples, "ollama_log_lines_total", "level=debug") == 0.0
            assert value(samples, "ollama_log_contradictions_total") == 0.0

    run(story)


def test_a_load_that_a_request_measured_as_well_counts_once() -> None:
    async def story() -> None:
        async with scene(proxy_addresses=("127.0.0.1:0",)) as (_sim, exporter):
            proxied = next(
                r for r in exporter.log.records if r.getMessage() == "Proxy listening on"
            )
            url = f"http://{vars(proxied)['address']}"
            body = {"model": "mistral", "prompt": "Hello [[n=2 tps=100]]"}
            assert (await ask(url, "/api/generate", body, patience=PATIENCE)).error is None
            await exporter.until(
                lambda s: (
                    value(s, "ollama_cold_starts_total", MODEL) == 1.0
                    and value(s, "ollama_model_runner_up", MODEL) == 1.0
                )
            )
            await asyncio.sleep(0.3)
            samples = await exporter.samples()
            assert value(samples, "ollama_model_load_seconds_count", MODEL) == 1.0

    run(story)


def test_no_process_and_no_descriptor_is_left() -> None:
    async def story() -> None:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count
        async with scene() as (sim, exporter):
            pid = sim.pid
            await load(sim)
            await exporter.until(lambda s: value(s, "ollama_model_runner_up", MODEL) == 1.0)
        assert not os.path.exists(f"/proc/{pid}")  # noqa: PTH110, ASYNC240 - memory, not a disk
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before + 1)  # noqa: PTH208 - and that listing

    run(story)
