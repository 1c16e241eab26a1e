# SPDX-License-Identifier: Apache-2.0
"""The exporter beside simulated runners that answer on ports of their own."""

import asyncio
import platform
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from ollama_exporter.actions.warm.load_estimates import loads_in_progress
from ollama_exporter.bounded_client import BoundedClient
from ollama_exporter.simulator.model_files import default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Generation, Host
from ollama_exporter.simulator.workload_client import ask
from ollama_exporter.story.document import STATUS
from tests.support.exporting import Running, Samples, exporting
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="real processes need Linux")
MODEL: Final = "model=mistral:latest"
PROMPT: Final = "a prompt that nobody else may read"
TOKENS: Final = 60
PATHS: Final = ("/metrics", "/", "/sd", STATUS)


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


@asynccontextmanager
async def scene(
    *, generation: Generation = "new", endpoint_metrics: bool = True, **changes: Any
) -> AsyncIterator[tuple[Simulator, Running]]:
    host = Host(
        generation=generation,
        parallel=2,
        endpoint_metrics=endpoint_metrics,
        slots_debug=True,
        recovery=0.1,
        convergence=0.1,
    )
    catalogue = default_catalogue().compressed(300.0)
    config = Config(host=host, catalogue=catalogue, processes=True)
    async with Simulator(config) as sim, exporting(sim.url, **changes) as exporter:
        await exporter.until(lambda s: ("ollama_server_start_time_seconds", "") in s)
        yield sim, exporter


async def chat(sim: Simulator, url: str = "") -> None:
    body = {"model": "mistral", "prompt": f"{PROMPT} [[n={TOKENS} tps=100 ttft=0]]"}
    reply = await ask(url or sim.url, "/api/generate", body, patience=PATIENCE)
    assert reply.error is None


def test_slots_and_exact_counters_of_simulated_runners_are_on_metrics() -> None:
    async def story() -> None:
        async with scene() as (sim, exporter):
            begun = time.time()
            await asyncio.gather(chat(sim), chat(sim))
            samples = await exporter.until(  # counters are asked for after the slots
                lambda s: (
                    s["ollama_runner_generated_tokens_total", MODEL] == 2 * TOKENS
                    and s["ollama_model_slots_busy", MODEL] == 0
                )
            )
            assert samples["ollama_model_slots", MODEL] == 2.0
            assert samples["ollama_model_slot_context_tokens", MODEL] == 32768.0
            prompts = 2 * (len(PROMPT.split()) + 3)
            read = samples["ollama_runner_prompt_tokens_total", MODEL]
            assert read + samples["ollama_runner_cached_prompt_tokens_total", MODEL] == prompts
            assert samples["ollama_model_prompt_cache_tokens", MODEL] > TOKENS
            used = samples["ollama_model_last_use_timestamp_seconds", MODEL]  # without a proxy
            assert begun - 1.0 < used <= time.time()  # ticks of a kernel are coarse
            assert exporter.log.count("Runner found") == 1
            whole = (await exporter.http.get("/metrics")).text
            assert PROMPT not in whole
            assert PROMPT not in repr([record.__dict__ for record in exporter.log.records])
            found = sim.server.library.find("mistral")
            assert found is not None
            assert sim.server.engine.crash(found[1].file.weights)  # the next runner starts at 0
            await chat(sim)
            await exporter.until(
                lambda s: s["ollama_runner_generated_tokens_total", MODEL] == 3 * TOKENS
            )

    run(story)


@pytest.mark.parametrize("where", ["past the proxy", "through the proxy"])
def test_no_prompt_that_a_runner_shows_is_written_anywhere(where: str, tmp_path: Path) -> None:
    """The runner's answers hold prompts; log, metrics, pages and state file do not."""
    written: list[str] = []

    async def story() -> None:
        state = tmp_path / "state.json"
        proxied = where == "through the proxy"
        proxy: dict[str, Any] = {}
        if proxied:
            proxy = {"proxy_addresses": ("127.0.0.1:0",), "proxy_access_log": True}
        async with scene(state_file=state, **proxy) as (sim, exporter):
            url = sim.url
            if proxied:
                said = [r for r in exporter.log.records if r.getMessage() == "Proxy listening on"]
                url = f"http://{vars(said[0])['address']}"
            await chat(sim, url)
            await exporter.until(lambda s: s["ollama_model_prompt_cache_tokens", MODEL] > TOKENS)
            written.extend([(await exporter.http.get(path)).text for path in PATHS])
            log = exporter.log.records
        written.extend(repr(record.__dict__) for record in log)

    run(story)
    written.extend(file.read_text("utf-8") for file in tmp_path.iterdir())
    assert [text for text in written if PROMPT in text] == []
    assert any("ollama_model_prompt_cache_tokens" in text for text in written)
    assert any("mistral:latest" in file.read_text("utf-8") for file in tmp_path.iterdir())


def test_how_far_a_load_is_grows_and_vanishes_when_the_load_ends() -> None:
    """The load would take 19 s; its client leaves as soon as enough was seen."""

    async def story() -> None:
        catalogue = default_catalogue().compressed(4.0)
        config = Config(catalogue=catalogue, processes=True, reads_weights=True)
        async with Simulator(config) as sim, exporting(sim.url) as exporter:
            await exporter.until(lambda s: ("ollama_server_start_time_seconds", "") in s)
            await exporter.until(lambda s: ("ollama_models_installed", "") in s)
            body = {"model": "gemma2:27b", "prompt": "[[n=1]]"}
            asking = asyncio.create_task(ask(sim.url, "/api/generate", body, patience=PATIENCE))
            labels, seen = "model=gemma2:27b", list[float]()
            name = "ollama_model_load_progress_ratio"
            for _ in range(3):
                samples = await exporter.until(lambda s: s[name, labels] not in seen)
                seen.append(samples[name, labels])
            assert seen == sorted(seen)
            assert all(0 <= share <= 1 for share in seen)
            url = f"http://{exporter.address}/metrics"
            found = await asyncio.to_thread(
                loads_in_progress, BoundedClient(), url, ["gemma2:27b", "mistral"]
            )
            assert found is not None
            assert seen[-1] <= found["gemma2:27b"] <= 1
            asking.cancel()
            await exporter.until(lambda s: (name, labels) not in s)

    run(story)


@pytest.mark.parametrize(
    ("scenery", "wanted", "absent"),
    [
        ({"endpoint_metrics": False}, "ollama_model_slots", "ollama_runner_prompt_tokens_total"),
        ({"generation": "old"}, "ollama_model_runner_up", "ollama_model_slots"),
        ({"collector_runner": "off"}, "ollama_model_runner_up", "ollama_model_slots"),
    ],
    ids=["no counters", "before 0.30", "switched off"],
)
def test_what_a_runner_does_not_offer_is_absent(
    scenery: dict[str, Any], wanted: str, absent: str
) -> None:
    async def story() -> None:
        async with scene(**scenery) as (sim, exporter):
            await chat(sim)
            samples: Samples = await exporter.until(lambda s: (wanted, MODEL) in s)
            assert (absent, MODEL) not in samples

    run(story)
