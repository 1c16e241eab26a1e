# SPDX-License-Identifier: Apache-2.0
"""How long a scrape of 10,000 lines holds the interpreter: python -m bench.pauses.

A scrape is rendered as the web server does it, while the same loop wakes every millisecond. What
counts is by how much the latest of its wake-ups is late, beside the same loop without scrapes.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from ollama_exporter.metrics.catalog.family import Family
from ollama_exporter.metrics.catalog_metric import CatalogMetric
from ollama_exporter.metrics.exposition import in_parts
from ollama_exporter.metrics.rendering import Renderer
from ollama_exporter.web.in_turns import Turns

LINES: Final = 10_000
FAMILIES: Final = 50
TICK: Final = 0.001
SCRAPES: Final = 40
ACCEPT: Final = "application/openmetrics-text;version=1.0.0"


class ManyLines:
    """Collects families of many samples as our instruments keep them, all changed each time."""

    def __init__(self, lines: int) -> None:
        self._labels = [(f"model-{n % 5}", str(n // 5)) for n in range(lines // FAMILIES)]
        self._families = [
            Family(f"ollama_some_family_{number}", "gauge", "What it counts", ("model", "bucket"))
            for number in range(FAMILIES)
        ]
        self.value = 0.0

    def collect(self) -> Iterable[Metric]:
        """Yield the families, each with another value."""
        self.value += 1.0
        for family in self._families:
            values = [(labels, self.value) for labels in self._labels]
            yield CatalogMetric(family, family.name, values)


async def late(registry: CollectorRegistry | None) -> tuple[float, float]:
    """Return the 99th percentile of lateness and CPU of a scrape, both in milliseconds."""
    lateness: list[float] = []
    renderer, turns, cpu = Renderer(), Turns(), list[float]()

    async def is_wanted() -> bool:
        return True

    async def scrapes() -> None:
        for _ in range(SCRAPES):
            await asyncio.sleep(0.05)
            if registry is not None:
                begun = time.thread_time()
                _, parts = in_parts(registry, renderer, accept=ACCEPT, accept_encoding="gzip")
                await turns.join(parts, is_wanted=is_wanted)
                cpu.append((time.thread_time() - begun) * 1e3)

    running = asyncio.create_task(scrapes())
    while not running.done():
        due = time.perf_counter() + TICK
        await asyncio.sleep(TICK)
        lateness.append((time.perf_counter() - due) * 1e3)
    await running
    lateness.sort()
    cpu.sort()
    return lateness[int(0.99 * len(lateness))], cpu[len(cpu) // 2] if cpu else 0.0


def measure_pauses() -> tuple[float, float, float]:
    """Return lateness with and without scrapes, and CPU of a scrape, in milliseconds."""
    registry = CollectorRegistry()
    registry.register(ManyLines(LINES))
    within, cpu = asyncio.run(late(registry))
    without, _ = asyncio.run(late(None))
    return within, without, cpu


if __name__ == "__main__":
    print(
        "late by (p99) with scrapes {:.2f} ms, without {:.2f}; CPU {:.1f} ms".format(
            *measure_pauses()
        )
    )
