# SPDX-License-Identifier: Apache-2.0
"""The composition root: builds everything, runs it, and shuts it down in order.

The order of the shutdown, each step bounded: the proxy stops accepting and lets responses end, the
web server likewise, the poller stops, the state file is written, the client is closed.
"""

import asyncio
import itertools
import logging
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol, Self

from ollama_exporter.actions.actor import Actor
from ollama_exporter.actions.controlled_server import ActionClient, ActionContext
from ollama_exporter.advice.live import LiveAdvice
from ollama_exporter.clock import Timeline
from ollama_exporter.config.reload import CurrentSettings
from ollama_exporter.config.schema import Settings
from ollama_exporter.descriptors import ExhaustionHandler, raise_limit
from ollama_exporter.errors import OllamaExporterError
from ollama_exporter.host.blob_lookup import ShowClient
from ollama_exporter.host.machine import Machine
from ollama_exporter.log import setup
from ollama_exporter.metrics.collectors.exporter_collector import LogCounter
from ollama_exporter.metrics.expected_models import ExpectedModels
from ollama_exporter.metrics.registry import Instruments, build
from ollama_exporter.net import spelled
from ollama_exporter.poller.event_log import log_event
from ollama_exporter.poller.poller import Poller, PsClient, Sinks
from ollama_exporter.protocol.bearer_token import read_token
from ollama_exporter.protocol.client import OllamaClient, tls_context
from ollama_exporter.protocol.control_client import ControlClient
from ollama_exporter.protocol.malformed_entries import MalformedEntries
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.events import Event, Found, View
from ollama_exporter.residency.facts import RequestEnded, RequestStarted
from ollama_exporter.residency.tracker import Tracker, window_for
from ollama_exporter.residency.view import runners_at_work
from ollama_exporter.shim.in_flight import InFlight
from ollama_exporter.shim.observation import Observation
from ollama_exporter.shim.polled_residence import PolledResidence
from ollama_exporter.shim.proxy.build import (
    build_proxy,
    is_open_to_network,
    listen_for_both,
    serving_proxy,
)
from ollama_exporter.shim.recorder import Recorder, RequestInstruments
from ollama_exporter.state_file import EVERY, SavedState, StateFile, state_file_of
from ollama_exporter.version import REVISION, __version__
from ollama_exporter.web.app import Parts, application
from ollama_exporter.web.landing import facts_of
from ollama_exporter.web.uvicorn_server import server

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Onlookers:
    """Functions that receive events and finished requests as they are recorded."""

    events: Callable[[tuple[Event, ...], View], None] | None = None
    requests: Callable[[Observation], None] | None = None


async def serve(
    settings: Settings, *, reread: Callable[[], Settings], log_lines: LogCounter
) -> None:
    """Run until SIGTERM or SIGINT; the second one ends at once. SIGHUP reloads."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def end() -> None:
        if stop.is_set():
            os._exit(1)  # the second signal: do not wait for anything
        stop.set()

    with suppress(NotImplementedError):  # Windows has no signal handlers on the loop
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
    await run(settings, stop=stop, reread=reread, log_lines=log_lines)


async def run(
    settings: Settings,
    *,
    stop: asyncio.Event,
    onlookers: Onlookers | None = None,
    reread: Callable[[], Settings] | None = None,
    log_lines: LogCounter | None = None,
) -> None:
    """Poll and serve until `stop` is set. Serves before the first poll has ended.

    `reread` reads the settings again, for a reload. Raises OllamaExporterError if it cannot start.
    """
    raise_limit()
    asyncio.get_running_loop().set_exception_handler(ExhaustionHandler())
    state_file = state_file_of(settings)
    tls_context(settings.target)  # before the first log line: an error here ends the start
    read_token(settings.ollama_token_file)
    exporter = Exporter(
        settings,
        onlookers or Onlookers(),
        log_lines=log_lines or LogCounter(),
        reread=reread,
    )
    sockets, proxied = listen_for_both(settings)
    values = {"version": __version__, "revision": REVISION, "url": settings.ollama_url}
    logger.info("Starting ollama_exporter", extra=values)
    for socket in sockets:
        logger.info("Listening on", extra={"address": spelled(socket)})
    for socket in proxied:
        logger.info("Proxy listening on", extra={"address": spelled(socket)})
    if is_open_to_network(settings):
        logger.warning("Proxy is open to the network: set --proxy.token-file")
    if state_file is not None:
        exporter.take_up(state_file)
    with suppress(NotImplementedError, ValueError, RuntimeError):  # no SIGHUP there
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, exporter.reload_logged)
    web = server(application(exporter.parts()))
    serving = asyncio.create_task(web.serve(sockets=sockets))
    async with exporter.polling(state_file):
        async with serving_proxy(exporter.proxy, proxied), exporter.actor.running():
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait(
                [serving, stopped, exporter.poll_task], return_when=asyncio.FIRST_COMPLETED
            )
            stopped.cancel()
            logger.info("Shutting down")
        web.should_exit = True
        await serving


class PollClient(PsClient, ShowClient, Protocol):
    """The requests that look at the server."""

    async def aclose(self) -> None:
        """Close all connections."""


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients of one server: one that looks, and one that acts."""

    polls: PollClient
    actions: ActionClient
    malformed: MalformedEntries = field(default_factory=MalformedEntries)  # seen by `polls`

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the HTTP clients of the settings' server. Raises ConfigError."""
        target, timeout = settings.target, settings.ollama_timeout
        malformed = MalformedEntries()
        polls = OllamaClient(target, timeout=timeout, malformed=malformed.add)
        return cls(polls, ControlClient(target, timeout=timeout), malformed)


