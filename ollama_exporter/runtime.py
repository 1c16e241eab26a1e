# SPDX-License-Identifier: Apache-2.0
"""The composition root: builds everything, runs it, ends it in order.

Order of the end, each step bounded: the proxy accepts no more and lets answers end, the web server
likewise, the poller stops, the state file is written, the client is closed.
"""

import asyncio
import logging
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from ollama_exporter.actions.actor import Actor
from ollama_exporter.advice.live import LiveAdvice
from ollama_exporter.clock import Timeline
from ollama_exporter.config.load import Settings
from ollama_exporter.config.reload import CurrentSettings
from ollama_exporter.errors import OllamaExporterError
from ollama_exporter.host.machine import Machine
from ollama_exporter.log import setup
from ollama_exporter.metrics.collectors.exporter_collector import REVISION, LogCounter
from ollama_exporter.metrics.collectors.idle_gap_collector import IdleCollector
from ollama_exporter.metrics.labels import ModelLabels
from ollama_exporter.metrics.load_times import LoadTimes
from ollama_exporter.metrics.registry import Metrics, build
from ollama_exporter.net import spelled
from ollama_exporter.poller.event_log import log_event
from ollama_exporter.poller.poller import Polled, Poller, Sinks
from ollama_exporter.protocol.client import OllamaClient, read_token, tls_context
from ollama_exporter.recordings.replayer import WINDOW, WINDOW_POLLS
from ollama_exporter.residency.events import Event, Found, View
from ollama_exporter.residency.tracker import Tracker
from ollama_exporter.shim.observation import Observation
from ollama_exporter.shim.proxy.build import (
    PolledResidence,
    build_proxy,
    listen_for_both,
    open_to_all,
    relaying,
)
from ollama_exporter.shim.proxy.server import Proxy
from ollama_exporter.shim.recorder import Recorder, Shared
from ollama_exporter.state_file import EVERY, StateFile, state_file_of
from ollama_exporter.version import __version__
from ollama_exporter.web.app import Parts, application
from ollama_exporter.web.landing import facts_of
from ollama_exporter.web.uvicorn_server import server

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Onlookers:
    """Who else hears of events and of finished requests, each as it is recorded."""

    events: Callable[[tuple[Event, ...], View], None] | None = None
    requests: Callable[[Observation], None] | None = None


async def serve(
    settings: Settings, *, reread: Callable[[], Settings], log_lines: LogCounter
) -> None:
    """Run until SIGTERM or SIGINT; the second one ends at once. SIGHUP reloads."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def end() -> None:
        if stop.is_set():
            os._exit(1)  # asked twice: whatever hangs is not waited for
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

    `reread` returns the settings anew, for a reload. Raises our errors where it cannot start.
    """
    state_file = state_file_of(settings)
    tls_context(settings.target)  # before anything is said: what is wrong here ends it
    read_token(settings.ollama_token_file)
    exporter = Exporter(settings, onlookers or Onlookers(), log_lines=log_lines or LogCounter())
    proxy = exporter.proxy()
    exporter.actor.attach(proxy)
    sockets, proxied = listen_for_both(settings)
    logger.info("Starting ollama_exporter", extra={"version": __version__, "revision": REVISION})
    for socket in sockets:
        logger.info("Listening on", extra={"address": spelled(socket)})
    for socket in proxied:
        logger.info("Proxy listening on", extra={"address": spelled(socket)})
    if open_to_all(settings):
        logger.warning("Proxy is open to the network: set --proxy.token-file")
    if state_file is not None:
        exporter.take_up(state_file)
    exporter.reread = reread
    with suppress(NotImplementedError, ValueError, RuntimeError):  # no SIGHUP there
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, exporter.reload_logged)
    web = server(application(exporter.parts()))
    serving = asyncio.create_task(web.serve(sockets=sockets))
    async with exporter.polling(state_file):
        async with relaying(proxy, proxied), exporter.actor.running():
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait(
                [serving, stopped, exporter.poll_task], return_when=asyncio.FIRST_COMPLETED
            )
            stopped.cancel()
            logger.info("Ending")
        web.should_exit = True
        await serving


