# SPDX-License-Identifier: Apache-2.0
"""All targets of one process: those of the configuration, and those that free probes ask for."""

import asyncio
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm
from ollama_exporter.clock import Timeline
from ollama_exporter.config.schema import Settings
from ollama_exporter.config.target import Target
from ollama_exporter.errors import (
    ConfigError,
    ProbeRefusedError,
    TargetError,
    TooManyTargetsError,
    UnknownTargetError,
)
from ollama_exporter.fleet.allow_list import PROBES_OFF, Allowed, allow_list, parse_probe_url
from ollama_exporter.fleet.checked_address import CheckedAddresses
from ollama_exporter.fleet.poll_queue import PollQueue, first_polls
from ollama_exporter.fleet.settled_heap import SettledHeap
from ollama_exporter.fleet.target_client import SharedByTargets, TargetClient
from ollama_exporter.fleet.target_files import INTERVAL, TargetFolder
from ollama_exporter.fleet.target_section import TargetSettings, shared_addresses
from ollama_exporter.foreign_text import clean
from ollama_exporter.metrics.collectors.exporter_collector import ExporterCollector
from ollama_exporter.metrics.hidden_names import hidden_names
from ollama_exporter.poller.announced_requests import Announced
from ollama_exporter.poller.published import Published
from ollama_exporter.watched_target import FleetContext, WatchedTarget, state_file_of_target
from ollama_exporter.web.page.live_feed import LiveFeed

MOST_FREE: Final = 200  # targets of free probes at a time
FORGOTTEN: Final = 300.0  # seconds after its last probe, such a target is polled no more
FIRST_CHECK: Final = 5.0  # seconds to resolve the name of a free probe
SAVE_ALL: Final = 300.0  # seconds in which the state of each target is written once
LEAST_SAVE: Final = 0.05  # seconds between two of them
LAST_SAVES: Final = 10.0  # seconds for all of them at the end
BUILT_AT_ONCE: Final = 20  # new targets in one turn of the loop; each takes a millisecond
PERIOD: Final = 5.0  # seconds between two looks for free targets that nobody asks for
logger = logging.getLogger(__name__)


