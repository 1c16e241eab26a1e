# SPDX-License-Identifier: Apache-2.0
"""A debug log is followed and processes are not: it adds to what polls see, and takes nothing."""

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from ollama_exporter.residency.events import Reason, Unloaded
from ollama_exporter.simulator.model_files import default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host
from ollama_exporter.simulator.workload_client import ask
from tests.support.exporting import Samples, exporting, until
from tests.support.patience import PATIENCE

SPEED: Final = 60.0  # loads take a quarter or half a second
LOADED: Final = "ollama_model_loaded"
LINES: Final = "ollama_log_lines_total"
MISTRAL, LLAMA = "mistral:latest", "llama3.2:latest"


@dataclass(slots=True)
class ServerLog:
    """Writes what a server would, in the wordings of 0.9 or 0.33."""

    path: Path
    sim: Simulator
    old: bool
    written: int = 0  # lines

    def write(self, message: str, rest: str, *, level: str = "DEBUG") -> None:
        """Append a line."""
        now = datetime.now(UTC).isoformat()
        self.written += 1
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f'time={now} level={level} source=x.go:1 msg="{message}" {rest}\n')

    def weights(self, name: str) -> str:
        found = self.sim.server.library.find(name)
        assert found is not None
        return f"/models/blobs/{found[1].file.weights}"

    def runner(self, name: str, pid: int) -> str:
        return (
            f"runner.name=registry.ollama.ai/library/{name} runner.pid={pid} "
            f"runner.model={self.weights(name)} runner.num_ctx=4096"
        )

    async def load(self, name: str, pid: int) -> None:
        """Load a model and log it."""
        program = "llama server" if self.old else "llama-server"
        command = f'cmd="/usr/bin/ollama runner --model {self.weights(name)} --port 1"'
        self.write(f"starting {program}", command, level="INFO")
        begun = time.monotonic()
        reply = await ask(
            self.sim.url, "/api/generate", {"model": name, "prompt": "[[n=1]]"}, patience=PATIENCE
        )
        assert reply.error is None
        started = "llama runner" if self.old else "llama-server"
        took = time.monotonic() - begun
        self.write(f"{started} started in {took:.2f} seconds", "", level="INFO")
        self.write("finished setting up", self.runner(name, pid))

    def evict(self, name: str, pid: int) -> None:
        """Log that a runner leaves to make room."""
        runner = self.runner(name, pid)
        self.write("resetting model to expire immediately to make room", runner)
        self.write("runner expired event received", runner)
        gone = "stopping llama server" if self.old else "waiting for llama-server to exit"
        self.write(gone, f"pid={pid}")
        self.write("runner terminated and removed from list, blocking for VRAM", runner)


def measured(samples: Samples) -> list[float]:
    """Return how many loads of each model have a duration."""
    counted = "ollama_model_load_seconds_count"
    return [samples.get((counted, f"model={model}"), 0.0) for model in (MISTRAL, LLAMA)]


def read(samples: Samples) -> float:
    """Return how many lines of the log were read."""
    return sum(value for (name, _), value in samples.items() if name == LINES)


@pytest.mark.parametrize("old", [True, False], ids=["0.9", "0.33"])
def test_an_eviction_keeps_who_took_the_room_and_loads_are_measured_once(
    tmp_path: Path, *, old: bool
) -> None:
    async def story() -> None:
        path = tmp_path / "server.log"
        path.touch()
        host = replace(Host(), max_loaded=1, recovery=0.3, convergence=0.1)
        config = Config(host=host, catalogue=default_catalogue().compressed(SPEED))
        changes = {"poll_interval": 2.0, "collector_processes": "off", "ollama_log": str(path)}
        async with Simulator(config) as sim, exporting(sim.url, **changes) as exporter:
            await until(lambda: exporter.log.count("Following log"))
            log = ServerLog(path, sim, old)
            await log.load(MISTRAL, 11)
            await exporter.until(lambda s: s[LOADED, f"model={MISTRAL}"] == 1)
            log.evict(MISTRAL, 11)
            await log.load(LLAMA, 12)
            await until(lambda: any(isinstance(x, Unloaded) for x in exporter.events))
            (unload,) = [x for x in exporter.events if isinstance(x, Unloaded)]
            assert (unload.reason, unload.by) == (Reason.EVICTED, LLAMA)
            await exporter.until(lambda s: s[LOADED, f"model={LLAMA}"] == 1)
            log.evict(LLAMA, 12)
            await log.load(MISTRAL, 13)
            await exporter.until(lambda s: s[LOADED, f"model={MISTRAL}"] == 1)
            # A poll may list a model before the lines of its load are read.
            await exporter.until(lambda s: measured(s) == [2.0, 1.0])
            samples = await exporter.until(lambda s: read(s) >= log.written)
            assert read(samples) == log.written
            assert measured(samples) == [2.0, 1.0]

    asyncio.run(story())
