# SPDX-License-Identifier: Apache-2.0
"""An exporter in this process, polling a fault server, and what its `/metrics` says."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any, Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

import ollama_exporter
from ollama_exporter.config.schema import Settings
from ollama_exporter.residency.events import Event
from ollama_exporter.runtime import Onlookers, run
from tests.support.patience import PATIENCE

FAST: Final = Settings(
    poll_interval=0.05,
    ollama_timeout=PATIENCE,  # a busy machine makes no outage; a test of silence sets its own
    listen_addresses=("127.0.0.1:0",),
    expected_models=("expected:latest",),
    disable_exporter_metrics=True,
    ollama_log="off",  # not the journal of this machine
)
PACKAGE: Final = str(Path(ollama_exporter.__file__).parent)
SIMULATOR: Final = str(Path(PACKAGE) / "simulator")
Samples = dict[tuple[str, str], float]  # name and labels as they are written -> value


class Records(logging.Handler):
    """Keeps log records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.records.append(record)

    def count(self, message: str) -> int:
        """Return how often a message was logged."""
        return sum(record.getMessage() == message for record in self.records)


@dataclass(slots=True)
class Running:
    """A running exporter."""

    address: str
    log: Records
    http: httpx.AsyncClient
    events: list[Event] = field(default_factory=list)

    async def samples(self) -> Samples:
        """Scrape."""
        answer = await self.http.get("/metrics")
        assert answer.status_code == 200, answer.text
        return parsed(answer.text)

    async def until(self, wanted: Callable[[Samples], bool]) -> Samples:
        """Scrape until it says what is wanted. A series that `wanted` reads may not be born yet."""
        end = monotonic() + PATIENCE
        while True:
            samples = await self.samples()
            with contextlib.suppress(KeyError):
                if wanted(samples):
                    return samples
            assert monotonic() < end, samples
            await asyncio.sleep(0.02)


def parsed(exposition: str) -> Samples:
    """Read an exposition; a series must not come twice."""
    samples: Samples = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            key = (sample.name, ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items())))
            assert key not in samples
            samples[key] = sample.value
    return samples


async def until(condition: Callable[[], Any]) -> None:
    """Wait for something to become true."""
    end = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end, condition
        await asyncio.sleep(0.01)


@contextmanager
def same_logger() -> Iterator[logging.Logger]:
    """Yield this package's logger; leave it as it was, for the tests that come after."""
    logger = logging.getLogger("ollama_exporter")
    before = logger.level, logger.handlers, logger.propagate
    logger.handlers = list(logger.handlers)
    try:
        yield logger
    finally:
        logger.setLevel(before[0])
        logger.handlers, logger.propagate = before[1:]


@asynccontextmanager
async def exporting(url: str, **changes: Any) -> AsyncIterator[Running]:
    """Run an exporter of `url` on a free port; `changes`: of the settings."""
    stop, log, events = asyncio.Event(), Records(), list[Event]()
    settings = replace(FAST, ollama_url=url, **changes)
    onlookers = Onlookers(events=lambda new, _: events.extend(new))
    async with listening(run(settings, stop=stop, onlookers=onlookers), stop, log) as found:
        yield Running(*found, events)


@asynccontextmanager
async def listening(
    running: Coroutine[Any, Any, None], stop: asyncio.Event, log: Records
) -> AsyncIterator[tuple[str, Records, httpx.AsyncClient]]:
    """Run an exporter with this log; yield its address, the log, and a client of it."""
    with same_logger() as logger:
        logger.setLevel(logging.INFO)
        logger.addHandler(log)
        task = asyncio.create_task(running)
        try:
            await until(lambda: task.done() or log.count("Listening on"))
            if task.done():
                await task
            line = next(r for r in log.records if r.getMessage() == "Listening on")
            address = str(vars(line)["address"])
            async with httpx.AsyncClient(
                base_url=f"http://{address}", trust_env=False, timeout=PATIENCE
            ) as http:
                yield address, log, http
        finally:
            stop.set()
            await task
        await until(lambda: tasks_of_package() == [])  # nothing outlives it


def tasks_of_package() -> list[str]:
    """Return what tasks run code of the exporter, unless another one runs in this loop."""
    codes = [getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks()]
    ours = {code for code in codes if code is not None and is_of_package(code.co_filename)}
    return [] if run.__code__ in ours else sorted(code.co_qualname for code in ours)


def is_of_package(file: str) -> bool:
    """Return whether a file is the exporter's, and not the simulator's."""
    return file.startswith(PACKAGE) and not file.startswith(SIMULATOR)
