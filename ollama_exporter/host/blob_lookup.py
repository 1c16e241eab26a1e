# SPDX-License-Identifier: Apache-2.0
"""Which weights a name stands for: `/api/show`, asked once for each model.

Not while a model is being loaded: the question reads the model's file, and the disk is busy.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, Protocol, TypeVar

from ollama_exporter.clock import Timeline
from ollama_exporter.errors import TargetError
from ollama_exporter.protocol.wire import InstalledModel, RunningModel
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.facts import WeightsNamed

K = TypeVar("K")
V = TypeVar("V")
Key = tuple[str, str]  # name and digest, as listed

MOST_MODELS: Final = 4096  # that are remembered; the oldest are forgotten first
PACE: Final = 0.2  # seconds between two questions: a large library is asked about at leisure
ATTEMPTS: Final = 3
RETRY: Final = 5.0  # seconds after a question that failed
CATCH_UP: Final = 3.0  # seconds for the names of what is resident at the start
LONGEST_LOAD: Final = 600.0  # a load that takes longer is stuck, and is no reason to wait
logger = logging.getLogger(__name__)


class ShowClient(Protocol):
    """What is asked of the server."""

    async def tags(self) -> tuple[InstalledModel, ...]:
        """Ask for the installed models."""
        ...

    async def show(self, name: str) -> str | None:
        """Ask for the weights of a model."""
        ...


class BlobLookup:
    """Keeps what was asked, by digest. `loading`: whether the server is loading a model."""

    def __init__(
        self,
        client: ShowClient,
        *,
        reporter: Reporter,
        timeline: Timeline,
        loading: Callable[[], bool],
    ) -> None:
        self._client, self._reporter, self._timeline = client, reporter, timeline
        self._loading = loading
        self._weights: dict[str, str | None] = {}  # by digest; None: it has no blob
        self._installed: dict[str, str] = {}  # name -> digest, as last listed
        self._told: dict[str, str] = {}  # name -> the digest whose weights were told of it
        self._open: dict[str, int] = {}  # names to ask about, and how often that failed
        self._resident: tuple[Key, ...] = ()
        self._checked: dict[Key, None] = {}  # listed ones that were looked for among the installed
        self._outdated = False  # something is listed that was not installed
        self._work, self._polled = asyncio.Event(), asyncio.Event()

    def installed(self, models: Iterable[InstalledModel]) -> None:
        """Take what is installed: each is asked about before it is loaded for the first time."""
        self._outdated = False
        self._installed = {each.name: each.digest for each in models if not each.remote}
        for name, digest in self._installed.items():
            if self._told.get(name) != digest:
                self._open.setdefault(name, 0)
                self._work.set()

    def listed(self, models: Iterable[RunningModel]) -> None:
        """Take what is resident: a name may have been pulled or made anew since."""
        self._resident = tuple(model.key for model in models)
        self._polled.set()
        for key in self._resident:
            if self._installed.get(key[0]) != key[1] and key not in self._checked:
                _put(self._checked, key, None)
                self._outdated = True
                self._work.set()

    def resident(self) -> frozenset[str]:
        """Return the weights of what is resident, as far as they are known."""
        known = (self._weights.get(digest) for _, digest in self._resident)
        return frozenset(weights for weights in known if weights is not None)

    async def catch_up(self) -> None:
        """Name what is resident, for a bounded time: told before its processes, nothing is guessed.

        Only before `run`: both ask.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP):
                await self._polled.wait()
                if not self._installed:
                    await self._take_inventory()
                for name, digest in self._resident:
                    if self._installed.get(name) == digest != self._told.get(name):
                        await self._ask(name)

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            await self._until_loaded()
            if self._outdated:
                await self._take_inventory()
            for name in list(self._open):
                await self._until_loaded()
                await self._ask(name)
                await asyncio.sleep(PACE)
            if self._open:
                await asyncio.sleep(RETRY)
                self._work.set()

    async def _until_loaded(self) -> None:
        """Wait while the server is loading."""
        end = self._timeline.now() + LONGEST_LOAD
        while self._loading() and self._timeline.now() < end:  # noqa: ASYNC110 - no event tells the end of it
            await asyncio.sleep(1.0)

    async def _take_inventory(self) -> None:
        try:
            self.installed(await self._client.tags())
        except TargetError as err:  # the next one that is listed tries again
            self._outdated = False
            logger.debug("Installed models not known", extra={"err": str(err)})

    async def _ask(self, name: str) -> None:
        """Find what a name stands for now and tell it."""
        digest = self._installed.get(name)
        if digest is None:  # deleted meanwhile
            self._open.pop(name, None)
            return
        if digest not in self._weights:
            try:
                _put(self._weights, digest, await self._client.show(name))
            except TargetError as err:
                self._open[name] = self._open.get(name, 0) + 1
                logger.debug("Weights not known", extra={"model": name, "err": str(err)})
                if self._open[name] < ATTEMPTS:
                    return
        self._open.pop(name, None)
        _put(self._told, name, digest)
        weights = self._weights.get(digest)
        if weights is not None:
            self._reporter.fact(WeightsNamed(self._timeline.now(), name, weights))


def _put(memory: dict[K, V], key: K, value: V) -> None:
    """Remember, and forget the oldest beyond the limit."""
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > MOST_MODELS:
        del memory[next(iter(memory))]
