# SPDX-License-Identifier: Apache-2.0
"""Polls one server by the schedule and feeds the tracker. Never two polls at a time."""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from typing import Final, ParamSpec, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from ollama_exporter.clock import Timeline
from ollama_exporter.errors import FailureReason, TargetError
from ollama_exporter.foreign_text import clean, mask_user_info
from ollama_exporter.poller.poll_schedule import Cadence, next_poll
from ollama_exporter.poller.published import Published, ServerState
from ollama_exporter.protocol.client import PsAnswer
from ollama_exporter.protocol.wire import InstalledModel, RunningModel
from ollama_exporter.residency.events import Event, View
from ollama_exporter.residency.facts import (
    Fact,
    PollFailed,
    ProcessesScanned,
    Snapshot,
    VersionAnswered,
)
from ollama_exporter.residency.saved_state import Saved
from ollama_exporter.residency.tracker import Tracker

FRESH: Final = 5.0  # seconds for which the last poll is good enough for a scrape
SCRAPE_WAIT: Final = 0.5  # seconds that a scrape waits for a poll, at most
PUBLISH_DELAY: Final = 0.05  # seconds until a scrape shows a request: requests come by the thousand
INVENTORY_RETRY: Final = 15.0  # seconds between two requests for the inventory until one succeeds
INVENTORY_INTERVAL: Final = 600.0  # and from then on: version and installed models rarely change
LONGEST_VERSION: Final = 64  # characters: it is a label, and on the page
HINT: Final = "Is Ollama running there? Set its address with --ollama.url or OLLAMA_HOST"
HINT_OF_TARGET: Final = "Is Ollama running there? Its address is the target's url"
logger = logging.getLogger(__name__)
P = ParamSpec("P")
Poll = Snapshot | PollFailed


class PsClient(Protocol):
    """What the poller needs from a client."""

    async def ps(self) -> PsAnswer:
        """Return the resident models."""

    async def version(self) -> str:
        """Return the version."""

    async def tags(self) -> tuple[InstalledModel, ...]:
        """Return the installed models."""


