# SPDX-License-Identifier: Apache-2.0
"""A stop that `measure` announces is `stopped` for an exporter that sees polls alone."""

import asyncio

import httpx
import pytest

from ollama_exporter.cli.announce import announce_stop
from ollama_exporter.residency.events import Reason, Unloaded
from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host
from tests.support.exporting import exporting, until
from tests.support.faultserver import closed_port
from tests.support.patience import PATIENCE

CONFIG = Config(
    host=Host(memory=24 * GIB, recovery=0.1, convergence=0.05),
    catalogue=default_catalogue().compressed(200.0),
)


def test_an_announced_stop_is_a_stop() -> None:
    async def main() -> None:
        async with (
            Simulator(CONFIG) as sim,
            exporting(sim.url) as exporter,
            httpx.AsyncClient(base_url=sim.url, trust_env=False, timeout=PATIENCE) as client,
        ):
            await client.post("/api/generate", json={"model": "mistral", "prompt": "[[n=1]]"})
            loaded = ("ollama_model_loaded", "model=mistral:latest")
            await exporter.until(lambda s: s.get(loaded) == 1)
            url = f"http://{exporter.address}"
            await asyncio.to_thread(announce_stop, url, "mistral:latest", sim.url)
            await client.post("/api/generate", json={"model": "mistral", "keep_alive": 0})
            await until(lambda: [x for x in exporter.events if isinstance(x, Unloaded)])
            (unload,) = (x for x in exporter.events if isinstance(x, Unloaded))
            assert unload.reason is Reason.STOPPED

    asyncio.run(main())


@pytest.mark.parametrize(
    ("content", "headers", "code"),
    [
        (b'{"model":"m","url":"http://elsewhere"}', {"content-type": "application/json"}, 409),
        (b'{"model":"m"}', {"content-type": "application/json"}, 400),
        (b"[", {"content-type": "application/json"}, 400),
        (b" " * 5000, {"content-type": "application/json"}, 413),
        (b'{"model":"m","url":"x"}', {"content-type": "text/plain"}, 415),
    ],
)
def test_what_is_no_announcement_is_refused(
    content: bytes, headers: dict[str, str], code: int
) -> None:
    async def main() -> None:
        async with Simulator(CONFIG) as sim, exporting(sim.url) as exporter:
            answer = await exporter.http.post("/-/stopping", content=content, headers=headers)
            assert answer.status_code == code

    asyncio.run(main())


@pytest.mark.parametrize("url", ["http://127.0.0.1:%d", "https://127.0.0.1:%d", "nonsense"])
def test_without_an_exporter_nothing_happens(url: str) -> None:
    announce_stop(url.replace("%d", str(closed_port())), "m", "http://127.0.0.1:11434")
