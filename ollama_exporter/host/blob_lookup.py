# SPDX-License-Identifier: Apache-2.0
"""Looks up the weights of each model: one request to `/api/show` per digest.

It waits while the server loads a model, because the request reads the model's file and the disk is
busy then. It does not wait for the name of a runner that was just born: why another one left may
depend on it, and on a server that loads one model after the other a pause comes late.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, Protocol

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.clock import Timeline
from ollama_exporter.errors import TargetError
from ollama_exporter.protocol.wire import InstalledModel, RunningModel
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.facts import WeightsNamed

Key = tuple[str, str]  # name and digest, as listed

MOST_MODELS: Final = 4096  # remembered; the oldest are dropped first
PACE: Final = 0.2  # seconds between two requests
ATTEMPTS: Final = 3
RETRY: Final = 5.0  # seconds after a failed request
CATCH_UP: Final = 3.0  # seconds for the resident models at the start
LOOK: Final = 1.0  # seconds between two looks whether a load is over
LONGEST_LOAD: Final = 600.0  # seconds; a longer load is stuck, do not wait for it
logger = logging.getLogger(__name__)


class ShowClient(Protocol):
    """The requests that the lookup makes."""

    async def tags(self) -> tuple[InstalledModel, ...]:
        """Return the installed models."""

    async def show(self, name: str) -> str | None:
        """Return the weights of a model."""


class BlobLookup:
    """Remembers the weights by digest. `loading`: whether the server is loading a model."""

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
        # by digest; None: it has no blob
        self._weights = BoundedDict[str, str | None](MOST_MODELS)
        self._installed: dict[str, str] = {}  # name -> digest, as last listed
        # name -> the digest whose weights were reported
        self._reported = BoundedDict[str, str](MOST_MODELS)
        self._failures: dict[str, int] = {}  # by name that is still to be looked up
        self._resident: tuple[Key, ...] = ()
        # resident models that were not installed as such
        self._checked = BoundedDict[Key, None](MOST_MODELS)
        self._outdated = False  # a listed model is missing from `_installed`
        self._wanted: str | None = None  # weights of a runner that was born without a known name
        self._started, self._work, self._polled = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._hurry = asyncio.Event()  # a runner's name is wanted

    def on_installed(self, models: Iterable[InstalledModel]) -> None:
        """Queue what is installed, so that its weights are known before its first load."""
        self._outdated = False
        self._installed = {each.name: each.digest for each in models if not each.remote}
        for name, digest in self._installed.items():
            if self._reported.get(name) != digest:
                self._failures.setdefault(name, 0)
                self._work.set()

    def on_listing(self, models: Iterable[RunningModel]) -> None:
        """Notice resident models that were pulled or created since the last list of tags."""
        self._resident = tuple(model.key for model in models)
        self._polled.set()
        for key in self._resident:
            if self._installed.get(key[0]) != key[1] and key not in self._checked:
                self._checked[key] = None
                self._outdated = True
                self._work.set()

    def on_runner(self, weights: str) -> None:
        """Notice a runner that was born: a name may have been given new weights."""
        if self._started.is_set() and weights not in self._weights.values():
            self._wanted, self._outdated = weights, True
            self._work.set()
            self._hurry.set()

    def resident_weights(self) -> frozenset[str]:
        """Return the weights of the resident models, as far as they are known."""
        known = (self._weights.get(digest) for _, digest in self._resident)
        return frozenset(weights for weights in known if weights is not None)

    def weights(self, digest: str) -> str | None:
        """Return the weights of a digest: empty if it has none, None if they are not known."""
        return (self._weights[digest] or "") if digest in self._weights else None

    def start(self) -> None:
        """Let `run` begin: something needs the weights."""
        self._started.set()

    async def catch_up(self) -> None:
        """Look up the resident models before their processes are reported, within CATCH_UP seconds.

        Does nothing once `run` has begun, since that asks as well.
        """
        if self._started.is_set():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP):
                await self._polled.wait()
                if not self._installed:
                    await self._list_installed()
                for name, digest in self._resident:
                    if self._installed.get(name) == digest != self._reported.get(name):
                        await self._look_up(name)

    async def run(self) -> None:
        """Wait for `start`, then look up what is queued until cancelled."""
        await self._started.wait()
        while True:
            await self._work.wait()
            self._work.clear()
            wanted = self._wanted
            await self._wait_for_load()
            if self._outdated:
                await self._list_installed()
            for name in list(self._failures):
                await self._wait_for_load()
                await self._look_up(name)
                await asyncio.sleep(PACE)
            if self._wanted == wanted:  # no installed name has these weights
                self._wanted = None
            if self._failures:
                await asyncio.sleep(RETRY)
                self._work.set()

    async def _wait_for_load(self) -> None:
        """Wait while the server is loading, unless a runner's name is wanted."""
        end = self._timeline.now() + LONGEST_LOAD
        while self._wanted is None and self._loading() and self._timeline.now() < end:
            self._hurry.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._hurry.wait()

    async def _list_installed(self) -> None:
        try:
            self.on_installed(await self._client.tags())
        except TargetError as err:  # the next new model in a poll tries again
            self._outdated = False
            logger.debug("Failed to list installed models", extra={"err": str(err)})

    async def _look_up(self, name: str) -> None:
        """Report the weights of a name. Ask only if its digest is new."""
        digest = self._installed.get(name)
        if digest is None:  # deleted meanwhile
            self._failures.pop(name, None)
            return
        if digest not in self._weights:
            try:
                self._weights[digest] = await self._client.show(name)
            except TargetError as err:
                self._failures[name] = self._failures.get(name, 0) + 1
                logger.debug("Failed to look up weights", extra={"model": name, "err": str(err)})
                if self._failures[name] < ATTEMPTS:
                    return
        self._failures.pop(name, None)
        self._reported[name] = digest
        weights = self._weights.get(digest)
        if weights == self._wanted:
            self._wanted = None
        if weights is not None:
            self._reporter.fact(WeightsNamed(self._timeline.now(), name, weights))
