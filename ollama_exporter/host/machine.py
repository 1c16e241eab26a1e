# SPDX-License-Identifier: Apache-2.0
"""Local evidence about one server: its processes and its log, as the settings ask for them."""

import asyncio
import logging
import os
import platform
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from ollama_exporter.clock import Timeline
from ollama_exporter.config.schema import Settings
from ollama_exporter.config.target import SCHEME_PORTS, is_loopback
from ollama_exporter.host.blob_lookup import BlobLookup, ShowClient
from ollama_exporter.host.log.follower import LogFollower
from ollama_exporter.host.log.late_loads import LateLoad, LateLoads
from ollama_exporter.host.log.unit_journal import journal_of
from ollama_exporter.host.processes.find_server import ServerAddress
from ollama_exporter.host.processes.load_progress import load_progress
from ollama_exporter.host.processes.procfs import ProcFs
from ollama_exporter.host.processes.reader import Reader, Usage
from ollama_exporter.host.processes.watcher import ProcessWatcher
from ollama_exporter.host.runner.slot_usage import BriefUse, ModelTotals, RunnerSight, SlotUse
from ollama_exporter.host.runner.slot_watcher import SlotLook, SlotWatcher
from ollama_exporter.protocol.wire import InstalledModel, RunningModel
from ollama_exporter.reporter import Reporter, ignore
from ollama_exporter.residency.events import Event, Loaded
from ollama_exporter.residency.facts import Fact, LogSaid

OFF: Final = "off"
AUTO: Final = "auto"  # of the log: the journal of the server's unit
LINUX: Final = platform.system() == "Linux"
JUST_BORN: Final = 3.0  # seconds after its start in which a runner is certainly loading
FIRST_PAUSE: Final = 1.0  # seconds after an internal error, doubled each time
LONGEST_PAUSE: Final = 300.0
logger = logging.getLogger(__name__)


