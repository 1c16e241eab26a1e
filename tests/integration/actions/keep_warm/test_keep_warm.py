# SPDX-License-Identifier: Apache-2.0
"""Keep-warm on a running exporter and a simulated server."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm, WarmModel
from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Generation, Host, Load, Unload
from tests.support.exporting import Running, exporting
from tests.support.patience import PATIENCE

CATALOGUE = default_catalogue().compressed(200.0)  # loads of 75 to 375 ms
ROOMY = Host(memory=24 * GIB, recovery=0.1, convergence=0.05)
MISTRAL = "model=mistral:latest"


def section(*models: WarmModel, **changes: Any) -> KeepWarm:
    return KeepWarm(models, **changes)


def loads(sim: Simulator, name: str = "") -> list[Load]:
    return [x for x in sim.truth if isinstance(x, Load) and (not name or x.name == name)]


def unloads(sim: Simulator) -> list[Unload]:
    return [x for x in sim.truth if isinstance(x, Unload)]


def kept(
    check: Callable[[Simulator, Running, httpx.AsyncClient], Awaitable[None]],
    keep_warm: KeepWarm,
    host: Host = ROOMY,
    **changes: Any,
) -> None:
    async def main() -> None:
        config = Config(host=host, catalogue=CATALOGUE)
        async with (
            Simulator(config) as sim,
            httpx.AsyncClient(base_url=sim.url, trust_env=False, timeout=PATIENCE) as client,
            exporting(sim.url, keep_warm=keep_warm, **changes) as exporter,
        ):
            await check(sim, exporter, client)

    asyncio.run(main())


@pytest.mark.parametrize("generation", ["new", "old"])
def test_a_missing_model_is_warmed_counted_and_expected(generation: Generation) -> None:
    async def check(sim: Simulator, exporter: Running, _client: httpx.AsyncClient) -> None:
        samples = await exporter.until(lambda s: s.get(("ollama_warmups_total", MISTRAL)) == 1)
        samples = await exporter.until(lambda s: s["ollama_model_loaded", MISTRAL] == 1)
        assert samples["ollama_model_expected", MISTRAL] == 1
        assert samples["ollama_warmup_failures_total", MISTRAL] == 0
        assert samples["ollama_exporter_recorder_errors_total", ""] == 0
        (runner,) = sim.server.engine.listed()
        assert 590 < runner.expires_at - sim.server.clock() <= 600
        assert exporter.log.count("Model warmed") == 1
        assert len(loads(sim)) == 1

    kept(check, section(WarmModel("mistral:latest", 600.0)), replace(ROOMY, generation=generation))


@pytest.mark.parametrize("context", [None, 2048])
def test_a_renewal_reloads_nothing_and_only_lengthens(context: int | None) -> None:
    """The trap: an empty request without the runner's num_ctx loads it again."""

    async def check(sim: Simulator, exporter: Running, client: httpx.AsyncClient) -> None:
        samples = await exporter.until(
            lambda s: s.get(("ollama_keep_alive_renewals_total", f"by=keep_warm,{MISTRAL}")) == 1
        )
        assert samples["ollama_warmups_total", MISTRAL] == 0
        assert len(loads(sim)) == 1
        assert unloads(sim) == []
        (runner,) = sim.server.engine.listed()
        assert 3500 < runner.expires_at - sim.server.clock() <= 3600
        await client.post("/api/generate", json={"model": "mistral", "prompt": "[[n=1]]"} | options)
        assert len(loads(sim)) == 1  # clients' own options still fit

    options: dict[str, Any] = {} if context is None else {"options": {"num_ctx": context}}

    async def main() -> None:
        async with (
            Simulator(Config(host=ROOMY, catalogue=CATALOGUE)) as sim,
            httpx.AsyncClient(base_url=sim.url, trust_env=False, timeout=PATIENCE) as client,
        ):
            body = {"model": "mistral", "prompt": "[[n=1]]", "keep_alive": "10m"}
            await client.post("/api/generate", json=body | options)
            keep_warm = section(WarmModel("mistral:latest", 3600.0))
            async with exporting(sim.url, keep_warm=keep_warm) as exporter:
                await check(sim, exporter, client)

    asyncio.run(main())


def test_what_is_not_installed_is_said_and_not_asked_for() -> None:
    async def check(sim: Simulator, exporter: Running, _client: httpx.AsyncClient) -> None:
        held = ("ollama_warmup_held", "model=absent:latest,why=not_installed")
        await exporter.until(lambda s: held in s)
        assert loads(sim) == []

    kept(check, section(WarmModel("absent:latest", 600.0)))


def test_an_embedding_model_is_warmed_as_well() -> None:
    async def check(sim: Simulator, exporter: Running, _client: httpx.AsyncClient) -> None:
        label = "model=nomic-embed-text:latest"
        await exporter.until(lambda s: s.get(("ollama_warmups_total", label)) == 1)
        assert len(loads(sim)) == 1

    kept(check, section(WarmModel("nomic-embed-text:latest", 600.0)))


def test_the_context_is_that_of_the_last_incarnation() -> None:
    async def main() -> None:
        async with (
            Simulator(Config(host=ROOMY, catalogue=CATALOGUE)) as sim,
            httpx.AsyncClient(base_url=sim.url, trust_env=False, timeout=PATIENCE) as client,
        ):
            body = {"model": "mistral", "prompt": "[[n=1]]", "options": {"num_ctx": 2048}}
            await client.post("/api/generate", json=body)
            keep_warm = section(WarmModel("mistral:latest", 60.0))
            async with exporting(sim.url, keep_warm=keep_warm) as exporter:
                context = ("ollama_model_context_tokens", MISTRAL)
                await exporter.until(lambda s: s.get(context) == 2048)
                await sim.restart()
                await exporter.until(lambda s: s.get(("ollama_warmups_total", MISTRAL)) == 1)
                assert {load.num_ctx for load in loads(sim)} == {2048}

    asyncio.run(main())


def test_another_name_of_a_resident_model_needs_no_load() -> None:
    """It is listed by its first name; to load it would reload that one's runner."""

    async def main() -> None:
        async with (
            Simulator(Config(host=ROOMY, catalogue=CATALOGUE)) as sim,
            httpx.AsyncClient(base_url=sim.url, trust_env=False, timeout=PATIENCE) as client,
        ):
            await client.post("/api/copy", json={"source": "mistral", "destination": "mine"})
            body = {"model": "mistral", "prompt": "[[n=1]]", "options": {"num_ctx": 2048}}
            await client.post("/api/generate", json=body)
            keep_warm = section(WarmModel("mine:latest", 3600.0))
            async with exporting(sim.url, keep_warm=keep_warm) as exporter:
                renewals = ("ollama_keep_alive_renewals_total", "by=keep_warm,model=mine:latest")
                await exporter.until(lambda s: s.get(renewals) == 1)
                samples = await exporter.samples()
                assert samples["ollama_warmups_total", "model=mine:latest"] == 0
            assert len(loads(sim)) == 1
            (runner,) = sim.server.engine.listed()
            assert runner.expires_at - sim.server.clock() > 3500

    asyncio.run(main())