class Exporter:
    """All parts of one exporter.

    Built in the order in which they need each other: what is counted into, what polls, what reports
    to the poller, what acts on the server, the proxy, and last what is scraped.
    """

    def __init__(
        self,
        settings: Settings,
        onlookers: Onlookers,
        *,
        log_lines: LogCounter,
        reread: Callable[[], Settings] | None,
        clients: Clients | None = None,
        timeline: Timeline | None = None,
    ) -> None:
        """`clients` and `timeline`: those of the settings' server, and of real time, if None."""
        self.current, self._reread, self._log_lines = CurrentSettings(settings), reread, log_lines
        clients = clients or Clients.of(settings)
        self._timeline = timeline = timeline or Timeline()
        self._instruments = instruments = Instruments.new(
            timeline, log_lines, max_models=settings.max_models
        )
        window = window_for(settings.poll_interval)
        self._tracker = Tracker(window=window)
        self._advice = advice = LiveAdvice(
            instruments.gaps,
            instruments.labels,
            instruments.loads.totals,
            self._tracker.clock,
            blind=window,
        )
        self._client = clients.polls
        sinks = Sinks(
            on_poll=[advice.on_poll],
            on_event=[
                instruments.lifecycle.on_event,
                lambda event: log_event(event, timeline),
            ],
            errors=instruments.exporter.errors.inc,
        )
        self._poller = poller = Poller(
            self._client,
            self._tracker,
            self.current.cadence,
            sinks,
            timeline=timeline,
            jitter=random.random,
            url=settings.ollama_url,
        )
        expected = ExpectedModels(instruments.lifecycle.expect)
        self._announced = itertools.count(1)
        self._reporter = reporter = Reporter(
            fact=poller.on_fact,
            error=instruments.exporter.errors.inc,
            own_use=advice.gaps.on_own_use,
            expect=expected.expect,
        )
        self._machine = Machine(
            settings,
            self._client,
            reporter=reporter,
            timeline=timeline,
            up=poller.is_up,
            runners_at_work=lambda: runners_at_work(poller.published().view),
            on_slot_use=advice.on_slot_use,
        )
        residence = PolledResidence(poller.published, weights=self._machine.weights)
        in_flight = InFlight(residence, advice.gaps, cold=settings.proxy_cold_threshold)
        self.actor = Actor(
            settings,
            instruments.acts,
            ActionContext(
                published=poller.published,
                poll=poller.poll,
                is_loading=in_flight.is_any_waiting,
                timeline=timeline,
                reporter=reporter,
            ),
            clients.actions,
            in_flight=in_flight,
            advice=advice.by_label,
        )
        # The poller's sinks report to it: the one circle, closed where a sink subscribes.
        sinks.on_listing.append(expected.on_listing)
        sinks.on_listing.append(self._machine.on_listing)
        sinks.on_installed.append(expected.on_installed)
        sinks.on_installed.append(self._machine.on_installed)
        sinks.on_installed.append(residence.on_installed)
        sinks.on_installed.append(self.actor.on_installed)
        sinks.on_change.append(self.actor.on_change)
        if onlookers.events is not None:
            sinks.on_change.append(onlookers.events)
        self.recorder, self.proxy = None, None
        if settings.proxy_addresses:
            self.recorder = recorder = Recorder(
                RequestInstruments(instruments.labels, instruments.loads, instruments.gaps),
                in_flight,
                reporter,
                timeline,
                on_request=onlookers.requests,
                on_served=self.actor.defaults.on_request_end,
                access_log=settings.proxy_access_log,
            )
            self.proxy = build_proxy(
                settings,
                recorder,
                timeline,
                rules=self.actor.defaults,
                on_file_error=instruments.exporter.file_failed,
            )

        def named() -> tuple[str, ...]:
            return self.current.expected(timeline.wall(timeline.now()))

        for name in named():
            expected.expect(name)
        self._registry = build(
            instruments,
            timeline,
            poller.published,
            expected=lambda: expected.labels(named()),
            requests=self.recorder,
            advice=advice.rows,
            sight=self._machine,
            malformed=clients.malformed,
            max_models=settings.max_models,
            runtime=not settings.disable_exporter_metrics,
        )
        instruments.exporter.reloaded(at=timeline.wall(timeline.now()))

    def _on_stopping(self, model: str, url: str) -> bool:
        """Report a stop call that a command of ours is about to send."""
        if url != self.current.settings.ollama_url:
            return False
        now, request_id = self._timeline.now(), ("announced", next(self._announced))
        name = normalise(model)
        self._reporter.fact(RequestStarted(now, request_id, name, keep_alive=0.0, stop=True))
        self._reporter.fact(RequestEnded(now, request_id))
        return True

    def take_up(self, state_file: StateFile) -> None:
        """Continue where an earlier process ended."""
        state, now = state_file.read(), self._timeline.now()
        if state is None:
            return
        saved = state.residency
        if saved.last is not None and saved.last.ended > now:
            logger.warning("Ignoring state file: it is dated in the future")
        else:
            self._poller.restore(saved)
            self._advice.restore(state.usage)
            self.actor.restore(state.keep_warm)
            for life in saved.lives:  # their counters must stand at 0 before the first unload
                self._instruments.lifecycle.on_event(Found(life.model, now))
            logger.info("State restored", extra={"models": len(saved.lives)})

    def parts(self) -> Parts:
        """Return what the routes need."""
        return Parts(
            registry=self._registry,
            refresh=self._poller.refresh,
            facts=lambda: facts_of(self.current.settings.ollama_url, self._poller.published()),
            reload=self.reload,
            telemetry_path=self.current.settings.telemetry_path,
            max_requests=lambda: self.current.settings.max_requests,
            lifecycle=lambda: self.current.settings.enable_lifecycle,
            on_stopping=self._on_stopping,
        )

    @asynccontextmanager
    async def polling(self, state_file: StateFile | None) -> AsyncIterator[None]:
        """Poll inside the block. At its end, write the state and close the client."""
        self.poll_task = asyncio.create_task(self._poller.run())
        tasks = [self.poll_task, asyncio.create_task(self._machine.run())]
        if state_file is not None:
            tasks.append(asyncio.create_task(self._save_now_and_then(state_file)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if state_file is not None:
                state_file.write(self._state())
            await self._client.aclose()
            if not self.poll_task.cancelled():
                self.poll_task.result()  # an exporter that does not poll must not look healthy

    def reload(self) -> None:
        """Read the settings again and apply all of them or none. Raises ConfigError."""
        try:
            settings = self.current.settings if self._reread is None else self._reread()
            changed = self.current.replace(settings)
        except OllamaExporterError:
            self._instruments.exporter.reload_failed()
            raise
        self.actor.apply(settings)
        setup(
            level=settings.log_level, as_json=settings.log_format == "json", counter=self._log_lines
        )
        self._instruments.exporter.reloaded(at=self._timeline.wall(self._timeline.now()))
        self._poller.reschedule()
        logger.info("Configuration reloaded", extra={"changed": ", ".join(changed) or "nothing"})

    def reload_logged(self) -> None:
        """Reload for a signal: errors are logged."""
        try:
            self.reload()
        except OllamaExporterError as err:
            logger.warning("Reload failed", extra={"err": str(err)})

    async def _save_now_and_then(self, state_file: StateFile) -> None:
        while True:
            await asyncio.sleep(EVERY)
            await asyncio.to_thread(state_file.write, self._state())

    def _state(self) -> SavedState:
        return SavedState(self._tracker.dump(), self._advice.saved(), self.actor.saved())
