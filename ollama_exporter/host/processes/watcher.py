# SPDX-License-Identifier: Apache-2.0
"""Watches the processes of one server and reports each start and exit as a fact.

A scan lists the server's children and reads the new ones. Exits are noticed at once where the
system allows it; elsewhere the scan reads every tracked process again.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from msgspec import Struct

from ollama_exporter.clock import Timeline
from ollama_exporter.host.processes.find_server import NotFound, ServerAddress, ServerSearch
from ollama_exporter.host.processes.pidfd import PidfdWatch
from ollama_exporter.host.processes.reader import Process, Reader, Usage
from ollama_exporter.host.processes.table import ProcessTable
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.facts import ProcessesScanned, ProcessesSeen, ProcessStarted

SCAN: Final = 1.0  # seconds between two scans
SOON: Final = 0.05  # seconds from an exit to a scan: the next start is often milliseconds away
FOLLOWED: Final = 8.0  # seconds after an exit in which the server may start what waited for it
AFTER_EXIT: Final = 4  # times as many scans in these seconds
PATIENCE: Final = 5.0  # seconds for which a server may answer before its process is found
FIRST_PAUSE: Final = 1.0  # seconds after an internal error, doubled each time
LONGEST_PAUSE: Final = 300.0
NOT_FOUND_YET: Final = "the server's process is not found yet"
logger = logging.getLogger(__name__)


class WeightsLookup(Protocol):
    """Knows the weights of models."""

    def resident_weights(self) -> frozenset[str]:
        """Return the weights of the listed models, as far as they are known."""

    def start(self) -> None:
        """Begin to look up the weights of all installed models."""

    async def catch_up(self) -> None:
        """Look up the resident models before the first process is reported."""

    def on_runner(self, weights: str) -> None:
        """Notice a runner that was born."""


class ProcessWatcher:
    """Runs until it is cancelled.

    `up`: whether the server answers polls; `every`: seconds between two scans.
    """

    def __init__(
        self,
        reader: Reader,
        address: ServerAddress,
        lookup: WeightsLookup,
        *,
        reporter: Reporter,
        timeline: Timeline,
        up: Callable[[], bool],
        every: float = SCAN,
    ) -> None:
        self._reader, self._search = reader, ServerSearch(reader, address)
        self._address, self._lookup = address, lookup
        self._reporter, self._timeline, self._up = reporter, timeline, up
        self._every, self._pause = every, FIRST_PAUSE
        self._table, self._pidfds = ProcessTable(), PidfdWatch(possible=reader.pidfds)
        self._wake = asyncio.Event()
        self._visible: bool | None = None  # as reported last; None: not reported yet
        self._missing_since: float | None = None  # the server answers without a visible process
        self._exit_at = -math.inf  # of the latest exit
        self._logged_why = ""
        self._level = logging.WARNING if address.on_this_machine else logging.INFO

    @property
    def is_visible(self) -> bool:
        """Whether the server's processes are visible."""
        return self._visible is True

    @property
    def why_not(self) -> str:
        """Why nothing is watched now; empty: the server's processes are watched."""
        return "" if self.is_visible else self._logged_why or NOT_FOUND_YET

    @property
    def server_pid(self) -> int | None:
        """The pid of the server; None: it is not known."""
        server = self._table.server
        return None if server is None else server.pid

    def runners(self) -> list[Process]:
        """Return the living runners."""
        return self._table.runners()

    def by_pid(self) -> dict[int, Process]:
        """Return the living runners by pid."""
        return {process.pid: process for process in self.runners()}

    def usage(self, pid: int) -> Usage | None:
        """Return what a runner uses; None: it is gone or not tracked."""
        process = self._table.process(pid)
        return None if process is None else self._reader.usage(process)

    async def run(self) -> None:
        """Watch until cancelled. After an internal error, start again from nothing."""
        try:
            while True:
                try:
                    await self._watch()
                except OSError as err:  # no file may be opened any more, say
                    logger.warning("Processes cannot be watched", extra={"err": str(err)})
                    self._on_not_found(self._timeline.now(), "they cannot be read")
                except Exception:
                    self._reporter.error()
                    logger.exception("Failed to watch processes")
                    # The absence of a process proves nothing now.
                    self._on_not_found(self._timeline.now(), "an internal error")
                await asyncio.sleep(self._pause)
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
        finally:
            self._pidfds.close_all()

    async def _watch(self) -> None:
        """Search and scan until an internal error."""
        while True:
            self._wake.clear()
            found_at = None
            if self._table.server is None and self._search.is_due(
                self._timeline.now(), up=self._up()
            ):
                found_at = await self._find()
            await self._scan(found_at)
            self._pause = FIRST_PAUSE
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every / self._haste()):
                    await self._wake.wait()
                    await asyncio.sleep(SOON)

    def _haste(self) -> int:
        """Return how many scans to make in the time of one: more after an exit."""
        since_exit = self._timeline.now() - self._exit_at
        return AFTER_EXIT if since_exit < FOLLOWED else 1

    # -- the server ------------------------------------------------------------------------------

    async def _find(self) -> float | None:
        """Search for the server. Return when it was found."""
        found = await self._search.find(self._timeline.now(), self._lookup.resident_weights())
        if isinstance(found, NotFound):
            self._on_missing(self._timeline.now(), found)
            return None
        await self._lookup.catch_up()
        now = self._timeline.now()
        if self._open(found.pid) == found:
            self._on_found(now, found)
            return now
        self._pidfds.close(found.pid)
        return None

    def _on_missing(self, now: float, reason: NotFound) -> None:
        if reason is NotFound.AMBIGUOUS:
            self._lookup.start()  # the next search can compare weights
        if not self._up():
            self._missing_since = None
            return
        if self._missing_since is None:
            self._missing_since = now
        if self._visible is None or now - self._missing_since >= PATIENCE:
            why = self._reader.why_hidden() or reason.sentence(self._address)
            self._on_not_found(now, why)

    def _on_found(self, now: float, server: Process) -> None:
        if not self.is_visible:
            self._visible = True
            self._reporter.fact(ProcessesSeen(now, seen=True))
            logger.info("Watching processes", extra={"pid": server.pid})
        self._logged_why, self._missing_since = "", None
        self._search.reset_pause()
        self._lookup.start()
        for fact in self._table.on_server(now, server):
            self._reporter.fact(fact)
        if self._pidfds.is_open(server.pid):
            self._pidfds.call_on_exit(server.pid, self._on_exit)

    def _on_not_found(self, now: float, why: str) -> None:
        if self._visible is not False:
            self._reporter.fact(ProcessesSeen(now, seen=False))
        self._visible = False
        self._table = ProcessTable()  # what is found later is reported again
        self._pidfds.close_all()
        if why != self._logged_why:
            self._logged_why = why
            logger.log(self._level, "Not watching processes", extra={"why": why})

    # -- starts and exits ------------------------------------------------------------------------

    async def _scan(self, found_at: float | None) -> None:
        """Report what changed. The first scan has the moment at which the server was found."""
        began = self._timeline.now()
        seen = await asyncio.to_thread(self._read) if self._reader.slow else self._read()
        now = self._timeline.now() if found_at is None else found_at
        for pid, process in seen.tracked.items():
            for fact in self._table.on_scan(now, pid, process):
                self._reporter.fact(fact)
        for child in seen.new:
            for fact in self._table.on_child(now, child):
                self._reporter.fact(fact)
                if isinstance(fact, ProcessStarted) and fact.weights is not None:
                    self._lookup.on_runner(fact.weights)
            if not self._table.is_tracked(child.pid):
                self._pidfds.close(child.pid)
            elif self._pidfds.is_open(child.pid):
                self._pidfds.call_on_exit(child.pid, self._on_exit)
        if self._table.server is not None:
            self._reporter.fact(ProcessesScanned(max(now, began), began))

    def _read(self) -> "_Scan":
        """Read what a scan needs."""
        server, tracked = self._table.server, self._table.pids()
        unwatched = [pid for pid in tracked if not self._pidfds.is_open(pid)]
        scan = _Scan({pid: self._reader.process(pid) for pid in unwatched}, [])
        children = () if server is None else self._reader.children(server.pid) or ()
        for pid in children:
            if pid in tracked:
                continue
            child = self._open(pid)
            if child is not None and server is not None and child.parent == server.pid:
                scan.new.append(child)
            else:
                self._pidfds.close(pid)
        return scan

    def _open(self, pid: int) -> Process | None:
        """Read a process with its pidfd open, so that what is read belongs to it."""
        self._pidfds.open(pid)
        process = self._reader.process(pid)
        if process is None or self._pidfds.has_exited(pid):
            self._pidfds.close(pid)
            return None
        return process

    def _on_exit(self, pid: int) -> None:
        self._exit_at = self._timeline.now()
        for fact in self._table.on_exit(self._exit_at, pid):
            self._reporter.fact(fact)
        self._wake.set()


class _Scan(Struct, frozen=True):
    """What a scan read: tracked processes without a pidfd, and new children."""

    tracked: dict[int, Process | None]
    new: list[Process]