class Exporter:
    """All parts of one exporter, wired."""

    def __init__(self, settings: Settings, onlookers: Onlookers, *, log_lines: LogCounter) -> None:
        self.current = CurrentSettings(settings)
        self._onlookers = onlookers
        self.reread: Callable[[], Settings] | None = None
        self._log_lines = log_lines
        self._timeline = Timeline()
        window = max(WINDOW, WINDOW_POLLS * settings.poll_interval)
        self._tracker, self._advising = Tracker(window=window), LiveAdvice(blind=window)
        self._client = OllamaClient(settings.target, timeout=settings.ollama_timeout)
        self._sinks = Sinks(on_poll=[self._advising.polled])
        self._poller = Poller(
            self._client,
            self._tracker,
            self.current.cadence,
            self._sinks,
            now=self._timeline.now,
            wall=self._timeline.wall,
            jitter=random.random,
        )
        self._machine = Machine(
            settings,
            self._client,
            tell=self._poller.tell,
            now=self._timeline.now,
            wall=self._timeline.wall,
            up=lambda: self._poller.state.up,
            errors=lambda: self._sinks.errors(),  # noqa: PLW0108 - replaced when metrics are built
        )
        self._sinks.on_poll.append(self._polled)
        self._sinks.on_installed.append(self._machine.installed)
        self._recorder: Recorder | None = None
        self._metrics = self._build(settings)
        self._sinks.errors = self._metrics.exporter.errors.inc
        self.actor = Actor(
            settings,
            self._metrics,
            self._poller,
            self._timeline,
            recorder=self._recorder,
            advice=self._advising.current,
            touched=self._advising.gaps.touched,
        )
        self._sinks.on_event += [self._metrics.lifecycle.on_event, self._log_event]
        self._sinks.on_change.append(self.actor.saw)
        if onlookers.events is not None:
            self._sinks.on_change.append(onlookers.events)
        self._metrics.exporter.reloaded(at=self._timeline.wall(self._timeline.now()))

    def _build(self, settings: Settings) -> Metrics:
        metrics = build(
            view=lambda: self._poller.view,
            server=lambda: self._poller.state,
            wall=self._timeline.wall,
            log_lines=self._log_lines,
            expected=lambda: self.current.expected(self._timeline.wall(self._timeline.now())),
            max_models=settings.max_models,
            runtime=not settings.disable_exporter_metrics,
            shim=self._shim if settings.proxy_addresses else None,
            advice=self._advising.rows,
            sight=self._machine,
        )
        self._advising.attach(metrics.idle, metrics.labels, metrics.loads.totals)
        return metrics

    def _shim(self, labels: ModelLabels, loads: LoadTimes, idle: IdleCollector) -> Recorder:
        """Make what records the proxy's requests."""
        settings = self.current.settings
        self._recorder = Recorder(
            labels,
            PolledResidence(lambda: self._poller.view, lambda: self._poller.state),
            wall=self._timeline.wall,
            errors=lambda: self._sinks.errors(),  # noqa: PLW0108 - replaced when metrics are built
            tell=self._poller.tell,
            on_request=self._onlookers.requests,
            access_log=settings.proxy_access_log,
            cold=settings.proxy_cold_threshold,
            shared=Shared(loads, self._advising.gaps, idle),
        )
        return self._recorder

    def proxy(self) -> Proxy | None:
        """Return the proxy, if there is to be one. Raises ConfigError."""
        if self._recorder is None:
            return None
        return build_proxy(self.current.settings, self._recorder, now=self._timeline.now)

    def take_up(self, state_file: StateFile) -> None:
        """Go on where an earlier process ended."""
        saved = state_file.read()
        now = self._timeline.now()
        if saved is not None and saved.last is not None and saved.last.ended > now:
            logger.warning("State not taken up: it is of a later time than now")
        elif saved is not None:
            self._tracker.restore(saved)
            self._advising.restore(saved.habits)
            self._poller.view = self._tracker.view()
            for life in saved.lives:  # their counters must stand at 0 before the first unload
                self._metrics.lifecycle.on_event(Found(life.model, now))
            logger.info("State taken up", extra={"models": len(saved.lives)})

    def parts(self) -> Parts:
        """Return what the routes work on."""
        return Parts(
            registry=self._metrics.registry,
            refresh=self._poller.refresh,
            facts=lambda: facts_of(
                self.current.settings.ollama_url, self._poller.state, self._poller.view
            ),
            reload=self.reload,
            telemetry_path=self.current.settings.telemetry_path,
            max_requests=lambda: self.current.settings.max_requests,
            lifecycle=lambda: self.current.settings.enable_lifecycle,
        )

    @asynccontextmanager
    async def polling(self, state_file: StateFile | None) -> AsyncIterator[None]:
        """Poll meanwhile; in the end write the state and close the client."""
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
                state_file.write(self._advising.saved(self._tracker.dump()))
            await self._client.aclose()
            if not self.poll_task.cancelled():
                self.poll_task.result()  # an exporter that does not poll must not look healthy

    def reload(self) -> None:
        """Take the settings anew: all of them or none. Raises ConfigError."""
        try:
            settings = self.current.settings if self.reread is None else self.reread()
            self.current.replace(settings)
        except OllamaExporterError:
            self._metrics.exporter.reload_failed()
            raise
        self.actor.take(settings)
        setup(
            level=settings.log_level, as_json=settings.log_format == "json", counter=self._log_lines
        )
        self._metrics.exporter.reloaded(at=self._timeline.wall(self._timeline.now()))
        self._poller.plan_again()
        logger.info("Configuration reloaded")

    def reload_logged(self) -> None:
        """Reload for a signal, whose sender reads only the log."""
        try:
            self.reload()
        except OllamaExporterError as err:
            logger.warning("Configuration not reloaded", extra={"err": str(err)})

    def _polled(self, polled: Polled) -> None:
        if polled.answer is not None:
            self._machine.listed(polled.answer.models)

    def _log_event(self, event: Event) -> None:
        log_event(event, self._timeline.wall)

    async def _save_now_and_then(self, state_file: StateFile) -> None:
        while True:
            await asyncio.sleep(EVERY)
            saved = self._advising.saved(self._tracker.dump())
            await asyncio.to_thread(state_file.write, saved)
