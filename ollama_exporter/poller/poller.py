# SPDX-License-Identifier: Apache-2.0
"""Polls one server by the schedule and feeds the tracker. One poll at a time, always."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, ParamSpec, Protocol

from ollama_exporter.clock import Timeline
from ollama_exporter.errors import FailureReason, TargetError
from ollama_exporter.metrics.collectors.server_collector import ServerState
from ollama_exporter.protocol.client import PsAnswer
from ollama_exporter.protocol.wire import InstalledModel, RunningModel
from ollama_exporter.residency.events import Event, View
from ollama_exporter.residency.facts import Fact, PollFailed, Snapshot
from ollama_exporter.residency.poll_schedule import Cadence, next_poll
from ollama_exporter.residency.saved_state import Saved
from ollama_exporter.residency.tracker import Tracker

FRESH: Final = 5.0  # a scrape is answered from a poll that is not older, seconds
SCRAPE_WAIT: Final = 0.5  # longer no scrape waits for a poll
VIEW_DELAY: Final = 0.05  # seconds between a request's fact and what a scrape shows of it
INVENTORY_RETRY: Final = 15.0  # while the version is not known
INVENTORY_INTERVAL: Final = 600.0  # between two looks at version and installed models
logger = logging.getLogger(__name__)
P = ParamSpec("P")


class PsClient(Protocol):
    """What the poller needs of a client."""

    async def ps(self) -> PsAnswer:
        """Ask for the resident models."""
        ...

    async def version(self) -> str:
        """Ask for the version."""
        ...

    async def tags(self) -> tuple[InstalledModel, ...]:
        """Ask for the installed models."""
        ...


@dataclass(frozen=True, slots=True)
class Polled:
    """One poll: either an answer or an error. Moments on the timeline."""

    started: float
    ended: float
    answer: PsAnswer | None = None
    error: TargetError | None = None

    def fact(self) -> Snapshot | PollFailed:
        """Return what the tracker is told of it."""
        if self.answer is None:
            reason = FailureReason.MALFORMED if self.error is None else self.error.reason
            return PollFailed(self.started, self.ended, reason)
        return Snapshot(
            self.started,
            self.ended,
            self.answer.models,
            date=self.answer.date,
            new_connection=self.answer.new_connection,
        )


@dataclass(slots=True)
class Sinks:
    """Functions that receive polls and events.

    Each call is isolated: if one raises, the error is logged and counted, and the other sinks and
    the other events are still delivered.
    """

    on_poll: list[Callable[[Polled], None]] = field(default_factory=list)
    on_listing: list[Callable[[tuple[RunningModel, ...]], None]] = field(default_factory=list)
    on_installed: list[Callable[[tuple[InstalledModel, ...]], None]] = field(default_factory=list)
    on_event: list[Callable[[Event], None]] = field(default_factory=list)
    on_change: list[Callable[[tuple[Event, ...], View], None]] = field(default_factory=list)
    """Called after each poll, also without events, and after each fact that settled events."""
    errors: Callable[[], None] = lambda: None

    def deliver(
        self, sinks: Sequence[Callable[P, None]], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Call each sink on its own."""
        for sink in sinks:
            try:
                sink(*args, **kwargs)
            except Exception:
                self.errors()
                logger.exception("Sink failed", extra={"sink": getattr(sink, "__qualname__", "")})


