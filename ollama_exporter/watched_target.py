# SPDX-License-Identifier: Apache-2.0
"""One target of a fleet: its own client, tracker, counters, registry and state."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from msgspec import Struct, field

from ollama_exporter.actions.actor import Actor
from ollama_exporter.actions.saved_actions import SavedActions
from ollama_exporter.clock import Timeline
from ollama_exporter.config.reload import CurrentSettings
from ollama_exporter.config.schema import Settings
from ollama_exporter.fleet.checked_address import CheckedAddresses
from ollama_exporter.fleet.target_client import SharedByTargets, TargetClient
from ollama_exporter.fleet.target_section import TargetSettings
from ollama_exporter.metrics.collectors.exporter_collector import ExporterCollector
from ollama_exporter.metrics.hidden_names import HiddenNames
from ollama_exporter.metrics.registry import Instruments, build_of_target
from ollama_exporter.poller.announced_requests import AnnouncedRequests
from ollama_exporter.poller.published import Published
from ollama_exporter.protocol.control_client import ControlClient
from ollama_exporter.protocol.malformed_entries import MalformedEntries
from ollama_exporter.server_parts import build_actor, build_polling, build_telling, take_up
from ollama_exporter.shim.in_flight import InFlight
from ollama_exporter.shim.polled_residence import PolledResidence
from ollama_exporter.state_file import LEAST_PAUSE, SavedState, StateFile
from ollama_exporter.web.page.live_feed import ReaderLimit

# After an outage all targets fail together. Each tries again at a moment of its own.
SPREAD: Final = 0.5
FIRST_POLL_WAIT: Final = 0.3  # seconds; with what else a scrape takes, it ends within half a second
STORY_SHARE: Final = 0.05  # 100 kB of the past of each target: there may be a thousand
logger = logging.getLogger(__name__)


class FleetContext(Struct, frozen=True):
    """What all targets of a process share."""

    clients: SharedByTargets
    exporter: ExporterCollector
    timeline: Timeline
    on_due: Callable[["WatchedTarget"], None]
    hidden: HiddenNames | None = None  # what stands for the names of models
    readers: ReaderLimit = field(default_factory=ReaderLimit)  # of open pages


class WatchedTarget:
    """Polls one server when the queue tells it to, and answers its probes."""

    _actor: Actor | None = None  # where keep-warm is configured

    def __init__(
        self,
        spec: TargetSettings,
        settings: Settings,
        context: FleetContext,
        *,
        addresses: CheckedAddresses | None = None,
    ) -> None:
        """Raise ConfigError if a file of the target cannot be used.

        `settings`: of all targets. `addresses`: for a free probe, which has no state file.
        """
        self.spec, self.addresses = spec, addresses
        self.last_probe = context.timeline.now()
        self._context, self.base = context, settings
        self._current = CurrentSettings(settings.of_target(spec), SPREAD)
        file = settings.state_file if addresses is None else None
        self._state_file = state_file_of_target(file, spec)
        malformed, timeline = MalformedEntries(), context.timeline
        self._client = TargetClient(
            spec.target, context.clients, malformed=malformed.add, addresses=addresses
        )
        self._instruments = instruments = Instruments.new(
            timeline,
            context.exporter,
            max_models=settings.max_models,
            hidden=context.hidden,
        )
        self._polling = polling = build_polling(
            self._current,
            self._client,
            instruments,
            timeline,
            target=spec.name,
            on_due=lambda: context.on_due(self),
        )
        self.announced = AnnouncedRequests(polling.reporter.fact, timeline.now, spec.target.url)
        self.telling = telling = build_telling(
            self._current.settings,
            polling,
            instruments,
            timeline,
            limit=context.readers,
            share=STORY_SHARE,
        )
        self._acting, self._save_wanted = AsyncExitStack(), asyncio.Event()
        self._expect()
        self.registry = build_of_target(
            instruments,
            timeline,
            polling.poller.published,
            expected=lambda: polling.expected.labels(self._expected()),
            advice=polling.advice.rows,
            malformed=malformed,
            ranks=telling.ranks,
        )

    # -- the queue -------------------------------------------------------------------------------

    def due(self) -> float:
        """Return the moment of the next poll."""
        return self._polling.poller.due()

    @property
    def is_failing(self) -> bool:
        """Whether the last poll failed."""
        return self._polling.poller.is_failing

    async def turn(self) -> None:
        """Poll, and ask for the inventory now and then."""
        poller = self._polling.poller
        await poller.poll()
        if poller.wants_inventory():
            await poller.refresh_inventory()

    # -- probes ----------------------------------------------------------------------------------

    def published(self) -> Published:
        """Return what is known now."""
        return self._polling.poller.published()

    async def refresh(self) -> None:
        """Wait a moment for the first poll. Later probes are answered at once."""
        self.last_probe = self._context.timeline.now()
        if not self.published().server.polls:
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_POLL_WAIT):
                    await self._polling.poller.refresh()

    # -- configuration ---------------------------------------------------------------------------

    def replaces(self, spec: TargetSettings) -> bool:
        """Return whether another configuration needs another client, and so another tracker."""
        return self.spec.target != spec.target

    async def apply(self, spec: TargetSettings, settings: Settings) -> None:
        """Put another configuration of the same server in force."""
        self.spec, self.base = spec, settings
        self._current.settings = settings.of_target(spec)
        self._expect()
        self._polling.poller.reschedule()
        if self._actor is not None:
            self._actor.apply(self._current.settings)
        else:
            await self._act()

    async def start(self) -> None:
        """Continue where an earlier process ended, and act if keep-warm says so."""
        await self._act()
        if self._state_file is not None:
            past = take_up(
                self._state_file.read(),
                self._polling,
                self._instruments,
                self._actor,
                timeline=self._context.timeline,
            )
            if past is not None:
                self.telling.restore(past)

    async def stop(self) -> None:
        """End what acts, and close the connection and the open pages."""
        self.telling.feed.close()
        await self._acting.aclose()
        await self._client.aclose()

    async def save(self) -> None:
        """Write the state, if there is a file for it, in a thread."""
        if self._state_file is not None:
            await asyncio.to_thread(self._state_file.write, self._state())

    def _state(self) -> SavedState:
        polling, actor = self._polling, self._actor
        acting = SavedActions() if actor is None else actor.saved()
        tracker, advice = polling.tracker.dump(), polling.advice.saved()
        timeline = self._context.timeline
        skew = timeline.wall_now() - timeline.now()
        return SavedState(tracker, advice, acting, self.telling.saved(), skew)

    def _expected(self) -> tuple[str, ...]:
        timeline = self._context.timeline
        return self._current.expected(timeline.wall_now())

    def _expect(self) -> None:
        for name in self._expected():
            self._polling.expected.expect(name)

    async def _act(self) -> None:
        """Start keep-warm if the target has a section of it."""
        settings, polling = self._current.settings, self._polling
        if not settings.keep_warm.models:
            return
        residence = PolledResidence(polling.poller.published)
        polling.sinks.on_installed.append(residence.on_installed)
        self._actor = build_actor(
            settings,
            ControlClient(self.spec.target, timeout=settings.ollama_timeout),
            polling,
            InFlight(residence, polling.advice.gaps, cold=settings.proxy_cold_threshold),
            metrics=self._instruments.acts,
            timeline=self._context.timeline,
            save_soon=self._save_wanted.set,
        )
        await self._acting.enter_async_context(self._actor.running())
        saving = asyncio.create_task(self._save_when_wanted())
        self._acting.callback(saving.cancel)

    async def _save_when_wanted(self) -> None:
        """Write what keep-warm must not forget. The rest waits for the turn of the target."""
        while True:
            await self._save_wanted.wait()
            self._save_wanted.clear()
            await self.save()
            await asyncio.sleep(LEAST_PAUSE)


def state_file_of_target(file: Path | None, spec: TargetSettings) -> StateFile | None:
    """Return the state file of one target: `FILE.NAME`. Raises ConfigError if it is unusable."""
    if file is None:
        return None
    own = file.with_name(f"{file.name}.{quote(spec.name, safe='')}")
    state_file = StateFile(own, url=spec.target.url)
    state_file.check()
    return state_file
