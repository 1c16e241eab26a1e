# SPDX-License-Identifier: Apache-2.0
"""Builds what belongs to one server, part by part. Each part subscribes to the polls itself."""

import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Protocol, Self

from msgspec import Struct, field

from ollama_exporter.actions.actor import Actor
from ollama_exporter.actions.controlled_server import ActionClient, ActionContext
from ollama_exporter.advice.live import LiveAdvice
from ollama_exporter.clock import Timeline
from ollama_exporter.config.reload import CurrentSettings
from ollama_exporter.config.schema import Settings
from ollama_exporter.host.blob_lookup import ShowClient
from ollama_exporter.host.machine import Machine
from ollama_exporter.metrics.action_metrics import ActionMetrics
from ollama_exporter.metrics.expected_models import ExpectedModels
from ollama_exporter.metrics.load_unload import LoadUnloadMetrics
from ollama_exporter.metrics.registry import Instruments
from ollama_exporter.poller.event_log import log_event
from ollama_exporter.poller.poll_schedule import window_for
from ollama_exporter.poller.poller import Poller, PsClient, Sinks
from ollama_exporter.protocol.client import OllamaClient, tls_context
from ollama_exporter.protocol.control_client import ControlClient
from ollama_exporter.protocol.malformed_entries import MalformedEntries
from ollama_exporter.reporter import Reporter, ignore
from ollama_exporter.residency.events import Found
from ollama_exporter.residency.tracker import Tracker
from ollama_exporter.residency.view import runners_at_work
from ollama_exporter.shim.in_flight import InFlight
from ollama_exporter.shim.polled_residence import PolledResidence
from ollama_exporter.state_file import SavedState
from ollama_exporter.story.past import SavedPast
from ollama_exporter.web.page.live_feed import ReaderLimit
from ollama_exporter.web.page.telling import Telling, Told

logger = logging.getLogger(__name__)


class PollClient(PsClient, ShowClient, Protocol):
    """The requests that look at the server."""

    async def aclose(self) -> None:
        """Close all connections."""


class Clients(Struct, frozen=True):
    """The clients of one server: one that looks, and one that acts."""

    polls: PollClient
    actions: ActionClient
    malformed: MalformedEntries = field(default_factory=MalformedEntries)  # seen by `polls`

    @classmethod
    def of(cls, settings: Settings, *, on_file_error: Callable[[str], None] = ignore) -> Self:
        """Return the HTTP clients of the settings' server. Raises ConfigError.

        `on_file_error` counts, by setting, credential files that cannot be read.
        """
        target, timeout = settings.target, settings.ollama_timeout
        malformed, context = MalformedEntries(), tls_context(target)
        polls = OllamaClient(
            target,
            timeout=timeout,
            ssl_context=context,
            malformed=malformed.add,
            on_file_error=on_file_error,
        )
        actions = ControlClient(
            target, timeout=timeout, ssl_context=context, on_file_error=on_file_error
        )
        return cls(polls, actions, malformed)


class Polling(Struct, frozen=True):
    """What polls one server, and what learns from the polls."""

    tracker: Tracker
    advice: LiveAdvice
    expected: ExpectedModels
    sinks: Sinks
    poller: Poller
    reporter: Reporter


def build_polling(
    current: CurrentSettings,
    client: PsClient,
    instruments: Instruments,
    timeline: Timeline,
    *,
    target: str = "",
    on_due: Callable[[], None] = ignore,
) -> Polling:
    """Return what polls the server. Whatever else learns from the polls subscribes to its sinks.

    `target`: its name for the log, if there are several. `on_due`: see Poller.
    """
    window = window_for(current.settings.poll_interval)
    tracker = Tracker(window=window)
    advice = LiveAdvice(
        instruments.gaps,
        instruments.labels,
        instruments.loads.totals,
        tracker.clock,
        blind=window,
    )
    expected = ExpectedModels(instruments.lifecycle.expect)
    sinks = Sinks(
        on_poll=[advice.on_poll],
        on_listing=[expected.on_listing],
        on_installed=[expected.on_installed],
        on_event=[
            instruments.lifecycle.on_event,
            partial(log_event, timeline=timeline, target=target),
        ],
        errors=instruments.exporter.errors.inc,
    )
    poller = Poller(
        client,
        tracker,
        current.cadence,
        sinks,
        timeline=timeline,
        jitter=random.random,
        url=current.settings.ollama_url,
        target=target,
        on_due=on_due,
    )
    reporter = Reporter(
        fact=poller.on_fact,
        error=instruments.exporter.errors.inc,
        own_use=advice.gaps.on_own_use,
        expect=expected.expect,
    )
    return Polling(tracker, advice, expected, sinks, poller, reporter)


