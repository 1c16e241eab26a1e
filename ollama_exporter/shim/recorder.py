# SPDX-License-Identifier: Apache-2.0
"""What becomes of exchanges: the families of the section Requests, facts, a line in the log.

A defect in here never costs a request: it is counted, and logged once.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter

from ollama_exporter.advice.idle_gaps import Gaps
from ollama_exporter.clock import Timeline
from ollama_exporter.metrics.catalog.all_families import FAMILIES
from ollama_exporter.metrics.catalog.request_families import REQUESTS
from ollama_exporter.metrics.collectors.idle_gap_collector import IdleCollector
from ollama_exporter.metrics.from_catalog import Families, collected, counter, empty
from ollama_exporter.metrics.labels import OTHER, ModelLabels
from ollama_exporter.metrics.load_times import LoadTimes, Span
from ollama_exporter.metrics.request_metrics import RequestMetrics
from ollama_exporter.protocol.response_fields import ResponseFields
from ollama_exporter.reporter import Reporter, ignore
from ollama_exporter.shim import tracker_facts
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.in_flight import InFlight, Unpolled
from ollama_exporter.shim.observation import Observation, Outcome, Phase

MOST_MODELS: Final = 100  # with series of their own, inside an application
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RequestInstruments:
    """What a request is counted in besides its own families; polls count in these as well."""

    labels: ModelLabels
    loads: LoadTimes = field(default_factory=LoadTimes)
    idle: IdleCollector = field(default_factory=IdleCollector)


class Recorder:
    """The sink of exchanges of one target. Safe to use from several threads."""

    name = "requests"

    def __init__(
        self,
        instruments: RequestInstruments,
        in_flight: InFlight,
        reporter: Reporter,
        timeline: Timeline,
        *,
        on_request: Callable[[Observation], None] | None = None,
        on_served: Callable[[Observation], None] = ignore,
        access_log: bool = False,
    ) -> None:
        """Functions that receive observations, each at the end of a request.

        `on_request`: of all, unless the exchange has its own; `on_served`: of those that need a
        runner.
        """
        self._labels, self._loads = instruments.labels, instruments.loads
        self._idle = instruments.idle
        self._in_flight, self._reporter, self._timeline = in_flight, reporter, timeline
        self._on_request, self._on_served = on_request, on_served
        self._level = logging.INFO if access_log else logging.DEBUG
        self._lock = threading.RLock()
        self._tally = RequestMetrics(timeline)

    # -- the sink --------------------------------------------------------------------------------

    def on_request_start(self, exchange: Exchange) -> None:
        """Take that a request came."""
        try:
            with self._lock:
                self._tally.begun(exchange.route.label)
        except Exception:  # noqa: BLE001 - whatever it is, the request goes on
            self.failed("Request could not be recorded")

    def on_request_read(self, exchange: Exchange) -> None:
        """Take that its body was read."""
        try:
            with self._lock:
                self._understood(exchange)
            fact = tracker_facts.request_started(exchange)
            if fact is not None:
                self._reporter.fact(fact)
        except Exception:  # noqa: BLE001 - as above
            self.failed("Request could not be recorded")

    def on_response_start(self, exchange: Exchange) -> None:
        """Take the first byte of a good answer."""
        try:
            with self._lock:
                self._in_flight.on_response_start(exchange)
            self._reporter.fact(tracker_facts.request_answered(exchange))
        except Exception:  # noqa: BLE001 - as above
            self.failed("Request could not be recorded")

    def is_waiting(self, exchange: Exchange) -> bool:
        """Tell whether it still waits for a load."""
        return self._in_flight.is_waiting(exchange)

    def on_request_end(
        self, exchange: Exchange, response: ResponseFields, outcome: Outcome, phase: Phase | None
    ) -> None:
        """Take that it is over."""
        try:
            runs = exchange.route.runs
            with self._lock:
                self._tally.ended(exchange, outcome)
            hand = exchange.on_request or self._on_request
            if not (runs or hand or logger.isEnabledFor(self._level)):
                return
            seen = exchange.observation(response, outcome, phase)
            if runs:
                with self._lock:
                    seen = self._in_flight.on_request_end(exchange, seen)
                    confirmed = outcome is Outcome.ANSWERED
                    label = self._label(exchange.model, confirmed=confirmed)
                    load = self._in_flight.load_seconds(exchange, seen)
                    self._tally.record(label, seen)
                    if load is not None and seen.model is not None:
                        span = Span(seen.began, exchange.answered_at or seen.ended)
                        self._loads.by_request(seen.model, label, load, span)
                self._reporter.fact(tracker_facts.request_ended(seen))
                self._on_served(seen)
            if logger.isEnabledFor(self._level):
                self._log(seen)
            if hand is not None:
                hand(seen)
        except Exception:  # noqa: BLE001 - as above
            self.failed("Request could not be recorded")

    def failed(self, message: str) -> None:
        """Count a defect of ours; log the first with its stack."""
        self._reporter.error_once(message)

    # -- labels -----------------------------------------------------------------------------------

    def _understood(self, exchange: Exchange) -> None:
        if exchange.model is None:
            return
        canonical = self._in_flight.residence.canonical_name(exchange.model)
        exchange.model = canonical or exchange.model
        gap = self._in_flight.on_request_read(exchange)
        label = self._label(exchange.model, confirmed=False)
        self._tally.meet(label, exchange.route.label)
        if gap is not None and label != OTHER:
            self._idle.observe(label, gap, inferred=False)

    def _label(self, model: str | None, *, confirmed: bool) -> str:
        """Return a label: only names that the server knows get one of their own."""
        if model is None:
            return ""
        known = confirmed or self._in_flight.residence.canonical_name(model) is not None
        return self._labels.label(model) if known or self._labels.has(model) else OTHER

    # -- what is read ----------------------------------------------------------------------------

    def collect(self) -> Families:
        """Yield the families as counted so far.

        Without the lock: a scrape of thousands of lines must not hold a request up.
        """
        waiting = [
            replace(
                w, label=self._label(w.label, confirmed=False), since=self._timeline.wall(w.since)
            )
            for w in self._in_flight.waiting()
        ]
        yield from self._tally.collect(waiting)

    def describe(self) -> Families:
        """Yield the names."""
        yield from (empty(name) for name, family in FAMILIES.items() if family.source == REQUESTS)

    def _log(self, seen: Observation) -> None:
        first = seen.time_to_first_token
        values = {
            "method": seen.method,
            "route": seen.route.label,
            "model": self._label(seen.model, confirmed=False),
            "code": seen.code,
            "outcome": seen.outcome.value,
            "start": seen.start.value,
            "took": round(seen.duration, 4),
            "first_token": None if first is None else round(first, 4),
            "load_wait": seen.load_wait,
            "request_bytes": seen.request_bytes,
            "response_bytes": seen.response_bytes,
            "phase": None if seen.phase is None else seen.phase.value,
        }
        known = {key: value for key, value in values.items() if value not in (None, "")}
        logger.log(self._level, "Request", extra=known)


class Standalone:
    """The families of a recorder that no exporter is around."""

    def __init__(
        self, recorder: Recorder, instruments: RequestInstruments, errors: Counter
    ) -> None:
        self._parts = (recorder, instruments.loads, instruments.idle)
        self._errors = errors

    def collect(self) -> Families:
        """Yield the families as counted so far."""
        for part in self._parts:
            yield from part.collect()
        yield from collected(self._errors)

    def describe(self) -> Families:
        """Yield the names."""
        for part in self._parts:
            yield from part.describe()
        yield from collected(self._errors)


# A registry takes each family once: whatever else is instrumented for it shares its recorder.
_RECORDERS: Final[WeakKeyDictionary[CollectorRegistry, Recorder]] = WeakKeyDictionary()
_RECORDERS_LOCK: Final = threading.Lock()


def recorder_of(registry: CollectorRegistry | None) -> Recorder:
    """Return the recorder whose metrics are in a registry (None: the library's own)."""
    registry = REGISTRY if registry is None else registry
    with _RECORDERS_LOCK:
        recorder = _RECORDERS.get(registry)
        if recorder is None:
            recorder, alone = standalone()
            registry.register(alone)
            _RECORDERS[registry] = recorder
    return recorder


def standalone(
    *, max_models: int = MOST_MODELS, on_request: Callable[[Observation], None] | None = None
) -> tuple[Recorder, Standalone]:
    """Return a recorder that no exporter is around, and what a registry takes of it."""
    instruments = RequestInstruments(ModelLabels(max_models))
    errors = counter("ollama_exporter_recorder_errors_total")
    in_flight = InFlight(Unpolled(), Gaps())
    reporter = Reporter(error=errors.inc)
    recorder = Recorder(instruments, in_flight, reporter, Timeline(), on_request=on_request)
    return recorder, Standalone(recorder, instruments, errors)
