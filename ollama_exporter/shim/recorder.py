# SPDX-License-Identifier: Apache-2.0
"""Records exchanges: in the families of the section Requests, as facts, and in the access log."""

import threading
from collections.abc import Callable, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from ollama_exporter.advice.gap_counts import GapCounts
from ollama_exporter.clock import Timeline
from ollama_exporter.metrics.catalog.all_families import FAMILIES
from ollama_exporter.metrics.catalog.request_families import REQUESTS
from ollama_exporter.metrics.client_metrics import ClientMetrics
from ollama_exporter.metrics.from_catalog import Families, empty
from ollama_exporter.metrics.labels import OTHER, ModelLabels
from ollama_exporter.metrics.load_times import LoadTimes, Span
from ollama_exporter.metrics.request_metrics import RequestMetrics
from ollama_exporter.protocol.response_fields import ResponseFields
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.events import Event, Unloaded
from ollama_exporter.shim import tracker_facts
from ollama_exporter.shim.access_log import AccessLog
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.in_flight import InFlight
from ollama_exporter.shim.observation import Observation, Outcome, Phase
from ollama_exporter.shim.request_labels import RequestLabels


class RequestInstruments(Struct, frozen=True):
    """Instruments that requests and polls both count in."""

    labels: ModelLabels
    loads: LoadTimes = field(default_factory=LoadTimes)
    gaps: GapCounts = field(default_factory=GapCounts)


class Recorder:
    """The sink of the exchanges with one server. Safe to use from several threads.

    An internal error never costs a request: it is counted, and the first is logged.
    """

    name = "requests"

    def __init__(
        self,
        instruments: RequestInstruments,
        in_flight: InFlight,
        reporter: Reporter,
        timeline: Timeline,
        *,
        on_request: Callable[[Observation], None] | None = None,
        on_served: Sequence[Callable[[Observation], None]] = (),
        access_log: bool = False,
    ) -> None:
        """`on_request` and `on_served` receive the observation of each finished request.

        `on_request`: of every request whose exchange has none of its own. `on_served`: of requests
        that need a runner.
        """
        self._labels = RequestLabels(instruments.labels, in_flight.residence)
        self._loads, self._gaps = instruments.loads, instruments.gaps
        self._in_flight, self._reporter, self._timeline = in_flight, reporter, timeline
        self._on_request, self._on_served = on_request, on_served
        self._access_log = AccessLog(wanted=access_log)
        # Reentrant: the garbage collector may close a stream, and so end a request, inside it.
        self._lock = threading.RLock()
        self._metrics, self._clients = RequestMetrics(timeline), ClientMetrics()

    # -- the sink --------------------------------------------------------------------------------

    def on_request_start(self, exchange: Exchange) -> None:
        """Count a request in flight."""
        try:
            with self._lock:
                self._metrics.on_request_start(exchange.route.label)
        except Exception:  # noqa: BLE001 - whatever it is, the request continues
            self.failed("Request could not be recorded")

    def on_request_read(self, exchange: Exchange) -> None:
        """Note which model a request is for, and report it to the tracker."""
        try:
            with self._lock:
                self._note_model(exchange)
            fact = tracker_facts.request_started(exchange)
            if fact is not None:
                self._reporter.fact(fact)
        except Exception:  # noqa: BLE001 - as above
            self.failed("Request could not be recorded")

    def _note_model(self, exchange: Exchange) -> None:
        if exchange.model is None:
            return
        canonical = self._in_flight.residence.canonical_name(exchange.model)
        exchange.model = canonical or exchange.model
        gap = self._in_flight.on_request_read(exchange)
        label = self._labels.label(exchange.model)
        self._metrics.create(label, exchange.route.label)
        self._clients.on_request_read(exchange, label)
        if gap is not None and label != OTHER:
            self._gaps.add(label, gap, inferred=False)

    def on_response_start(self, exchange: Exchange) -> None:
        """Note that the model is loaded, and report it to the tracker."""
        try:
            with self._lock:
                self._in_flight.on_response_start(exchange)
            self._reporter.fact(tracker_facts.request_answered(exchange))
        except Exception:  # noqa: BLE001 - as above
            self.failed("Request could not be recorded")

    def is_waiting(self, exchange: Exchange) -> bool:
        """Return whether a request still waits for a load."""
        return self._in_flight.is_waiting(exchange)

    def on_request_end(
        self, exchange: Exchange, response: ResponseFields, outcome: Outcome, phase: Phase | None
    ) -> None:
        """Count a finished request, report it to the tracker and log it."""
        try:
            with self._lock:
                self._metrics.on_request_end(exchange, outcome)
            on_request = exchange.on_request or self._on_request
            if not (exchange.route.runs or on_request or self._access_log.is_enabled()):
                return
            seen = exchange.observation(response, outcome, phase)
            if exchange.route.runs:
                with self._lock:
                    seen = self._count(exchange, seen)
                self._reporter.fact(tracker_facts.request_ended(seen))
                for on_served in self._on_served:
                    self._deliver(on_served, seen)
            if self._access_log.is_enabled():
                self._access_log.write(seen, self._labels.label(seen.model))
            if on_request is not None:
                self._deliver(on_request, seen)
        except Exception:  # noqa: BLE001 - as above
            self.failed("Request could not be recorded")

    def _deliver(self, sink: Callable[[Observation], None], seen: Observation) -> None:
        """Call one sink, so that an error in it costs neither the others nor the access log."""
        try:
            sink(seen)
        except Exception:  # noqa: BLE001 - as above
            self.failed("A sink of requests failed")

    def _count(self, exchange: Exchange, seen: Observation) -> Observation:
        """Count a request that needs a runner; return its observation with `start` set."""
        seen = self._in_flight.on_request_end(exchange, seen)
        # Also of a stream that its client left: many readers stop before the end.
        answered = seen.outcome is Outcome.ANSWERED or seen.first_content is not None
        label = self._labels.label(exchange.model, is_confirmed=answered)
        load = self._in_flight.load_seconds(exchange, seen)
        self._metrics.record(label, seen)
        self._clients.on_request_end(exchange, label, seen)
        if load is not None and seen.model is not None:
            span = Span(seen.began, exchange.answered_at or seen.ended)
            self._loads.on_request_load(seen.model, label, load, span)
        return seen

    def on_event(self, event: Event) -> None:
        """Count an eviction for the client that caused it."""
        if isinstance(event, Unloaded):
            with self._lock:
                label = self._labels.label(event.model.name, is_confirmed=True)
                self._clients.on_unload(event, label)

    def failed(self, message: str) -> None:
        """Report an internal error. Call it in an `except` block."""
        with self._lock:
            self._reporter.error_once(message)

    # -- forks of the process --------------------------------------------------------------------

    def before_fork(self) -> None:
        """Wait until no other thread is in the middle of recording."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Let the other threads continue."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Forget the requests of threads that do not exist here, and make a new lock."""
        self._in_flight.forget_all()
        self._metrics.forget_in_flight()
        self._clients.forget_in_flight()
        self._lock = threading.RLock()

    # -- collecting ------------------------------------------------------------------------------

    def collect(self) -> Families:
        """Yield the families as counted so far.

        Takes no lock: a scrape of thousands of lines must not delay a request.
        """
        waiting = [
            replace(w, label=self._labels.label(w.label), since=self._timeline.wall(w.since))
            for w in self._in_flight.waiting()
        ]
        yield from self._metrics.collect(waiting)
        yield from self._clients.collect()

    def describe(self) -> Families:
        """Yield the families' names."""
        yield from (empty(name) for name, family in FAMILIES.items() if family.source == REQUESTS)