def build_telling(
    settings: Settings,
    polling: Polling,
    instruments: Instruments,
    timeline: Timeline,
    *,
    machine: Machine | None = None,
    in_flight: InFlight | None = None,
    limit: ReaderLimit | None = None,
    share: float = 1.0,
) -> Telling:
    """Return what the page is told. It learns from the polls. The last four: see Told."""
    telling = Telling(
        Told(
            settings=settings,
            published=polling.poller.published,
            machine=machine,
            in_flight=in_flight,
            advice=polling.advice,
            labels=instruments.labels,
            timeline=timeline,
            reporter=polling.reporter,
            limit=limit,
            share=share,
            hide=instruments.hidden,
        )
    )
    polling.sinks.on_change.append(telling.on_change)
    return telling


def build_machine(
    settings: Settings,
    client: ShowClient,
    polling: Polling,
    lifecycle: LoadUnloadMetrics,
    *,
    timeline: Timeline,
) -> Machine:
    """Return what looks at the server's processes and log. It learns from the polls."""
    poller = polling.poller
    machine = Machine(
        settings,
        client,
        reporter=polling.reporter,
        timeline=timeline,
        up=poller.is_up,
        runners_at_work=lambda: runners_at_work(poller.published().view),
        on_slot_use=polling.advice.on_slot_use,
        on_late_load=lambda load: lifecycle.on_load_time(
            load.model, load.seconds, ended=load.ended
        ),
    )
    polling.sinks.on_event.append(machine.on_event)
    polling.sinks.on_listing.append(machine.on_listing)
    polling.sinks.on_installed.append(machine.on_installed)
    return machine


def build_in_flight(settings: Settings, polling: Polling, machine: Machine) -> InFlight:
    """Return the table of proxied requests that have not ended."""
    residence = PolledResidence(polling.poller.published, weights=machine.weights)
    polling.sinks.on_installed.append(residence.on_installed)
    return InFlight(residence, polling.advice.gaps, cold=settings.proxy_cold_threshold)


def build_actor(
    settings: Settings,
    client: ActionClient,
    polling: Polling,
    in_flight: InFlight,
    *,
    metrics: ActionMetrics,
    timeline: Timeline,
    save_soon: Callable[[], None] = ignore,
) -> Actor:
    """Return what acts on the server. It learns from the polls. `save_soon`: see its context."""
    context = ActionContext(
        published=polling.poller.published,
        poll=polling.poller.poll,
        is_loading=in_flight.is_any_waiting,
        timeline=timeline,
        reporter=polling.reporter,
        save_soon=save_soon,
    )
    advice = polling.advice.by_label
    actor = Actor(settings, metrics, context, client, in_flight=in_flight, advice=advice)
    polling.sinks.on_installed.append(actor.on_installed)
    polling.sinks.on_change.append(actor.on_change)
    return actor


def take_up(
    saved: SavedState | None,
    polling: Polling,
    instruments: Instruments,
    actor: Actor | None,
    *,
    timeline: Timeline,
) -> SavedPast | None:
    """Continue where an earlier process ended. Return what the page may show of it."""
    if saved is None:
        return None
    saved, now = saved.on(timeline), timeline.now()
    residency = saved.residency
    polling.poller.restore(residency)
    polling.advice.restore(saved.usage)
    if actor is not None:
        actor.restore(saved.actions)
    for life in residency.lives:  # their counters must stand at 0 before the first unload
        instruments.lifecycle.on_event(Found(life.model, now))
    logger.info("State restored", extra={"models": len(residency.lives)})
    return saved.past
