# SPDX-License-Identifier: Apache-2.0
"""The exporter of several targets: `/probe` serves them, `/metrics` the exporter itself."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from ollama_exporter.clock import Timeline
from ollama_exporter.config.reload import CurrentSettings, Reload
from ollama_exporter.config.schema import Settings
from ollama_exporter.metrics.collectors.exporter_collector import ExporterCollector, LogCounter
from ollama_exporter.metrics.registry import build_of_fleet
from ollama_exporter.story.fleet_document import FleetDocument, fleet_document
from ollama_exporter.watched_fleet import WatchedFleet
from ollama_exporter.web.app import Parts
from ollama_exporter.web.locks.locks import Locks

logger = logging.getLogger(__name__)


class FleetExporter:
    """All parts of an exporter that watches several targets."""

    def __init__(
        self,
        settings: Settings,
        *,
        log_lines: LogCounter,
        reread: Callable[[], Settings] | None,
        timeline: Timeline | None = None,
    ) -> None:
        """Raise ConfigError if a file of a target, or of targets, cannot be used."""
        self.current = CurrentSettings(settings)
        self._timeline = timeline = timeline or Timeline()
        self._exporter = ExporterCollector(
            log_lines=log_lines,
            targets=lambda: self.fleet.count,
            files_rejected=lambda: self.fleet.files_rejected,
        )
        self.fleet = WatchedFleet(settings, self._exporter, timeline)
        self.fleet.check(settings)
        self._registry = build_of_fleet(
            self._exporter, runtime=not settings.disable_exporter_metrics
        )
        self.reload = Reload(
            current=self.current,
            reread=reread,
            check=self.fleet.check,
            apply=self._apply,
            metrics=self._exporter,
            wall=timeline.wall_now,
            log_lines=log_lines,
        )
        self._exporter.reloaded(at=timeline.wall_now())
        self._applying: set[asyncio.Task[None]] = set()

    def parts(self) -> Parts:
        """Return what the routes need."""
        return Parts(
            registry=self._registry,
            feed=self.fleet.feed,
            fleet=self._in_short,
            reload=self.reload,
            telemetry_path=self.current.settings.telemetry_path,
            max_requests=lambda: self.current.settings.max_requests,
            probes=self.fleet,
            on_announced=self.fleet.on_announced,
            lifecycle=lambda: self.current.settings.enable_lifecycle,
        )

    def _in_short(self) -> FleetDocument:
        now = self._timeline.now()
        skew = self._timeline.wall(now) - now
        return fleet_document(self.fleet.rows(), now=now, skew=skew, hide=self.fleet.hidden)

    def locks(self) -> Locks | None:
        """Return the locks of our own port; None without their file. Raises ConfigError."""
        file = self.current.settings.web_config_file
        return Locks.of(file, metrics=self._exporter, now=self._timeline.now)

    @asynccontextmanager
    async def polling(self) -> AsyncIterator[asyncio.Task[None]]:
        """Poll inside the block. At its end, write the states and close the connections."""
        task = asyncio.create_task(self.fleet.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, *self._applying, return_exceptions=True)
            if not task.cancelled():
                task.result()  # an exporter that does not poll must not look healthy

    def _apply(self, settings: Settings) -> None:
        task = asyncio.get_running_loop().create_task(self.fleet.apply(settings))
        self._applying.add(task)
        task.add_done_callback(self._applied)

    def _applied(self, task: asyncio.Task[None]) -> None:
        self._applying.discard(task)
        if not task.cancelled() and (err := task.exception()) is not None:
            self._exporter.errors.inc()
            logger.error("Failed to apply all targets of the new configuration", exc_info=err)
