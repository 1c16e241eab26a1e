# SPDX-License-Identifier: Apache-2.0
"""Probes of URLs at an exporter of one server: off, and not even imported, without a list."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ollama_exporter.clock import Timeline
from ollama_exporter.config.schema import Settings
from ollama_exporter.errors import ProbeRefusedError, UnknownTargetError
from ollama_exporter.fleet.allow_list import PROBES_OFF
from ollama_exporter.metrics.collectors.exporter_collector import ExporterCollector
from ollama_exporter.web.probes import Probed

if TYPE_CHECKING:
    from ollama_exporter.watched_fleet import WatchedFleet


class FreeProbes:
    """Builds a fleet without named targets once `probe.allow` lists something."""

    def __init__(self, settings: Settings, exporter: ExporterCollector, timeline: Timeline) -> None:
        self._exporter, self._timeline = exporter, timeline
        self._wanted = asyncio.Event()
        self._fleet: WatchedFleet | None = None
        self.allow(settings)

    def allow(self, settings: Settings) -> None:
        """Put a list in force."""
        if self._fleet is not None:
            self._fleet.allow(settings)
        elif settings.probe_allow:
            from ollama_exporter.watched_fleet import WatchedFleet  # noqa: PLC0415 - 22 ms

            self._fleet = WatchedFleet(settings, self._exporter, self._timeline)
            self._wanted.set()

    async def find(self, target: str) -> Probed:
        """Return a target of a list; see WatchedFleet."""
        if self._fleet is not None:
            return await self._fleet.find(target)
        if "://" not in target:
            raise UnknownTargetError(target)
        self._exporter.probes_refused.add()
        raise ProbeRefusedError(PROBES_OFF)

    def discovered(self) -> Iterable[tuple[str, Mapping[str, str]]]:
        """Return nothing: targets have no names here."""
        return ()

    async def run(self) -> None:
        """Poll what is probed until cancelled."""
        await self._wanted.wait()
        assert self._fleet is not None  # noqa: S101 - it was built just before
        await self._fleet.run()
