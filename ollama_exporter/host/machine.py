# SPDX-License-Identifier: Apache-2.0
"""What this machine shows of one server, put together from the settings: processes and log."""

import asyncio
import logging
import os
import platform
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from ollama_exporter.clock import Timeline
from ollama_exporter.config.load import Settings
from ollama_exporter.config.target import SCHEME_PORTS, is_loopback
from ollama_exporter.host.blob_lookup import BlobLookup, ShowClient
from ollama_exporter.host.log.follower import LogFollower
from ollama_exporter.host.processes.find_server import ServerPlace
from ollama_exporter.host.processes.procfs import ProcFs
from ollama_exporter.host.processes.reader import Reader, Usage
from ollama_exporter.host.processes.watcher import ProcessWatcher
from ollama_exporter.host.runner.slot_usage import ModelTotals, RunnerSight
from ollama_exporter.host.runner.slot_watcher import SlotWatcher
from ollama_exporter.protocol.wire import InstalledModel, RunningModel
from ollama_exporter.reporter import Reporter

LINUX: Final = platform.system() == "Linux"
JUST_BORN: Final = 3.0  # seconds after a birth in which the server surely loads
logger = logging.getLogger(__name__)


class Machine:
    """Local evidence of one target: run it beside the poller, and hand it what that learns.

    `up`: whether the server answers polls; `runners_at_work`: model and pid of each runner that is
    listed and not loading.
    """

    def __init__(
        self,
        settings: Settings,
        client: ShowClient,
        *,
        reporter: Reporter,
        timeline: Timeline,
        up: Callable[[], bool],
        runners_at_work: Callable[[], Iterable[tuple[str, int]]] = tuple,
    ) -> None:
        self._timeline, self._reporter = timeline, reporter
        self._listed = 0  # models, by the last poll
        self._why_not = why_not(settings)
        self._naming = BlobLookup(
            client, reporter=reporter, timeline=timeline, loading=self._loading
        )
        self._watcher = None
        if not self._why_not:
            self._watcher = ProcessWatcher(
                reader(timeline),
                place(settings),
                reporter=reporter,
                timeline=timeline,
                up=up,
                listed=self._naming.resident,
                prepare=self._prepare,
            )
        self._slots = None
        if self._watcher is not None and settings.collector_runner != "off":
            self._slots = SlotWatcher(
                now=timeline.now, listed=runners_at_work, runners=self._watcher.by_pid
            )
        self._log = None
        if settings.ollama_log is not None:
            self._log = LogFollower(settings.ollama_log, reporter=reporter, timeline=timeline)

    @property
    def log_lines(self) -> Mapping[str, int] | None:
        """Lines of the log by level; None: it is not followed."""
        return None if self._log is None else self._log.counts

    def runners(self) -> Iterable[RunnerSight]:
        """Return what is seen of each resident runner."""
        return () if self._slots is None else self._slots.sights()

    def runner_totals(self) -> Iterable[tuple[str, ModelTotals]]:
        """Return what was counted at the slots of each model since the start."""
        return () if self._slots is None else self._slots.totals()

    def usage(self, pid: int) -> Usage | None:
        """Return what a runner has used; None: it is gone, or not seen."""
        return None if self._watcher is None else self._watcher.usage(pid)

    def listed(self, models: Sequence[RunningModel]) -> None:
        """Take what a poll lists."""
        self._listed = len(models)
        self._naming.listed(models)

    def installed(self, models: Sequence[InstalledModel]) -> None:
        """Take what is installed."""
        self._naming.installed(models)

    async def run(self) -> None:
        """Watch and follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self._watcher is None:
                logger.info("Processes are not watched", extra={"why": self._why_not})
            else:
                group.create_task(self._watcher.run())
                group.create_task(self._guarded(self._name(self._watcher)))
            if self._slots is not None:
                group.create_task(self._guarded(self._slots.run()))
            if self._log is not None:
                group.create_task(self._guarded(self._log.run()))

    async def _prepare(self) -> None:
        """Have names before processes, the first time: later ones are known or asked for."""
        if self._watcher is not None and not self._watcher.names_wanted.is_set():
            await self._naming.catch_up()

    async def _name(self, watcher: ProcessWatcher) -> None:
        await watcher.names_wanted.wait()
        await self._naming.run()

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it; a defect of ours in it ends it alone, counted and logged."""
        try:
            await work
        except Exception:
            self._reporter.error()
            logger.exception("Local evidence failed in a way that was not foreseen")

    def _loading(self) -> bool:
        """Tell whether the server loads: a process is not listed yet, or was born just now."""
        if self._watcher is None:
            return False
        runners = self._watcher.runners()
        youngest = max((runner.born for runner in runners), default=0.0)
        return len(runners) > self._listed or self._timeline.now() - youngest < JUST_BORN


def why_not(settings: Settings) -> str:
    """Return why processes are not to be watched; empty: they are."""
    if settings.collector_processes == "off":
        return "--collector.processes=off"
    if settings.collector_processes == "auto" and not is_loopback(settings.ollama_url):
        return "the server is not on loopback; --collector.processes=on if it is on this machine"
    if LINUX and not os.access("/proc/self/stat", os.R_OK):
        return "there is no /proc"
    return ""


def reader(timeline: Timeline) -> Reader:
    """Return what reads processes on this system."""
    if LINUX:
        return ProcFs(timeline.now)
    from ollama_exporter.host.processes.psutil_reader import PsutilReader  # noqa: PLC0415 - psutil is there only then

    return PsutilReader(timeline)


def place(settings: Settings) -> ServerPlace:
    """Return where the polls go."""
    parts = urlsplit(settings.ollama_url)
    port = parts.port or SCHEME_PORTS[parts.scheme]
    return ServerPlace(parts.hostname or "", port, insist=settings.collector_processes == "on")
