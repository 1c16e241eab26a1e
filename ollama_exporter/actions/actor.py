# SPDX-License-Identifier: Apache-2.0
"""Composes what the exporter does to its server. Without sections in the file it does nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Final

from ollama_exporter.actions.autopilot import AutopilotRunner, KeepAliveAdvice
from ollama_exporter.actions.controlled_server import ActionClient, ActionContext, ControlledServer
from ollama_exporter.actions.defaults.apply import DefaultsApplier
from ollama_exporter.actions.defaults.rewrite_rules import Rules
from ollama_exporter.actions.keep_warm.run import KeepWarmRunner
from ollama_exporter.actions.load_options import LoadOptions
from ollama_exporter.actions.saved_actions import SavedActions
from ollama_exporter.actions.shared_blobs import SharedBlobs
from ollama_exporter.config.schema import Settings
from ollama_exporter.metrics.action_metrics import ActionMetrics
from ollama_exporter.protocol.wire import InstalledModel
from ollama_exporter.residency.events import Event, View
from ollama_exporter.shim.in_flight import InFlight

RESOLVE_AGAIN: Final = 5.0  # seconds until names are asked for again that had no answer
logger = logging.getLogger(__name__)


class Actor:
    """Keep-warm, the proxy's defaults and the autopilot of one exporter."""

    def __init__(
        self,
        settings: Settings,
        metrics: ActionMetrics,
        context: ActionContext,
        client: ActionClient,
        *,
        in_flight: InFlight,
        advice: Callable[[], Iterable[tuple[str, KeepAliveAdvice]]],
    ) -> None:
        self._context = context
        blobs = SharedBlobs(client)
        options = LoadOptions(blobs.runner_key)
        self._server = ControlledServer(client, blobs, options, context)
        self._autopilot = AutopilotRunner(metrics, advice, context.reporter)
        self._keep_warm = KeepWarmRunner(settings.keep_warm, self._server, metrics)
        self.defaults = DefaultsApplier(Rules(()), self._server, in_flight, metrics)
        self._local: dict[str, int] = {}  # size on disk of the installed models; not of remote ones
        self._names_changed = asyncio.Event()
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """Put settings in force: the first ones, or those of a reload."""
        self._keep_warm.apply_settings(settings.keep_warm)
        self._autopilot.apply_settings(settings.autopilot)
        self.defaults.apply_rules(
            Rules(settings.defaults, settings.autopilot, self._autopilot.value)
        )
        if self.defaults.is_active and not settings.proxy_addresses:
            logger.warning("Defaults have no effect: set --proxy.listen-address")
        self._names_changed.set()

    def saved(self) -> SavedActions:
        """Return what the next process must know."""
        return SavedActions(self._keep_warm.saved(), self._server.options.saved())

    def restore(self, saved: SavedActions) -> None:
        """Go on where an earlier process ended."""
        self._keep_warm.restore(saved.keep_warm)
        self._server.options.restore(saved.options)

    def on_change(self, events: tuple[Event, ...], view: View) -> None:
        """Hear what a poll or another fact showed."""
        for event in events:
            self._server.options.on_event(event)
        self._keep_warm.on_change(events, view)

    def on_installed(self, models: tuple[InstalledModel, ...]) -> None:
        """Hear which models are installed."""
        self._server.blobs.on_installed(models)
        self._local = {model.name: model.size for model in models if not model.remote}
        self._keep_warm.on_installed(models)
        self._names_changed.set()

    async def _resolve_names(self) -> None:
        """Resolve which names share a runner before requests for them arrive."""
        blobs = self._server.blobs
        while True:
            self._names_changed.clear()
            again = None
            if self.defaults.is_active:
                local = self._local
                await blobs.resolve(local.items())
                self.defaults.log_lowered_contexts(local)
                again = None if all(map(blobs.is_resolved, local)) else RESOLVE_AGAIN
            with suppress(TimeoutError):
                async with asyncio.timeout(again):
                    await self._names_changed.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Act until the block ends."""
        tasks = [
            asyncio.create_task(self._keep_warm.run()),
            asyncio.create_task(self._autopilot.run()),
            asyncio.create_task(self._resolve_names()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.defaults.aclose()
            await self._server.client.aclose()