class Sinks(Struct):
    """Functions that receive polls and events.

    Each call is isolated: if one raises, the error is logged and counted, and the other sinks and
    the other events are still delivered.
    """

    catch_up: list[Callable[[], None]] = field(default_factory=list)
    """Called before a poll is processed, to report at once what happened before its end."""
    on_poll: list[Callable[[Poll, PsAnswer | None], None]] = field(default_factory=list)
    """Called with the fact and, unless the poll failed, with the answer that it was made from."""
    on_listing: list[Callable[[tuple[RunningModel, ...]], None]] = field(default_factory=list)
    on_version: list[Callable[[VersionAnswered], None]] = field(default_factory=list)
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
    """Runs schedule, client and tracker. `jitter`: in [0, 1).

    `url`: of the server, and `target`: its name if there are several, for the log.
    """

    def __init__(
        self,
        client: PsClient,
        tracker: Tracker,
        cadence: Callable[[], Cadence],
        sinks: Sinks,
        *,
        timeline: Timeline,
        jitter: Callable[[], float],
        url: str = "",
        target: str = "",
        on_due: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_due` is called when the moment of the next poll may have changed."""
        self._on_due = on_due
        self._client, self._tracker, self._cadence, self._sinks = client, tracker, cadence, sinks
        self._timeline, self._jitter = timeline, jitter
        self._of = {"target": target} if target else {}
        self._where = {**self._of, "url": mask_user_info(url)}
        self._failures = 0  # in a row
        self._last_started = timeline.now()
        self._last_ended: float | None = None
        self._running: asyncio.Task[None] | None = None
        self._drawn = jitter()
        self._wake = asyncio.Event()
        self._inventory_wanted = asyncio.Event()
        self._inventory_at = -math.inf  # when it was last asked for
        self._publishing: asyncio.TimerHandle | None = None
        self._published = Published(ServerState(), tracker.view())

    def published(self) -> Published:
        """Return what is known now."""
        return self._published

    def is_up(self) -> bool:
        """Return whether the server answered the last poll."""
        return self._published.server.up

    def restore(self, saved: Saved) -> None:
        """Continue from the state of an earlier process."""
        self._tracker.restore(saved)
        self._publish()

    async def run(self) -> None:
        """Poll until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_inventory())
                while True:
                    await self.poll()
                    await self._wait_until_due()
        finally:
            if self._running is not None:
                self._running.cancel()
                await asyncio.wait({self._running})  # before its client is closed

    async def poll(self) -> None:
        """Poll once, or wait for the poll in progress."""
        await asyncio.shield(self._poll_in_progress())

    async def refresh(self) -> None:
        """Poll for a scrape unless the last poll is fresh. Wait half a second for it at most."""
        if self._last_ended is not None and self._timeline.now() - self._last_ended < FRESH:
            return
        await asyncio.wait([self._poll_in_progress()], timeout=SCRAPE_WAIT)

    def reschedule(self) -> None:
        """Recompute when to poll next: the cadence may have changed."""
        self._wake_up()

    def on_fact(self, fact: Fact) -> None:
        """Process a fact from another source. It can settle reasons, or bring a poll forward."""
        before = self._tracker.poll_wanted_at
        events = self._observe(fact)
        wanted = self._tracker.poll_wanted_at
        if events:
            self._publish()
            self._deliver(events)
            self._wake_up()
        elif wanted is not None and wanted != before and wanted <= self._timeline.now():
            self._publish()
            self._wake_up()
        elif self._publishing is None and not isinstance(fact, ProcessesScanned):
            loop = asyncio.get_running_loop()
            self._publishing = loop.call_later(PUBLISH_DELAY, self._publish_requests)

    def _poll_in_progress(self) -> asyncio.Task[None]:
        """Return the poll in progress; begin one if there is none."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._poll())
        return self._running

    async def _poll(self) -> None:
        started = self._last_started = self._timeline.now()
        self._drawn = self._jitter()
        asked = await self._ask()
        answer, error = (None, asked) if isinstance(asked, TargetError) else (asked, None)
        fact = _fact(asked, started, self._timeline.now())
        # A stop that is reported after the poll that shows its effect would find no model.
        self._sinks.deliver(self._sinks.catch_up)
        events = self._observe(fact)
        before, is_first = self._published.server, self._last_ended is None
        self._last_ended = fact.ended
        self._failures = 0 if error is None else self._failures + 1
        self._publish(before.after(fact, at=self._timeline.wall(fact.ended)))
        self._log_poll(fact, error, changed=is_first or before.up != (error is None))
        if answer is not None and (not before.up or self._may_have_changed(answer)):
            self._inventory_wanted.set()
        self._deliver(events)
        self._sinks.deliver(self._sinks.on_poll, fact, answer)
        if answer is not None:
            self._sinks.deliver(self._sinks.on_listing, answer.models)
        self._wake_up()  # a scrape's poll may show a deadline before the next scheduled poll

    async def _ask(self) -> PsAnswer | TargetError:
        """Return the answer, or why there is none.

        An internal error counts as a failed poll: the polls go on, and `ollama_up` is 0.
        """
        try:
            return await self._client.ps()
        except TargetError as err:
            return err
        except Exception as err:
            self._sinks.errors()
            logger.exception("Unexpected error while polling")
            return TargetError(FailureReason.MALFORMED, repr(err))

    def _may_have_changed(self, answer: PsAnswer) -> bool:
        """Return whether the server may have another version or other models than before."""
        view = self._published.view
        # A proxy closes connections by habit: that is no other server.
        return view.inventory_wanted or (answer.new_connection and not view.reconnects)

    def _log_poll(self, poll: Poll, error: TargetError | None, *, changed: bool) -> None:
        """Log transitions as they happen, and every poll at level debug only."""
        took = round(poll.ended - poll.started, 6)
        logger.debug("Polled", extra={"up": error is None, "took": took})
        if changed and error is None:
            logger.info("Server answers", extra=self._where)
        elif changed and error is not None:
            values = {**self._where, "reason": error.reason.value, "err": clean(error.detail)}
            if error.reason in (FailureReason.REFUSED, FailureReason.UNREACHABLE):
                values["hint"] = HINT_OF_TARGET if self._of else HINT
            logger.warning("Server does not answer", extra=values)

    def _deliver(self, events: tuple[Event, ...]) -> None:
        for event in events:
            self._sinks.deliver(self._sinks.on_event, event)
        self._sinks.deliver(self._sinks.on_change, events, self._published.view)

    def _observe(self, fact: Fact) -> tuple[Event, ...]:
        """Feed the tracker. An error in it is counted and logged, and does not end the polls."""
        try:
            return self._tracker.observe(fact)
        except Exception:
            self._sinks.errors()
            logger.exception("Tracker failed to process a fact")
            return ()

    def _publish(self, server: ServerState | None = None) -> None:
        """Publish what the tracker knows and, after a poll, the server's state with it."""
        if self._publishing is not None:
            self._publishing.cancel()
            self._publishing = None
        before = self._published.view
        self._published = Published(server or self._published.server, self._tracker.view())
        if self._published.view.shared and not before.shared:
            logger.warning(
                "Several servers answer at this address; unloads are not counted", extra=self._of
            )
        elif before.shared and not self._published.view.shared:
            logger.info("One server answers at this address again", extra=self._of)

    def _publish_requests(self) -> None:
        before = self._published.view.poll_requested_at
        self._publish()
        if self._published.view.poll_requested_at != before:
            self._wake_up()  # a waiting request asks for a poll later

    def due(self) -> float:
        """Return the moment of the next poll."""
        return next_poll(
            self._cadence(),
            self._published.view,
            last_started=self._last_started,
            failures=self._failures,
            jitter=self._drawn,
        )

    @property
    def is_failing(self) -> bool:
        """Whether the last poll failed."""
        return self._failures > 0

    def _wake_up(self) -> None:
        self._wake.set()
        self._on_due()

    async def _wait_until_due(self) -> None:
        while True:
            due = self.due()
            self._wake.clear()
            if (left := due - self._timeline.now()) <= 0:
                return
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                return

    async def _keep_inventory(self) -> None:
        """Get version and installed models after each new connection, and every 10 minutes."""
        while True:
            try:
                async with asyncio.timeout(self._inventory_interval):
                    await self._inventory_wanted.wait()
            except TimeoutError:
                if not self.is_up():
                    continue
            await self.refresh_inventory()

    def wants_inventory(self) -> bool:
        """Return whether version and installed models should be asked for now."""
        if not self.is_up():
            return False
        since = self._timeline.now() - self._inventory_at
        return self._inventory_wanted.is_set() or since >= self._inventory_interval

    @property
    def _inventory_interval(self) -> float:
        is_known = self._published.server.version is not None
        return INVENTORY_INTERVAL if is_known else INVENTORY_RETRY

    async def refresh_inventory(self) -> None:
        """Get version and installed models."""
        self._inventory_wanted.clear()
        self._inventory_at = self._timeline.now()
        try:
            version = clean(await self._client.version(), limit=LONGEST_VERSION)
            installed = await self._client.tags()
        except TargetError as err:
            logger.debug("Failed to get version and installed models", extra={"err": str(err)})
            return
        except Exception:
            self._sinks.errors()
            logger.exception("Unexpected error while getting version and installed models")
            return
        answered = VersionAnswered(self._timeline.now(), version)
        self._sinks.deliver(self._sinks.on_version, answered)
        self._sinks.deliver(self._sinks.on_installed, installed)
        self._observe(answered)
        self._tracker.on_installed(installed, answered.at)
        server = self._published.server
        if version != server.version and not self._published.view.shared:
            logger.info("Server version", extra={**self._where, "version": version})
        sizes = tuple((model.name, model.size) for model in installed)
        self._publish(replace(server, version=version, installed=sizes))


def _fact(asked: PsAnswer | TargetError, started: float, ended: float) -> Poll:
    if isinstance(asked, TargetError):
        return PollFailed(started, ended, asked.reason)
    return Snapshot(
        started, ended, asked.models, date=asked.date, new_connection=asked.new_connection
    )
