# SPDX-License-Identifier: Apache-2.0
"""An exporter of several targets in this process, and what its paths say."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import httpx

from ollama_exporter.config.schema import Settings
from ollama_exporter.fleet.target_section import targets
from ollama_exporter.runtime import run
from tests.support.exporting import FAST, Records, Samples, listening, parsed
from tests.support.patience import PATIENCE

FLEET = replace(FAST, enable_lifecycle=True, expected_models=())


@dataclass(slots=True)
class RunningFleet:
    """A running exporter."""

    address: str
    log: Records
    http: httpx.AsyncClient
    settings: Settings  # a reload reads these

    async def probe(self, target: str) -> Samples:
        """Scrape one target."""
        answer = await self.http.get("/probe", params={"target": target})
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return parsed(answer.text)

    async def until(self, target: str, wanted: Callable[[Samples], bool]) -> Samples:
        """Scrape one target until it says what is wanted."""
        end = monotonic() + PATIENCE
        while True:
            samples = await self.probe(target)
            with suppress(KeyError):
                if wanted(samples):
                    return samples
            assert monotonic() < end, samples
            await asyncio.sleep(0.02)

    async def own(self) -> Samples:
        """Scrape the exporter itself."""
        return parsed((await self.http.get("/metrics")).text)

    async def names(self) -> list[str]:
        """Return the targets that service discovery lists."""
        groups = (await self.http.get("/sd")).json()
        return [x["labels"]["__param_target"] for x in groups if "__param_target" in x["labels"]]

    async def reload(self, **changes: Any) -> httpx.Response:
        """Change the settings, and let them be read."""
        before, self.settings = self.settings, replace(self.settings, **changes)
        answer = await self.http.post("/-/reload")
        if answer.status_code != httpx.codes.OK:
            self.settings = before
        return answer


@asynccontextmanager
async def fleet(
    named: Mapping[str, Any] | None = None, **changes: Any
) -> AsyncIterator[RunningFleet]:
    """Run an exporter of some targets on a free port; `changes`: of the settings."""
    stop, log = asyncio.Event(), Records()
    settings = replace(FLEET, targets=targets("targets", dict(named or {})), **changes)
    running: list[RunningFleet] = []

    def reread() -> Settings:
        return running[0].settings

    async with listening(run(settings, stop=stop, reread=reread), stop, log) as found:
        running.append(RunningFleet(*found, settings))
        yield running[0]
