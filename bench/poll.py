# SPDX-License-Identifier: Apache-2.0
"""CPU of one poll: asking, decoding, and the tracker's work, in this process.

Compared with the same request through the same HTTP client, its body decoded by the standard
library: the ratio is what typed decoding and tracking add.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Final

import httpx

from ollama_exporter.clock import Timeline
from ollama_exporter.config.target import Target
from ollama_exporter.poller.poll_schedule import Cadence, next_poll
from ollama_exporter.protocol.client import OllamaClient
from ollama_exporter.residency.facts import Snapshot
from ollama_exporter.residency.tracker import Tracker

POLLS: Final = 500
WARM: Final = 50


@dataclass(frozen=True, slots=True)
class PollFigures:
    """One round. Milliseconds of CPU for each poll."""

    ours: float
    bare: float


async def ours(url: str, times: int) -> float:
    client, tracker, clock = OllamaClient(Target("bench", url)), Tracker(window=60.0), Timeline()
    before = 0.0
    try:
        for number in range(WARM + times):
            if number == WARM:
                before = time.process_time()
            started = clock.now()
            answer = await client.ps()
            fact = Snapshot(started, clock.now(), answer.models, answer.date, answer.new_connection)
            tracker.observe(fact)
            tracker.advance(clock.now())
            next_poll(Cadence(), tracker.view(), last_started=started, failures=0)
        return (time.process_time() - before) * 1000 / times
    finally:
        await client.aclose()


async def bare(url: str, times: int) -> float:
    before = 0.0
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        for number in range(WARM + times):
            if number == WARM:
                before = time.process_time()
            json.loads((await client.get("/api/ps")).content)
        return (time.process_time() - before) * 1000 / times


def measure_polls(url: str) -> PollFigures:
    return PollFigures(asyncio.run(ours(url, POLLS)), asyncio.run(bare(url, POLLS)))
