# SPDX-License-Identifier: Apache-2.0
"""A runner's process that somebody kills: the simulated server notices as the real one does."""

import asyncio
import json
import os
import platform
import signal
from collections.abc import Awaitable, Callable

import pytest

from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host, TrueReason, Unload
from ollama_exporter.simulator.workload_client import Reply, ask
from tests.support.exporting import until
from tests.support.patience import PATIENCE
from tests.support.process import children

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="it is for Linux only")
MODEL = "mistral:latest"
HOST = Host(memory=64 * GIB, recovery=0.05, convergence=0.02)


def with_processes(check: Callable[[Simulator], Awaitable[None]], *, speed: float) -> None:
    """Run `check` on a server that loads so many times faster than a real one."""
    config = Config(host=HOST, catalogue=default_catalogue().compressed(speed), processes=True)

    async def run() -> None:
        async with Simulator(config) as sim, asyncio.timeout(PATIENCE):
            await check(sim)

    asyncio.run(run())


async def generate(sim: Simulator, prompt: str) -> Reply:
    return await ask(sim.url, "/api/generate", {"model": MODEL, "prompt": prompt})


def runners(sim: Simulator) -> list[int]:
    assert sim.pid is not None
    return children(sim.pid)


def test_its_answer_breaks_and_the_next_request_loads_the_model_again() -> None:
    async def check(sim: Simulator) -> None:
        answer = asyncio.create_task(generate(sim, "Tell me [[n=9000 tps=5 ttft=0]]"))
        await until(lambda: sim.server.engine.runners)
        (pid,) = runners(sim)
        os.kill(pid, signal.SIGKILL)
        assert (await answer).error
        listing = json.loads((await ask(sim.url, "/api/ps")).tail)
        assert [model["name"] for model in listing["models"]] == [MODEL]  # until it is asked for
        assert (await generate(sim, "Tell me [[n=1 tps=500 ttft=0]]")).error is None
        assert [x.reason for x in sim.truth if isinstance(x, Unload)] == [TrueReason.CRASHED]
        (again,) = runners(sim)
        assert again != pid

    with_processes(check, speed=500)


def test_a_load_whose_process_is_killed_fails() -> None:
    async def check(sim: Simulator) -> None:
        answer = asyncio.create_task(generate(sim, "Tell me"))
        await until(lambda: runners(sim))
        (pid,) = runners(sim)
        os.kill(pid, signal.SIGKILL)
        reply = await answer
        assert reply.status == 500
        assert reply.error
        assert not sim.server.engine.runners
        assert not sim.server.engine.loading

    with_processes(check, speed=0.05)
