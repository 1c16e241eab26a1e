# SPDX-License-Identifier: Apache-2.0
"""The composition root: builds everything, runs it, and shuts it down in order.

The order of the shutdown, each step bounded: the proxy stops accepting and lets responses end, the
web server likewise, the poller stops, the state file is written, the client is closed.
"""

import asyncio
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from socket import socket as Socket  # noqa: N812 - a type here; a variable has its name

from msgspec import Struct

from ollama_exporter.clock import Timeline
from ollama_exporter.config.reload import CurrentSettings, Reload
from ollama_exporter.config.schema import Settings
from ollama_exporter.descriptors import ExhaustionHandler, raise_limit
from ollama_exporter.free_probes import FreeProbes
from ollama_exporter.host.runner.slot_watcher import SlotLook
from ollama_exporter.metrics.collectors.exporter_collector import ExporterCollector, LogCounter
from ollama_exporter.metrics.hidden_names import hidden_names
from ollama_exporter.metrics.registry import Instruments, build
from ollama_exporter.net import spelled
from ollama_exporter.poller.announced_requests import AnnouncedRequests
from ollama_exporter.residency.events import Event, View
from ollama_exporter.server_parts import (
    Clients,
    build_actor,
    build_in_flight,
    build_machine,
    build_polling,
    build_telling,
    take_up,
)
from ollama_exporter.shim.in_flight import InFlight
from ollama_exporter.shim.observation import Observation
from ollama_exporter.shim.proxy.build import (
    WEB_CONFIG,
    build_proxy,
    is_open_to_network,
    listen_for_both,
    listen_for_scrapes,
    serving_proxy,
)
from ollama_exporter.shim.proxy.server import Proxy
from ollama_exporter.shim.recorder import Recorder, RequestInstruments
from ollama_exporter.state_file import EVERY, LEAST_PAUSE, SavedState, StateFile, state_file_of
from ollama_exporter.version import REVISION, __version__
from ollama_exporter.web.app import Parts, application
from ollama_exporter.web.in_turns import TURN, TURN_BESIDE_CHUNKS
from ollama_exporter.web.locks.locks import Locks, following
from ollama_exporter.web.uvicorn_server import server

logger = logging.getLogger(__name__)


class Onlookers(Struct, frozen=True):
    """Functions that receive events, finished requests, looks at slots and addresses."""

    events: Callable[[tuple[Event, ...], View], None] | None = None
    requests: Callable[[Observation], None] | None = None
    looks: Callable[[SlotLook], None] | None = None
    listening: Callable[[list[str]], None] | None = None  # with the addresses, once they are open


async def serve(
    settings: Settings, *, reread: Callable[[], Settings], log_lines: LogCounter
) -> None:
    """Run until SIGTERM or SIGINT; the second one ends at once. SIGHUP reloads."""
    gc.freeze()  # imported modules stay for good: no collection needs to look at them again
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
    opened: tuple[list[Socket], list[Socket]] | None = None,
) -> None:
    """Poll and serve until `stop` is set. Serves before the first poll has ended.

    `reread` reads the settings again, for a reload. `opened`: sockets of one server's exporter that
    listen already, for scrapes and for the proxy's clients. Raises OllamaExporterError if it cannot
    start.
    """
    raise_limit()
    asyncio.get_running_loop().set_exception_handler(ExhaustionHandler())
    if settings.has_fleet:
        await _run_fleet(settings, stop=stop, reread=reread, log_lines=log_lines or LogCounter())
        return
    state_file = state_file_of(settings)
    exporter = Exporter(  # before the first log line: an error here ends the start
        settings,
        onlookers or Onlookers(),
        log_lines=log_lines or LogCounter(),
        reread=reread,
    )
    locks = exporter.locks()
    sockets, proxied = opened or listen_for_both(settings)
    _log_start(sockets, locks, url=settings.ollama_url)
    if onlookers is not None and onlookers.listening is not None:
        onlookers.listening([spelled(socket) for socket in sockets])
    for socket in proxied:
        logger.info("Proxy listening on", extra={"address": spelled(socket)})
    is_locked = exporter.proxy_locks is not None and exporter.proxy_locks.keeps_out
    if is_open_to_network(settings, is_locked=is_locked):
        logger.warning("Proxy is open to the network: set --proxy.token-file")
    if state_file is not None:
        exporter.take_up(state_file)
    if reread is not None:  # else SIGHUP ends a command that runs an exporter of its own
        _reload_on_signal(exporter.reload.logged)
    web = server(application(exporter.parts()), locks=locks)
    serving = asyncio.create_task(web.serve(sockets=sockets))
    async with (
        exporter.polling(state_file) as polling,
        following(locks),
        following(exporter.proxy_locks),
    ):
        async with serving_proxy(exporter.proxy, proxied), exporter.actor.running():
            await _until_ended(serving, polling, stop=stop)
        exporter.telling.feed.close()  # streams would never end by themselves
        web.should_exit = True
        await serving