class Poller:
    """Runs schedule, client and tracker. `jitter`: in [0, 1)."""

    def __init__(
        self,
        client: PsClient,
        tracker: Tracker,
        cadence: Callable[[], Cadence],
        sinks: Sinks,
        *,
        timeline: Timeline,
        jitter: Callable[[], float],
    ) -> None:
        self._client, self._tracker, self._cadence, self._sinks = client, tracker, cadence, sinks
        self._timeline, self._jitter = timeline, jitter
        self._failures = 0  # in a row
        self._last_started = timeline.now()
        self._last_ended: float | None = None
        self._counts: Counter[FailureReason] = Counter()
        self._running: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._inventory = asyncio.Event()
        self._renewal: asyncio.TimerHandle | None = None
        self.state = ServerState()
        # Replaced whole after each fact: a scrape in a thread of its own never sees half a change.
        self.view = tracker.view()

    def restore(self, saved: Saved) -> None:
        """Go on from the state of an earlier process."""
        self._tracker.restore(saved)
        self.view = self._tracker.view()

    async def run(self) -> None:
        """Poll until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._take_inventory())
                while True:
                    await self.poll()
                    await self._wait_until_due()
        finally:
            if self._running is not None:
                self._running.cancel()

    async def poll(self) -> None:
        """Poll once; join the poll that is under way if there is one."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._poll())
        await asyncio.shield(self._running)

    async def refresh(self) -> None:
        """Make sure that a scrape sees a fresh poll, or has waited half a second for one."""
        if self._last_ended is not None and self._timeline.now() - self._last_ended < FRESH:
            return
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._poll())
        await asyncio.wait([self._running], timeout=SCRAPE_WAIT)

    def plan_again(self) -> None:
        """Decide anew when to poll: the cadence was changed."""
        self._wake.set()

    def tell(self, fact: Fact) -> None:
        """Take a fact of another source; it may bring the next poll forward, or settle a reason.

        Requests come by the thousand: what they change of the view is shown a moment later.
        """
        before = self._tracker.asked
        events = self._observe(fact)
        asked = self._tracker.asked
        if events:
            self._hand_on(events)
            self._wake.set()
        elif asked is not None and asked != before and asked <= self._timeline.now():
            self._renew()
            self._wake.set()
        elif self._renewal is None:
            self._renewal = asyncio.get_running_loop().call_later(VIEW_DELAY, self._show)

    async def _poll(self) -> None:
        started = self._last_started = self._timeline.now()
        try:
            answer = await self._client.ps()
        except TargetError as err:
            polled = Polled(started, self._timeline.now(), error=err)
        except Exception as err:
            # A defect of ours or of a library: the polls go on, or `ollama_up` would stand still.
            self._sinks.errors()
            logger.exception("Poll failed in a way that was not foreseen")
            error = TargetError(FailureReason.MALFORMED, repr(err))
            polled = Polled(started, self._timeline.now(), error=error)
        else:
            polled = Polled(started, self._timeline.now(), answer=answer)
        # A scrape in its thread may fall between the two: up is said last, down is said first, so
        # that it never finds the listing of before an outage under a server that is up.
        if polled.answer is None:
            self._note(polled)
        self._digest(polled.fact())
        if polled.answer is not None:
            self._note(polled)
        self._sinks.deliver(self._sinks.on_poll, polled)
        if polled.answer is not None:
            self._sinks.deliver(self._sinks.on_listing, polled.answer.models)
        self._wake.set()  # a scrape's poll may show a deadline that lies before the poll planned

    def _note(self, polled: Polled) -> None:
        """Keep what `/metrics` says of the server; log transitions, never each poll."""
        was_up, first = self.state.up, self._last_ended is None
        up = polled.answer is not None
        self._last_ended = polled.ended
        self._failures = 0 if up else self._failures + 1
        if polled.error is not None:
            self._counts[polled.error.reason] += 1
        self.state = replace(
            self.state,
            up=up,
            polls=self.state.polls + 1,
            failures=dict(self._counts),
            last_duration=polled.ended - polled.started,
            last_success=self._timeline.wall(polled.ended) if up else self.state.last_success,
        )
        logger.debug("Polled", extra={"up": up, "took": round(polled.ended - polled.started, 6)})
        if polled.answer is not None and (polled.answer.new_connection or not was_up):
            self._inventory.set()
        if up and not was_up:
            logger.info("Server answers")
        elif polled.error is not None and (was_up or first):
            values = {"reason": polled.error.reason.value, "err": polled.error.detail}
            logger.warning("Server does not answer", extra=values)

    def _digest(self, fact: Fact) -> None:
        """Feed the tracker with a poll and show what it made of it."""
        self._hand_on(self._observe(fact))

    def _hand_on(self, events: tuple[Event, ...]) -> None:
        self._renew()
        for event in events:
            self._sinks.deliver(self._sinks.on_event, event)
        self._sinks.deliver(self._sinks.on_change, events, self.view)

    def _observe(self, fact: Fact) -> tuple[Event, ...]:
        """Feed the tracker. A defect in it must not end the polls: it is counted and logged."""
        try:
            return self._tracker.observe(fact)
        except Exception:
            self._sinks.errors()
            logger.exception("Fact could not be taken")
            return ()

    def _show(self) -> None:
        asked = self.view.asked
        self._renew()
        if self.view.asked != asked:  # a request that waits is looked after in a while
            self._wake.set()

    def _renew(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None
        self.view = self._tracker.view()

    async def _wait_until_due(self) -> None:
        jitter = self._jitter()
        while True:
            due = next_poll(
                self._cadence(),
                self.view,
                last_started=self._last_started,
                failures=self._failures,
                jitter=jitter,
            )
            self._wake.clear()
            if (left := due - self._timeline.now()) <= 0:
                return
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                return

    async def _take_inventory(self) -> None:
        """Ask for version and installed models: after each new connection, and rarely besides."""
        while True:
            try:
                known = self.state.version is not None
                async with asyncio.timeout(INVENTORY_INTERVAL if known else INVENTORY_RETRY):
                    await self._inventory.wait()
            except TimeoutError:
                if not self.state.up:
                    continue
            self._inventory.clear()
            try:
                version = await self._client.version()
                installed = await self._client.tags()
            except TargetError as err:
                logger.debug("Inventory failed", extra={"err": str(err)})
                continue
            except Exception:
                self._sinks.errors()
                logger.exception("Inventory failed in a way that was not foreseen")
                continue
            self._sinks.deliver(self._sinks.on_installed, installed)
            if version != self.state.version:
                logger.info("Server version", extra={"version": version})
            sizes = tuple((model.name, model.size) for model in installed)
            self.state = replace(self.state, version=version, installed=sizes)
