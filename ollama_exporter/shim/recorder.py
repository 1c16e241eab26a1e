# SPDX-License-Identifier: Apache-2.0
"""What becomes of exchanges: the families of the section Requests, facts, a line in the log.

A defect in here never costs a request: it is counted, and logged once.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry

from ollama_exporter.advice.idle_gaps import Gaps
from ollama_exporter.clock import Timeline
from ollama_exporter.metrics.catalog.all_families import FAMILIES
from ollama_exporter.metrics.catalog.request_families import REQUESTS
from ollama_exporter.metrics.collectors.idle_gap_collector import IdleCollector
from ollama_exporter.metrics.from_catalog import Families, collected, counter, empty
from ollama_exporter.metrics.labels import OTHER, ModelLabels
from ollama_exporter.metrics.load_times import LoadTimes, Span
from ollama_exporter.metrics.request_metrics import RequestMetrics
from ollama_exporter.protocol.request_body import RequestFields
from ollama_exporter.protocol.response_fields import ResponseFields
from ollama_exporter.residency.facts import RequestFact
from ollama_exporter.shim import tracker_facts
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.in_flight import InFlight, Residence, Unpolled
from ollama_exporter.shim.observation import COLD, Observation, Outcome, Phase

MOST_MODELS: Final = 100  # with series of their own, inside an application
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shared:
    """What polls and processes show as well as requests do: nothing is to be counted twice."""

    loads: LoadTimes = field(default_factory=LoadTimes)
    gaps: Gaps = field(default_factory=Gaps)
    idle: IdleCollector = field(default_factory=IdleCollector)


class Recorder:
    """The sink of exchanges of one target. Safe to use from several threads."""

    name = "requests"

    def __init__(
        self,
        labels: ModelLabels,
        residence: Residence,
        *,
        wall: Callable[[float], float],
        errors: Callable[[], None] | None = None,
        tell: Callable[[RequestFact], None] | None = None,
        on_request: Callable[[Observation], None] | None = None,
        access_log: bool = False,
        cold: float = COLD,
        shared: Shared | None = None,
    ) -> None:
        """`errors`: counts a defect of ours; None: this recorder stands alone and counts itself.

        `shared`: what others fill and collect as well; None: nobody else does.
        """
        self._labels = labels
        self._shared, self._own_shared = shared or Shared(), shared is None
        self._in_flight = InFlight(residence, self._shared.gaps, cold=cold)
        self._own_errors = counter("ollama_exporter_recorder_errors_total")
        self._errors = self._own_errors.inc if errors is None else errors
        self._alone = errors is None
        self._wall, self._tell = wall, tell
        self.on_request = on_request
        self._level = logging.INFO if access_log else logging.DEBUG
        self._lock = threading.RLock()
        self._reported = False
        self._tally = RequestMetrics(wall)

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
            fact = tracker_facts.started(exchange)
            if fact is not None and self._tell is not None:
                self._tell(fact)
        except Exception:  # noqa: BLE001 - as above
            self.failed("Request could not be recorded")

    def on_response_start(self, exchange: Exchange) -> None:
        """Take the first byte of a good answer."""
        try:
            with self._lock:
                self._in_flight.on_response_start(exchange)
            if self._tell is not None:
                self._tell(tracker_facts.answered(exchange))
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
            hand = exchange.on_request or self.on_request
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
                        self._shared.loads.by_request(seen.model, label, load, span)
                if self._tell is not None:
                    self._tell(tracker_facts.ended(seen))
            if logger.isEnabledFor(self._level):
                self._log(seen)
            if hand is not None:
                hand(seen)
        except Exception:  # noqa: BLE001 - as above
            self.failed("Request could not be recorded")

    def failed(self, message: str) -> None:
        """Count a defect of ours; log the first with its stack."""
        self._errors()
        if not self._reported:
            self._reported = True
            logger.error(message, exc_info=sys.exception())

    def in_flight(self, model: str) -> list[RequestFields]:
        """Return what the requests under way ask of a model, as the server was asked."""
        with self._lock:
            return [
                exchange.rewritten_fields or exchange.request_fields
                for exchange in self._in_flight.of(model)
            ]

    def canonical_name(self, model: str) -> str | None:
        """Return an installed or listed model's own spelling; None: it is not known."""
        return self._in_flight.residence.canonical_name(model)

    def loading(self) -> bool:
        """Tell whether requests wait for a load."""
        return bool(self._in_flight.waiting())

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
            self._shared.idle.observe(label, gap, inferred=False)

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
            replace(w, label=self._label(w.label, confirmed=False), since=self._wall(w.since))
            for w in self._in_flight.waiting()
        ]
        yield from self._tally.collect(waiting)
        if self._own_shared:
            yield from self._shared.loads.collect()
            yield from self._shared.idle.collect()
        if self._alone:
            yield from collected(self._own_errors)

    def describe(self) -> Families:
        """Yield the names, for a registry that knows this recorder alone."""
        yield from (empty(name) for name, family in FAMILIES.items() if family.source == REQUESTS)
        if self._own_shared:
            yield from self._shared.loads.describe()
            yield from self._shared.idle.describe()
        if self._alone:
            yield from collected(self._own_errors)

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


# A registry takes each family once: whatever else is instrumented for it shares its recorder.
_RECORDERS: Final[WeakKeyDictionary[CollectorRegistry, Recorder]] = WeakKeyDictionary()
_RECORDERS_LOCK: Final = threading.Lock()


def recorder_of(registry: CollectorRegistry | None) -> Recorder:
    """Return the recorder whose metrics are in a registry (None: the library's own)."""
    registry = REGISTRY if registry is None else registry
    with _RECORDERS_LOCK:
        recorder = _RECORDERS.get(registry)
        if recorder is None:
            clock = Timeline(wall=time.time, monotonic=time.monotonic)
            recorder = Recorder(ModelLabels(MOST_MODELS), Unpolled(), wall=clock.wall)
            registry.register(recorder)
            _RECORDERS[registry] = recorder
    return recorder
