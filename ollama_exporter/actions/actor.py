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
from ollama_exporter.config.load import Settings
from ollama_exporter.metrics.action_metrics import ActionMetrics
from ollama_exporter.protocol.control_client import ControlClient
from ollama_exporter.residency.events import Event, View
from ollama_exporter.shim.in_flight import InFlight

LEARN: Final = 5.0  # seconds between two looks whether there are new names
SOON: Final = 0.2  # the same at the start, while none are known
logger = logging.getLogger(__name__)


class Actor:
    """Keep-warm, the proxy's defaults and the autopilot of one exporter."""

    def __init__(
        self,
        settings: Settings,
        acts: ActionMetrics,
        around: Surroundings,
        *,
        in_flight: InFlight,
        advice: Callable[[], Iterable[tuple[str, Advised]]],
    ) -> None:
        self._around = around
        self._client = ControlClient(settings.target, timeout=settings.ollama_timeout)
        self._contexts = LoadOptions()
        self._pilot = AutopilotRunner(acts, advice, around.reporter)
        self._aliases = SharedBlobs(self._client)
        self._warm = KeepWarmRunner(
            settings.keep_warm, self._client, acts, self._contexts, self._aliases, around
        )
        self.defaults = DefaultsApplier(
            Rules(()),
            self._client,
            in_flight,
            acts,
            self._contexts,
            view=around.view,
            timeline=around.timeline,
            reporter=around.reporter,
            aliases=self._aliases,
        )
        self._wanted = asyncio.Event()
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """Apply settings: the first ones, or those of a reload."""
        self._warm.take(settings.keep_warm)
        self._pilot.take(settings.autopilot)
        self.defaults.rules = Rules(settings.defaults, settings.autopilot, self._pilot.given)
        if self.defaults.is_active and not settings.proxy_addresses:
            logger.warning("Defaults have no effect: set --proxy.listen-address")
        self._wanted.set()

    def saw(self, events: tuple[Event, ...], view: View) -> None:
        """Take what a poll showed."""
        self._warm.saw(events, view)

    async def _learn(self) -> None:
        """Know which names share a runner before requests for them come."""
        while True:
            installed = self._around.server().installed
            if self.defaults.is_active and installed is not None:
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
            asyncio.create_task(self._pilot.run()),
            asyncio.create_task(self._learn()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.defaults.aclose()
            await self._client.aclose()
