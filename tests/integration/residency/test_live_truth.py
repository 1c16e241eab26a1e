# SPDX-License-Identifier: Apache-2.0
"""A running exporter beside a simulator with real processes, whose scheduler knows the truth.

Replay never shows what it costs to notice late. Each step waits until the one before was noticed,
so that only a hang depends on the machine. It takes some 12 s, because a stop is believed only when
nothing was started by the end of the longest wait for memory. `python -m bench.live` plays random
clients for minutes.
"""

import asyncio
import platform
from pathlib import Path
from typing import Any, Final

import pytest

from bench.live import Comparison, compare, exporter, logged, polled
from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.script import Crash
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host
from ollama_exporter.simulator.workload_client import ask
from tests.support.exporting import until
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="real processes need Linux")
CONFIG: Final = Config(
    host=Host(memory=10 * GIB, keep_alive=60.0, recovery=0.5, convergence=0.3),
    catalogue=default_catalogue().compressed(40.0),
    processes=True,
    seed=1,
)


class Clients:
    """They ask for one model after the other, each once the exporter has noticed the last."""

    def __init__(self, sim: Simulator, log: Path) -> None:
        self._sim, self._log, self._loads = sim, log, 0

    async def load(self, model: str, **more: Any) -> None:
        """Let a model answer."""
        body = {"model": model, "prompt": "Hello [[n=2 tps=100]]"} | more
        assert (await ask(self._sim.url, "/api/generate", body, patience=PATIENCE)).error is None
        self._loads += 1
        await self.until_said("Model loaded", self._loads)

    async def stop(self, model: str) -> None:
        """Stop a model."""
        await ask(
            self._sim.url, "/api/generate", {"model": model, "keep_alive": 0}, patience=PATIENCE
        )

    async def until_said(self, words: str, times: int = 1) -> None:
        """Wait until the exporter's log says something so many times."""
        await until(lambda: self._log.read_text(encoding="utf-8").count(words) >= times)

    async def unloaded(self, times: int) -> None:
        """Wait until so many unloads are settled."""
        await self.until_said("Model unloaded", times)


async def beside(log: Path) -> Comparison:
    """Return what the exporter made of six unloads."""
    async with Simulator(CONFIG) as sim:
        with exporter(sim.url, log):
            clients = Clients(sim, log)
            await clients.until_said("Watching processes")
            await asyncio.sleep(1.2)  # names are being asked for
            await clients.load("mistral")
            await clients.load("qwen2.5:7b")  # evicts it
            await clients.load("qwen2.5:7b", options={"num_ctx": 8192})
            await clients.load("mistral")  # evicts it
            await clients.unloaded(3)
            await sim.apply(Crash(0.0, "mistral"))
            await clients.unloaded(4)
            await clients.load("mistral", keep_alive="1s")  # finds it dead
            await clients.load("llama3.2")
            await clients.unloaded(5)
            await clients.stop("llama3.2")
            await clients.unloaded(6)
        return compare(sim.truth, logged(log), polls=polled(log), settling=0.0)


def test_what_a_running_exporter_says_is_what_the_scheduler_did(tmp_path: Path) -> None:
    found = asyncio.run(beside(tmp_path / "exporter.log"))
    told = f"{found.line()}: {found.mistakes}"
    assert (found.unloads, found.missed, found.invented, found.crashes_invented) == (6, 0, 0, 0), (
        told
    )
    assert found.shown >= 4, told  # of a reload between two polls, a poll shows the new context
    assert found.wrong + found.unknown <= 1, told  # where no core is free, causes fall together