class Machine:
    """Runs beside the poller and reports facts to it. Give it what the poller learns.

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
        on_slot_use: Callable[[SlotUse | BriefUse], None] | None = None,
        on_late_load: Callable[[LateLoad], None] = ignore,
        proc: str = "/proc",
    ) -> None:
        self._timeline, self._reporter = timeline, reporter
        self._listed = 0  # models in the last poll
        self._sizes: dict[str, int] = {}  # of the installed models, bytes on disk
        self._why_not = why_not_watched(settings)
        self._proc = proc
        self._lookup = BlobLookup(
            client, reporter=reporter, timeline=timeline, loading=self._is_loading
        )
        if settings.proxy_addresses:
            self._lookup.start()  # a request may be for another name of a resident model
        self._watcher: ProcessWatcher | None = None
        if not self._why_not:
            self._watcher = ProcessWatcher(
                process_reader(timeline),
                server_address(settings),
                self._lookup,
                reporter=reporter,
                timeline=timeline,
                up=up,
            )
        self.on_slot_look: list[Callable[[SlotLook], None]] = []  # each hears of each look
        self._slots: SlotWatcher | None = None
        if self._watcher is not None and settings.collector_runner != OFF:
            self._slots = SlotWatcher(
                now=timeline.now,
                listed=runners_at_work,
                runners=self._watcher.by_pid,
                on_use=on_slot_use,
                on_look=self._tell_look,
            )
        self._late, self._on_late_load = LateLoads(self._lookup.weights), on_late_load
        self._log: LogFollower | None = None
        self._finds_log = settings.ollama_log == AUTO
        if settings.ollama_log not in (OFF, AUTO):
            self._log = self._follower(settings.ollama_log, wanted=True)

    @property
    def why_not(self) -> str:
        """Why processes are not watched now; empty: they are."""
        return self._why_not if self._watcher is None else self._watcher.why_not

    @property
    def is_searching(self) -> bool:
        """Whether the server's process is watched as soon as it is found."""
        return self._watcher is not None

    @property
    def is_asking_runners(self) -> bool:
        """Whether runners are asked for their slots."""
        return self._slots is not None

    @property
    def log_lines(self) -> Mapping[str, int] | None:
        """Lines of the log by level; None: no log is followed."""
        return None if self._log is None else self._log.counts

    def runners(self) -> Iterable[RunnerSight]:
        """Return what is seen of each resident runner."""
        return () if self._slots is None else self._slots.sights()

    def runner_totals(self) -> Iterable[tuple[str, ModelTotals]]:
        """Return what was counted at the slots of each model since the start."""
        return () if self._slots is None else self._slots.totals()

    @property
    def log_understood(self) -> bool | None:
        """Whether the lines of the log can be read; None: no line of a server was seen yet."""
        return None if self._log is None else self._log.is_understood

    def usage(self, pid: int) -> Usage | None:
        """Return what a runner uses; None: it is gone or not visible."""
        return None if self._watcher is None else self._watcher.usage(pid)

    def load_progress(self, model: str, pid: int) -> float | None:
        """Return the share of a model that its runner has read; None: not visible."""
        size, used = self._sizes.get(model), self.usage(pid)
        return load_progress(used, size) if size and used is not None else None

    def weights(self, digest: str) -> str | None:
        """Return the weights of a digest: empty if it has none, None if they are not known."""
        return self._lookup.weights(digest)

    def on_listing(self, models: Sequence[RunningModel]) -> None:
        """Note what a poll lists."""
        self._listed = len(models)
        self._lookup.on_listing(models)
        self._settle_late_loads()  # weights may have become known

    def on_event(self, event: Event) -> None:
        """Note a load: its line of the log may be read later."""
        if self._log is not None and isinstance(event, Loaded):
            self._late.on_loaded(event)
            self._settle_late_loads()

    def _on_log_fact(self, fact: Fact) -> None:
        self._reporter.fact(fact)
        if isinstance(fact, LogSaid):
            self._late.on_line(fact)
            self._settle_late_loads()

    def _settle_late_loads(self) -> None:
        for load in self._late.settle(self._timeline.now()):
            self._on_late_load(load)

    def on_installed(self, models: Sequence[InstalledModel]) -> None:
        """Note which models are installed."""
        self._sizes = {each.name: each.size for each in models if not each.remote}
        self._lookup.on_installed(models)

    def _tell_look(self, look: SlotLook) -> None:
        for listener in self.on_slot_look:
            listener(look)

    async def run(self) -> None:
        """Watch and follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self._watcher is None:
                logger.info("Not watching processes", extra={"why": self._why_not})
            else:
                group.create_task(self._watcher.run())
            group.create_task(self._keep_running(self._lookup.run))
            if self._slots is not None:
                group.create_task(self._keep_running(self._slots.run))
            if self._log is not None:
                group.create_task(self._keep_running(self._log.run))
            if self._finds_log and self._watcher is not None:
                group.create_task(self._keep_running(partial(self._follow_unit, self._watcher)))

    async def _follow_unit(self, watcher: ProcessWatcher) -> None:
        """Follow the journal of the unit under which the server runs, once its process is known."""
        if self._log is None:
            source, why = await self._find_journal(watcher)
            if source is None:
                logger.info("Not following a log", extra={"why": why})
                await asyncio.Event().wait()
                return
            logger.info("Found the log of the server", extra={"source": source, "why": why})
            self._log = self._follower(source, wanted=False)
        await self._log.run()

    def _follower(self, source: str, *, wanted: bool) -> LogFollower:
        """Return what follows a log; `wanted`: somebody has named it."""
        self._lookup.start()  # the log names weights, and not always models
        told = replace(self._reporter, fact=self._on_log_fact)
        return LogFollower(source, reporter=told, timeline=self._timeline, wanted=wanted)

    async def _find_journal(self, watcher: ProcessWatcher) -> tuple[str | None, str]:
        while (pid := watcher.server_pid) is None:  # noqa: ASYNC110 - a search that may take minutes
            await asyncio.sleep(FIRST_PAUSE)
        return journal_of(pid, root=self._proc)

    async def _keep_running(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` for ever. Count and log an internal error, and begin again after a pause."""
        pause = FIRST_PAUSE
        while True:
            begun = self._timeline.now()
            try:
                await work()
            except OSError as err:  # no file may be opened any more, say
                logger.warning("Local evidence cannot be read", extra={"err": str(err)})
            except Exception:
                self._reporter.error()
                logger.exception("Failed to read local evidence")
            if self._timeline.now() - begun > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _is_loading(self) -> bool:
        """Return whether the server loads: a runner is not listed yet, or has just started."""
        if self._log is not None and self._log.is_loading():
            return True
        if self._watcher is None:
            return False
        runners = self._watcher.runners()
        youngest = max((runner.born for runner in runners), default=0.0)
        return len(runners) > self._listed or self._timeline.now() - youngest < JUST_BORN


def why_not_watched(settings: Settings) -> str:
    """Return why processes are not watched; empty: they are."""
    if settings.collector_processes == OFF:
        return "--collector.processes=off"
    if settings.collector_processes == AUTO and not is_loopback(settings.ollama_url):
        return (
            "the server is not on loopback; set --collector.processes=on if it is on this machine"
        )
    if LINUX and not os.access("/proc/self/stat", os.R_OK):
        return "/proc is missing or not readable"
    return ""


def process_reader(timeline: Timeline) -> Reader:
    """Return the reader of processes for this system."""
    if LINUX:
        return ProcFs(timeline.now)
    from ollama_exporter.host.processes.psutil_reader import PsutilReader  # noqa: PLC0415 - psutil is installed only there

    return PsutilReader(timeline)


def server_address(settings: Settings) -> ServerAddress:
    """Return where the polls go."""
    parts = urlsplit(settings.ollama_url)
    port = parts.port or SCHEME_PORTS[parts.scheme]
    on_this_machine = settings.collector_processes == "on"
    return ServerAddress(parts.hostname or "", port, on_this_machine=on_this_machine)