class WatchedFleet:
    """Keeps a WatchedTarget for each target, and the queue that polls them."""

    def __init__(
        self,
        settings: Settings,
        exporter: ExporterCollector,
        timeline: Timeline,
        *,
        clients: SharedByTargets | None = None,
        most_free: int = MOST_FREE,
    ) -> None:
        """Raise ConfigError if a file of targets cannot be used.

        `clients`: what the clients of all targets share (default: of the settings).
        """
        self._most_free = most_free
        self._settings, self._exporter, self._timeline = settings, exporter, timeline
        clients = clients or SharedByTargets(settings.ollama_timeout)
        self._queue = PollQueue(timeline.now, on_start=self._on_start)
        self.hidden = hidden_names(settings.hide_models, settings.hide_models_key_file)
        self._context = FleetContext(
            clients, exporter, timeline, self._queue.changed, hidden=self.hidden
        )
        self._named: dict[str, WatchedTarget] = {}
        self._free: dict[str, WatchedTarget] = {}
        self._allowed: Sequence[Allowed] = allow_list(settings.probe_allow)
        self._folder: TargetFolder | None = None
        if settings.targets_dir is not None:
            self._folder = TargetFolder(settings.targets_dir, check=self._check)
            self._folder.first_read(each.name for each in settings.targets)
        self._changing, self._heap = asyncio.Lock(), SettledHeap()

    @property
    def files_rejected(self) -> int:
        """The number of files of targets that are not in force."""
        return 0 if self._folder is None else self._folder.rejected

    @property
    def count(self) -> int:
        """The number of targets that the configuration names."""
        return len(self._named)

    @property
    def wanted_count(self) -> int:
        """The number of targets that the configuration names, before they are watched too."""
        return len(self._wanted())

    # -- configuration ---------------------------------------------------------------------------

    def check(self, settings: Settings) -> None:
        """Raise ConfigError if a target of other settings cannot be asked."""
        in_files = {} if self._folder is None else {x.name: x for x in self._folder.targets}
        for each in settings.targets:
            known = self._named.get(each.name)
            if known is None or known.spec != each:
                self._check(each)
            if each.name in in_files:
                place = in_files[each.name].place
                raise ConfigError("targets", each.name, f"it is in {place} as well")

    async def apply(self, settings: Settings) -> None:
        """Put settings in force whose targets were checked."""
        self.allow(settings)
        await self._follow()

    def allow(self, settings: Settings) -> None:
        """Put settings in force as far as they are about free probes."""
        if settings.probe_allow != self._settings.probe_allow:
            self._allowed = allow_list(settings.probe_allow)
            for watched in self._free.values():
                watched.last_probe = -math.inf  # polled no more, also if it is allowed still
        self._settings = settings

    def _check(self, spec: TargetSettings) -> None:
        """Raise ConfigError if a file of a target cannot be used."""
        TargetClient(spec.target, self._context.clients)
        state_file_of_target(self._settings.state_file, spec)

    def _wanted(self) -> dict[str, TargetSettings]:
        in_files = () if self._folder is None else self._folder.targets
        return {each.name: each for each in (*in_files, *self._settings.targets)}

    async def _follow(self) -> None:
        """Add, change and remove targets, so that those of the configuration are watched."""
        async with self._changing:
            wanted = self._wanted()
            gone = [
                name
                for name, watched in self._named.items()
                if name not in wanted or watched.replaces(wanted[name])
            ]
            for name in gone:
                await self._remove(self._named.pop(name))
            changed = 0
            for name, watched in self._named.items():
                spec = wanted[name]
                if watched.spec != spec or watched.base is not self._settings:
                    changed += watched.spec != spec
                    await watched.apply(spec, self._settings)
            added = await self._add(
                spec for name, spec in wanted.items() if name not in self._named
            )
            self._heap.on_change(len(gone) + added, count=len(self._named))
            if gone or added or changed:
                for names in shared_addresses(wanted.values()):
                    logger.warning("Targets have the same address", extra={"targets": names})
                values = {"added": added, "changed": changed, "removed": len(gone)}
                logger.info("Targets changed", extra={**values, "targets": len(self._named)})

    async def _add(self, specs: Iterable[TargetSettings]) -> int:
        new: list[WatchedTarget] = []
        for number, spec in enumerate(specs):
            if number % BUILT_AT_ONCE == 0:
                await asyncio.sleep(0)  # scrapes of the others come in between
            try:
                new.append(WatchedTarget(spec, self._settings, self._context))
                await new[-1].start()
            except ConfigError as err:  # a file was damaged since it was checked
                values = {"target": spec.name, "err": str(err)}
                logger.warning("Target cannot be watched", extra=values)
        moments = first_polls(len(new), now=self._timeline.now())
        for watched, first in zip(new, moments, strict=True):
            self._named[watched.spec.name] = watched
            self._queue.add(watched, first=first)
        return len(new)

    async def _remove(self, watched: WatchedTarget) -> None:
        self._queue.remove(watched)
        await watched.stop()

    # -- what runs -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch all targets until cancelled; then write their states."""
        await self._follow()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forget())
                if self._folder is not None:
                    group.create_task(self._follow_folder(self._folder))
                if self._settings.state_file is not None:
                    group.create_task(self._save_in_turn())
        finally:
            await self._queue.aclose()
            await self._save_all()
            for watched in (*self._named.values(), *self._free.values()):
                await watched.stop()
            self._context.clients.resolver.close()
            self._heap.close()

    async def _follow_folder(self, folder: TargetFolder) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                taken = [each.name for each in self._settings.targets]
                if await asyncio.to_thread(folder.read, taken):
                    await self._follow()
            except Exception:
                self._exporter.errors.inc()
                logger.exception("Failed to follow the files of targets")

    async def _forget(self) -> None:
        """Drop the targets of free probes that nobody asks for, or that are not allowed now."""
        while True:
            await asyncio.sleep(PERIOD)
            before = self._timeline.now() - FORGOTTEN
            for url, watched in list(self._free.items()):
                if watched.last_probe < before:
                    await self._remove(self._free.pop(url))

    async def _save_in_turn(self) -> None:
        while True:
            for watched in list(self._named.values()):
                await asyncio.sleep(max(LEAST_SAVE, SAVE_ALL / len(self._named)))
                await watched.save()
            await asyncio.sleep(PERIOD)

    async def _save_all(self) -> None:
        if self._settings.state_file is None:
            return
        end = self._timeline.now() + LAST_SAVES
        left = list(self._named.values())
        while left and self._timeline.now() < end:
            await left.pop().save()
        if left:
            logger.warning("States of targets not written in time", extra={"targets": len(left)})

    def _on_start(self, late: float) -> None:
        self._exporter.poll_delay.observe(value=late)

    # -- probes ----------------------------------------------------------------------------------

    async def find(self, target: str) -> WatchedTarget:
        """Return a target that a probe asks for, after its first poll or half a second.

        Raises UnknownTargetError, ProbeRefusedError, TooManyTargetsError.
        """
        watched = self._named.get(target)
        if watched is None:
            if "://" not in target:
                raise UnknownTargetError(target)
            try:
                watched = await self._find_free(target)
            except (ProbeRefusedError, TooManyTargetsError):
                self._exporter.probes_refused.add()
                raise
        await watched.refresh()
        return watched

    async def _find_free(self, target: str) -> WatchedTarget:
        if not self._allowed:
            raise ProbeRefusedError(PROBES_OFF)
        url = parse_probe_url(target)
        watched = self._free.get(url.url)
        # Each probe is checked against the list in force. Connections are checked again.
        addresses = (
            CheckedAddresses(url, lambda: self._allowed, self._context.clients.resolver)
            if watched is None or watched.addresses is None
            else watched.addresses
        )
        try:
            async with asyncio.timeout(FIRST_CHECK):
                await addresses.check()
        except (TargetError, TimeoutError) as err:
            raise ProbeRefusedError(f"the host cannot be resolved: {clean(str(err))}") from err
        watched = self._free.get(url.url)  # another probe may have been first meanwhile
        if watched is None:
            if len(self._free) >= self._most_free:
                raise TooManyTargetsError(self._most_free)
            spec = TargetSettings(
                Target(url.url, url.url), expected_models=(), keep_warm=KeepWarm()
            )
            watched = WatchedTarget(spec, self._settings, self._context, addresses=addresses)
            self._free[url.url] = watched
            self._queue.add(watched, first=self._timeline.now())
        return watched

    def on_announced(self, request: Announced) -> bool:
        """Hear what a command on this machine is about to do to one of the targets."""
        heard = [each.announced.on_announced(request) for each in self._named.values()]
        return any(heard)

    def feed(self, target: str) -> LiveFeed | None:
        """Return what the page shows of a target that the configuration names; None: no such."""
        watched = self._named.get(target)
        return None if watched is None else watched.telling.feed

    def rows(self) -> Iterable[tuple[str, Published]]:
        """Yield each target that the configuration names, with what is known of it now."""
        return ((name, watched.published()) for name, watched in self._named.items())

    def close_feeds(self) -> None:
        """End the streams of open pages: the exporter shuts down."""
        for watched in self._named.values():
            watched.telling.feed.close()

    def discovered(self) -> Iterable[tuple[str, Mapping[str, str]]]:
        """Yield name and labels of each target that the configuration names."""
        for name, watched in self._named.items():
            labels = dict(watched.spec.labels)
            yield name, {"instance": name, "__meta_ollama_url": watched.spec.target.url, **labels}