async def _run_fleet(
    settings: Settings,
    *,
    stop: asyncio.Event,
    reread: Callable[[], Settings] | None,
    log_lines: LogCounter,
) -> None:
    """Watch several targets until `stop` is set."""
    from ollama_exporter.fleet_exporter import FleetExporter  # noqa: PLC0415 - 22 ms of imports

    exporter = FleetExporter(settings, log_lines=log_lines, reread=reread)
    locks = exporter.locks()
    sockets = listen_for_scrapes(settings)
    _log_start(sockets, locks, targets=exporter.fleet.wanted_count)
    _reload_on_signal(exporter.reload.logged)
    web = server(application(exporter.parts()), locks=locks)
    serving = asyncio.create_task(web.serve(sockets=sockets))
    async with exporter.polling() as polling, following(locks):
        await _until_ended(serving, polling, stop=stop)
        exporter.fleet.close_feeds()  # streams would never end by themselves
        web.should_exit = True
        await serving


async def _until_ended(*running: asyncio.Task[None], stop: asyncio.Event) -> None:
    """Wait until one of these ends by itself, or `stop` is set."""
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([*running, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    logger.info("Shutting down")


def _log_start(sockets: Sequence[Socket], locks: Locks | None, **values: object) -> None:
    started = {"version": __version__, "revision": REVISION, **values}
    logger.info("Starting ollama_exporter", extra=started)
    for socket in sockets:
        tls = {"tls": True} if locks is not None and locks.is_tls else {}
        logger.info("Listening on", extra={"address": spelled(socket), **tls})


def _reload_on_signal(reload: Callable[[], None]) -> None:
    with suppress(NotImplementedError, ValueError, RuntimeError):  # no SIGHUP there
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)


class Exporter:
    """All parts of one exporter.

    Built in the order in which they need each other: what is counted into, what polls, what looks
    at the machine, what acts on the server, the proxy, and last what is scraped.
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
        self.current = CurrentSettings(settings)
        self._timeline = timeline = timeline or Timeline()
        self._instruments = instruments = Instruments.new(
            timeline,
            ExporterCollector(log_lines=log_lines),
            max_models=settings.max_models,
            hidden=hidden_names(settings.hide_models, settings.hide_models_key_file),
        )
        counted = instruments.exporter.file_failed
        self._clients = clients = clients or Clients.of(settings, on_file_error=counted)
        self._polling = polling = build_polling(self.current, clients.polls, instruments, timeline)
        self._announced = AnnouncedRequests(
            polling.reporter.fact, timeline.now, settings.ollama_url
        )
        self._machine = build_machine(
            settings, clients.polls, polling, instruments.lifecycle, timeline=timeline
        )
        if onlookers.looks is not None:
            self._machine.on_slot_look.append(onlookers.looks)
        in_flight = build_in_flight(settings, polling, self._machine)
        self._save_wanted = asyncio.Event()
        self.actor = build_actor(
            settings,
            clients.actions,
            polling,
            in_flight,
            metrics=instruments.acts,
            timeline=timeline,
            save_soon=self._save_wanted.set,
        )
        self.telling = telling = build_telling(
            settings, polling, instruments, timeline, machine=self._machine, in_flight=in_flight
        )
        if onlookers.events is not None:
            polling.sinks.on_change.append(onlookers.events)
        self.recorder, self.proxy, self.proxy_locks = None, None, None
        if settings.proxy_addresses:
            self.recorder = self._build_recorder(in_flight, onlookers)
            self.proxy, self.proxy_locks = self._build_proxy(self.recorder)
        for name in self._expected():
            polling.expected.expect(name)
        self._registry = build(
            instruments,
            timeline,
            polling.poller.published,
            expected=lambda: polling.expected.labels(self._expected()),
            requests=self.recorder,
            advice=polling.advice.rows,
            sight=self._machine,
            malformed=clients.malformed,
            ranks=telling.ranks,
            runtime=not settings.disable_exporter_metrics,
        )
        self._probed = FreeProbes(settings, instruments.exporter, timeline)
        self.reload = Reload(
            current=self.current,
            reread=reread,
            check=lambda _settings: None,
            apply=self._apply,
            metrics=instruments.exporter,
            wall=timeline.wall_now,
            log_lines=log_lines,
        )
        instruments.exporter.reloaded(at=timeline.wall_now())

    def _build_recorder(self, in_flight: InFlight, onlookers: Onlookers) -> Recorder:
        instruments, settings = self._instruments, self.current.settings
        return Recorder(
            RequestInstruments(instruments.labels, instruments.loads, instruments.gaps),
            in_flight,
            self._polling.reporter,
            self._timeline,
            on_request=onlookers.requests,
            on_served=[self.actor.defaults.on_request_end, self.telling.on_request],
            access_log=settings.proxy_access_log,
        )

    def _build_proxy(self, recorder: Recorder) -> tuple[Proxy, Locks | None]:
        """Return the proxy, and the locks of its port; None without their file."""
        settings, timeline = self.current.settings, self._timeline
        metrics = self._instruments.exporter
        file = settings.proxy_web_config_file
        locks = Locks.of(file, metrics=metrics, now=timeline.now, setting=WEB_CONFIG)
        proxy = build_proxy(
            settings,
            recorder,
            timeline,
            rules=self.actor.defaults,
            locks=locks,
            on_file_error=metrics.file_failed,
        )
        self._polling.sinks.catch_up.append(proxy.catch_up)
        if settings.proxy_client_by is not None:
            self._polling.sinks.on_event.append(recorder.on_event)
        return proxy, locks

    def _expected(self) -> tuple[str, ...]:
        """Return the models that the operator expects to be resident now."""
        return self.current.expected(self._timeline.wall_now())

    def take_up(self, state_file: StateFile) -> None:
        """Continue where an earlier process ended."""
        past = take_up(
            state_file.read(),
            self._polling,
            self._instruments,
            self.actor,
            timeline=self._timeline,
        )
        if past is not None:
            self.telling.restore(past)

    def locks(self) -> Locks | None:
        """Return the locks of our own port; None without their file. Raises ConfigError."""
        file, metrics = self.current.settings.web_config_file, self._instruments.exporter
        return Locks.of(file, metrics=metrics, now=self._timeline.now)

    def parts(self) -> Parts:
        """Return what the routes need."""
        return Parts(
            registry=self._registry,
            refresh=self._polling.poller.refresh,
            feed=lambda _target: self.telling.feed,
            reload=self.reload,
            telemetry_path=self.current.settings.telemetry_path,
            max_requests=lambda: self.current.settings.max_requests,
            probes=self._probed,
            turn=TURN if self.proxy is None else TURN_BESIDE_CHUNKS,
            lifecycle=lambda: self.current.settings.enable_lifecycle,
            on_announced=self._announced.on_announced,
        )

    @asynccontextmanager
    async def polling(self, state_file: StateFile | None) -> AsyncIterator[asyncio.Task[None]]:
        """Poll inside the block, in the task that it gets.

        At its end, write the state and close the client.
        """
        polling = asyncio.create_task(self._polling.poller.run())
        tasks = [polling, asyncio.create_task(self._machine.run())]
        tasks.append(asyncio.create_task(self._probed.run()))
        if state_file is not None:
            tasks.append(asyncio.create_task(self._save_now_and_then(state_file)))
        try:
            yield polling
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if state_file is not None:
                state_file.write(self._state())
            await self._clients.polls.aclose()
            if not polling.cancelled():
                polling.result()  # an exporter that does not poll must not look healthy

    def _apply(self, settings: Settings) -> None:
        self.actor.apply(settings)
        self._probed.allow(settings)
        self._polling.poller.reschedule()

    async def _save_now_and_then(self, state_file: StateFile) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._save_wanted.wait()
            self._save_wanted.clear()
            await asyncio.to_thread(state_file.write, self._state())
            await asyncio.sleep(LEAST_PAUSE)

    def _state(self) -> SavedState:
        return SavedState(
            self._polling.tracker.dump(),
            self._polling.advice.saved(),
            self.actor.saved(),
            self.telling.saved(),
            skew=self._timeline.wall_now() - self._timeline.now(),
        )
