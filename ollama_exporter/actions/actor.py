# SPDX-License-Identifier: Apache-2.0
"""All that the exporter does to its server, put together; nothing, unless the file says so."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Final

from ollama_exporter.actions.autopilot import Advised, AutopilotRunner
from ollama_exporter.actions.defaults.apply import DefaultsApplier
from ollama_exporter.actions.defaults.rewrite_rules import Rules
from ollama_exporter.actions.keep_warm.run import KeepWarmRunner, Surroundings
from ollama_exporter.actions.load_options import LoadOptions
from ollama_exporter.actions.shared_blobs import SharedBlobs
from ollama_exporter.clock import Timeline
from ollama_exporter.config.load import Settings
from ollama_exporter.metrics.registry import Metrics
from ollama_exporter.poller.poller import Poller
from ollama_exporter.protocol.control_client import ControlClient
from ollama_exporter.residency.events import Event, View
from ollama_exporter.shim.observation import Observation
from ollama_exporter.shim.proxy.server import Proxy
from ollama_exporter.shim.recorder import Recorder

SOON: Final = 0.2  # the same at the start, while none are known
logger = logging.getLogger(__name__)
LEARN: Final = 5.0  # seconds between two looks whether there are new names


class Actor:
    """Keep-warm, the proxy's defaults and the autopilot of one exporter."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        poller: Poller,
        timeline: Timeline,
        *,
        recorder: Recorder | None,
        advice: Callable[[], Iterable[tuple[str, Advised]]],
        touched: Callable[[str, float], None],
    ) -> None:
        acts, self._recorder = metrics.acts, recorder
        self._around = around = Surroundings(
            view=lambda: poller.view,
            server=lambda: poller.state,
            poll=poller.poll,
            loading=(lambda: False) if recorder is None else recorder.loading,
            now=timeline.now,
            wall=timeline.wall,
            errors=metrics.exporter.errors.inc,
            meet=metrics.lifecycle.meet,
            touched=touched,
            tell=poller.tell,
        )
        self._client = ControlClient(settings.target, timeout=settings.ollama_timeout)
        self._contexts = LoadOptions()
        self._pilot = AutopilotRunner(acts, advice)
        self._aliases = SharedBlobs(self._client)
        self._warm = KeepWarmRunner(
            settings.keep_warm, self._client, acts, self._contexts, self._aliases, around
        )
        self._proxy: Proxy | None = None
        self._defaulting: DefaultsApplier | None = None
        self._observer: Callable[[Observation], None] | None = None
        if recorder is not None:
            self._observer = recorder.on_request
            self._defaulting = DefaultsApplier(
                Rules(()),
                self._client,
                recorder,
                acts,
                self._contexts,
                view=around.view,
                canonical=recorder.canonical_name,
                now=around.now,
                touched=touched,
                aliases=self._aliases,
            )
        self._settings = settings
        self._changes = False  # requests are changed
        self._wanted = asyncio.Event()

    def attach(self, proxy: Proxy | None) -> None:
        """Take the proxy whose requests are changed, and begin with the settings."""
        self._proxy = proxy
        self.take(self._settings)

    def take(self, settings: Settings) -> None:
        """Take settings, the first ones or those of a reload."""
        self._settings = settings
        self._warm.take(settings.keep_warm)
        self._pilot.take(settings.autopilot)
        changes = bool(settings.defaults) or settings.autopilot is not None
        if self._defaulting is None or self._recorder is None:
            if changes:
                logger.warning("Defaults have no effect: set --proxy.listen-address")
            return
        self._defaulting.rules = Rules(settings.defaults, settings.autopilot, self._pilot.given)
        if self._proxy is not None:
            self._proxy.amend = self._defaulting if changes else None
        self._changes = changes
        self._wanted.set()
        # Nobody else is told of requests while nothing is to be done: an observation costs time.
        watches = changes or bool(settings.keep_warm.models)
        self._recorder.on_request = self._saw_request if watches else self._observer

    def saw(self, events: tuple[Event, ...], view: View) -> None:
        """Take what a poll showed."""
        self._warm.saw(events, view)

    def _saw_request(self, seen: Observation) -> None:
        if self._observer is not None:
            self._observer(seen)
        if self._defaulting is not None:
            self._defaulting.saw(seen)

    async def _learn(self) -> None:
        """Know which names share a runner before requests for them come."""
        while True:
            installed = self._around.server().installed
            if self._changes and installed is not None:
                await self._aliases.resolve(installed)
            self._wanted.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LEARN if installed is not None else SOON):
                    await self._wanted.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Act meanwhile."""
        tasks = [
            asyncio.create_task(self._warm.run()),
            asyncio.create_task(self._pilot.run(self._around.errors)),
            asyncio.create_task(self._learn()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._defaulting is not None:
                await self._defaulting.aclose()
            await self._client.aclose()
