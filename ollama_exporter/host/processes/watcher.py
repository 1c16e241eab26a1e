# SPDX-License-Identifier: Apache-2.0
"""Watches the processes of one server: births by scans, deaths at once, each told as a fact.

A scan asks for the server's children and looks at those that are new. Where deaths cannot be
noticed at once, it looks at everybody who is known as well.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from ollama_exporter.clock import Timeline
from ollama_exporter.host.processes.choose_server import AMBIGUOUS
from ollama_exporter.host.processes.find_server import Search, ServerPlace
from ollama_exporter.host.processes.pidfd import PidfdWatch
from ollama_exporter.host.processes.reader import Process, Reader, Usage
from ollama_exporter.host.processes.table import ProcessTable
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.facts import ProcessesSeen

SCAN: Final = 1.0
SOON: Final = 0.05  # after a death the next birth is often a matter of milliseconds
PATIENCE: Final = 5.0  # a server that answers is found again within this, or it is hidden
logger = logging.getLogger(__name__)


class ProcessWatcher:
    """Runs until it is cancelled.

    `up`: whether the server answers polls; `listed`: the weights that it lists, as far as known;
    `prepare` is awaited before the first process is told; `every`: seconds between two looks.
    """

    def __init__(
        self,
        reader: Reader,
        place: ServerPlace,
        *,
        reporter: Reporter,
        timeline: Timeline,
        up: Callable[[], bool],
        listed: Callable[[], frozenset[str]],
        prepare: Callable[[], Awaitable[None]],
        every: float = SCAN,
    ) -> None:
        self._reader, self._search = reader, Search(reader, place)
        self._reporter, self._timeline = reporter, timeline
        self._up, self._listed = up, listed
        self._prepare, self._every = prepare, every
        self._census, self._deaths = ProcessTable(), PidfdWatch(possible=not reader.slow)
        self._wake = asyncio.Event()
        self._seen: bool | None = None  # what was told last; None: nothing yet
        self._missing_since: float | None = None  # the server answers and is not to be found
        self._said = ""  # why they are not seen
        self._level = logging.WARNING if place.insist else logging.INFO
        self.names_wanted = asyncio.Event()  # only then it is worth asking for weights

    @property
    def seen(self) -> bool:
        """Whether the server's processes are seen."""
        return self._seen is True

    def runners(self) -> list[Process]:
        """Return the runners that live."""
        return self._census.runners()

    def by_pid(self) -> dict[int, Process]:
        """Return the living runners by pid."""
        return {process.pid: process for process in self.runners()}

    def usage(self, pid: int) -> Usage | None:
        """Return what a runner has used."""
        process = self._census.process(pid)
        return None if process is None else self._reader.usage(process)

    async def run(self) -> None:
        """Watch."""
        try:
            while True:
                self._wake.clear()
                found = None
                if self._census.server is None and self._search.due(
                    self._timeline.now(), up=self._up()
                ):
                    found = await self._find()
                await self._scan(found)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._every):
                        await self._wake.wait()
                        await asyncio.sleep(SOON)
        except Exception:
            # A defect of ours: the polls go on, and nothing may be concluded from what is not seen.
            self._reporter.error()
            self._not_found(self._timeline.now(), "a defect of the exporter")
            logger.exception("Processes could not be watched")
        finally:
            self._deaths.close()

    # -- the server ------------------------------------------------------------------------------

    async def _find(self) -> float | None:
        """Search for the server; say what came of it, if that is news. Return when it was found."""
        choice = await self._search.choose(self._timeline.now(), self._listed())
        chosen, now = choice.process, self._timeline.now()
        if chosen is not None:
            await self._prepare()
            now = self._timeline.now()
            if self._hold(chosen.pid) == chosen:
                self._found(now, chosen)
                return now
            self._deaths.release(chosen.pid)
            return None
        if choice.why == AMBIGUOUS:
            self.names_wanted.set()
        if not self._up():
            self._missing_since = None
            return None
        if self._missing_since is None:
            self._missing_since = now
        if self._seen is None or now - self._missing_since >= PATIENCE:
            self._not_found(now, self._reader.why_hidden() or choice.why)
        return None

    def _found(self, now: float, server: Process) -> None:
        if not self.seen:
            self._seen = True
            self._reporter.fact(ProcessesSeen(now, seen=True))
            logger.info("Processes are watched", extra={"pid": server.pid})
        self._said, self._missing_since = "", None
        self._search.hurry()  # for the day that it dies
        self.names_wanted.set()
        for fact in self._census.start(now, server):
            self._reporter.fact(fact)
        if self._deaths.holds(server.pid):
            self._deaths.watch(server.pid, self._died)

    def _not_found(self, now: float, why: str) -> None:
        if self._seen is not False:
            self._reporter.fact(ProcessesSeen(now, seen=False))
        self._seen = False
        self._census = ProcessTable()  # whoever is found later is told anew
        self._deaths.close()
        if why != self._said:
            self._said = why
            logger.log(self._level, "Processes are not watched", extra={"why": why})

    # -- births and deaths -----------------------------------------------------------------------

    async def _scan(self, found: float | None) -> None:
        """Tell what changed; right after the server was found, as of that moment."""
        seen = await asyncio.to_thread(self._read) if self._reader.slow else self._read()
        now = self._timeline.now() if found is None else found
        for pid, process in seen.known.items():
            for fact in self._census.confirm(now, pid, process):
                self._reporter.fact(fact)
        for child in seen.new:
            for fact in self._census.born(now, child):
                self._reporter.fact(fact)
            if not self._census.holds(child.pid):
                self._deaths.release(child.pid)
            elif self._deaths.holds(child.pid):
                self._deaths.watch(child.pid, self._died)

    def _read(self) -> "_Seen":
        """Read what a scan needs."""
        server, held = self._census.server, self._census.pids()
        seen = _Seen({p: self._reader.look(p) for p in held if not self._deaths.holds(p)}, [])
        children = () if server is None else self._reader.children(server.pid) or ()
        for pid in children:
            if pid in held:
                continue
            child = self._hold(pid)
            if child is not None and server is not None and child.parent == server.pid:
                seen.new.append(child)
            else:
                self._deaths.release(pid)
        return seen

    def _hold(self, pid: int) -> Process | None:
        """Look at a process with its death in hand: what is read is then surely its own."""
        self._deaths.hold(pid)
        process = self._reader.look(pid)
        if process is None or self._deaths.dead(pid):
            self._deaths.release(pid)
            return None
        return process

    def _died(self, pid: int) -> None:
        for fact in self._census.died(self._timeline.now(), pid):
            self._reporter.fact(fact)
        self._wake.set()


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a scan read: those who are known, and children who are not."""

    known: dict[int, Process | None]
    new: list[Process]
