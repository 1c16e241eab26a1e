# SPDX-License-Identifier: Apache-2.0
"""What becomes of exchanges: the families of the section Requests, facts, a line in the log.

A defect in here never costs a request: it is counted, and logged once.
"""

import logging
import math
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client.metrics_core import Metric

from ollama_exporter.metrics.catalog import FAMILIES, GAP_BUCKETS
from ollama_exporter.metrics.families import collected, constant, counter, empty, gauge, histogram
from ollama_exporter.metrics.labels import OTHER, ModelLabels
from ollama_exporter.protocol.asked import Asked
from ollama_exporter.protocol.reading import Reading
from ollama_exporter.residency.facts import RequestFact
from ollama_exporter.shim import facts
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.observation import COLD, Observation, Outcome, Phase, Start
from ollama_exporter.shim.waits import Residence, Waits

logger = logging.getLogger(__name__)
# The server's own words, and those of the other two APIs, by the label that they get.
FINISH: Final = {
    "stop": ("stop", "end_turn", "stop_sequence", "completed"),
    "length": ("length", "max_tokens", "max_output_tokens"),
    "tool": ("tool_calls", "tool_use", "function_call"),
    "load": ("load",),
    "unload": ("unload",),
}
FINISHES: Final = {word: label for label, words in FINISH.items() for word in words}
KEEP_ALIVES: Final = ("absent", "zero", "finite", "never")
OPTIONS: Final = ("absent", "num_ctx", "other")
FAILURES: Final = tuple(outcome for outcome in Outcome if outcome is not Outcome.ANSWERED)
# What every request touches is counted in integers: an instrument's lock costs more than all of it.
COUNTED: Final = frozenset(
    {
        *("ollama_requests_total", "ollama_requests_in_flight", "ollama_request_bytes_total"),
        *("ollama_response_bytes_total", "ollama_requests_waiting_for_load"),
        "ollama_request_oldest_wait_timestamp_seconds",
    }
)
GAPS: Final = tuple((bound, f"{bound:g}") for bound in GAP_BUCKETS)


@dataclass(slots=True)
class Passed:
    """What passed on one route."""

    in_flight: int = 0
    sent: int = 0
    received: int = 0
    codes: dict[int, int] = field(default_factory=dict)  # of requests that need no runner


class Recorder:
    """The sink of exchanges of one target. Safe to use from several threads."""

    name = "requests"

    def __init__(
        self,
        labels: ModelLabels,
        residence: Residence,
        *,
        wall: Callable[[float], float],
        errors: Callable[[], None],
        tell: Callable[[RequestFact], None] | None = None,
        on_request: Callable[[Observation], None] | None = None,
        access_log: bool = False,
        cold: float = COLD,
    ) -> None:
        self._labels, self._waits = labels, Waits(residence, cold=cold)
        self._wall, self._errors, self._tell = wall, errors, tell
        self._on_request = on_request
        self._level = logging.INFO if access_log else logging.DEBUG
        self._lock = threading.RLock()
        self._reported = False
        make = {"counter": counter, "gauge": gauge, "histogram": histogram}
        self._routes: dict[str, Passed] = {}
        self._requests: dict[tuple[str, str, int], int] = {}  # by model, route, code
        self._instruments: dict[str, Any] = {
            family.name: make[family.kind](family.name)
            for family in FAMILIES.values()
            if family.source and family.name not in COUNTED
        }
        self._children: dict[tuple[str, ...], Any] = {}  # bounded, because the labels are

    # -- the sink --------------------------------------------------------------------------------

    def begun(self, exchange: Exchange) -> None:
        """Take that a request came."""
        try:
            with self._lock:
                passed = self._routes.get(exchange.route.label)
                if passed is None:
                    passed = self._routes[exchange.route.label] = Passed()
                passed.in_flight += 1
        except Exception:  # noqa: BLE001 - whatever it is, the request goes on
            self.failed("Request could not be recorded")

    def understood(self, exchange: Exchange) -> None:
        """Take that its body was read."""
        try:
            with self._lock:
                self._understood(exchange)
            fact = facts.started(exchange)
            if fact is not None and self._tell is not None:
                self._tell(fact)
        except Exception:  # noqa: BLE001 - as above
            self.failed("Request could not be recorded")

    def answered(self, exchange: Exchange) -> None:
        """Take the first byte of a good answer."""
        try:
            with self._lock:
                self._waits.answered(exchange)
            if self._tell is not None:
                self._tell(facts.answered(exchange))
        except Exception:  # noqa: BLE001 - as above
            self.failed("Request could not be recorded")

    def waits(self, exchange: Exchange) -> bool:
        """Tell whether it still waits for a load."""
        return self._waits.waits(exchange)

    def ended(
        self, exchange: Exchange, reading: Reading, outcome: Outcome, phase: Phase | None
    ) -> None:
        """Take that it is over."""
        try:
            runs = exchange.route.runs
            with self._lock:
                passed = self._routes[exchange.route.label]
                passed.in_flight -= 1
                passed.sent += exchange.sent
                passed.received += exchange.received
                if not runs:
                    codes, code = passed.codes, exchange.status
                    codes[code] = codes.get(code, 0) + 1
            if not runs:
                if outcome is not Outcome.ANSWERED:
                    self._fail("", exchange.route.label, outcome)
                if self._on_request is None and not logger.isEnabledFor(self._level):
                    return
            seen = exchange.observation(reading, outcome, phase)
            if runs:
                with self._lock:
                    seen = self._waits.ended(exchange, seen)
                    self._record(exchange, seen)
                if self._tell is not None:
                    self._tell(facts.ended(seen))
            if logger.isEnabledFor(self._level):
                self._log(seen)
            if self._on_request is not None:
                self._on_request(seen)
        except Exception:  # noqa: BLE001 - as above
            self.failed("Request could not be recorded")

    def failed(self, message: str) -> None:
        """Count a defect of ours; log the first with its stack."""
        self._errors()
        if not self._reported:
            self._reported = True
            logger.error(message, exc_info=sys.exception())

    # -- what is counted -------------------------------------------------------------------------

    def _child(self, name: str, *labels: str) -> Any:  # noqa: ANN401 - a child of any kind
        key = (name, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._instruments[name].labels(*labels)
        return child

    def _understood(self, exchange: Exchange) -> None:
        if exchange.model is None:
            return
        canonical = self._waits.residence.canonical(exchange.model)
        exchange.model = canonical or exchange.model
        gap = self._waits.arrived(exchange)
        label = self._label(exchange.model, confirmed=False)
        self._meet(label, exchange.route.label)
        if gap is not None and label != OTHER:
            self._child("ollama_model_idle_gap_seconds", label).observe(gap)
            for bound, written in GAPS:
                name = "ollama_model_idle_gap_truncated_seconds_total"
                self._child(name, label, written).inc(min(gap, bound))

    def _label(self, model: str | None, *, confirmed: bool) -> str:
        """Return a label: only names that the server knows get one of their own."""
        if model is None:
            return ""
        known = confirmed or self._waits.residence.canonical(model) is not None
        return self._labels.label(model) if known or self._labels.has(model) else OTHER

    def _meet(self, label: str, route: str) -> None:
        """Create counters at 0 before they count: `increase()` misses a birth at 1."""
        if ("met", label, route) in self._children:
            return
        self._children["met", label, route] = None
        self._requests.setdefault((label, route, 200), 0)
        self._child("ollama_cold_starts_total", label)
        for outcome in FAILURES:
            self._child("ollama_request_failures_total", label, route, outcome)
        for phase in Phase:
            self._child("ollama_requests_aborted_total", label, phase)
        for class_ in KEEP_ALIVES:
            self._child("ollama_request_keep_alive_total", label, class_)
        for class_ in OPTIONS:
            self._child("ollama_request_options_total", label, class_)

    def _fail(self, label: str, route: str, outcome: Outcome) -> None:
        self._child("ollama_request_failures_total", label, route, outcome).inc()

    def _record(self, exchange: Exchange, seen: Observation) -> None:
        confirmed = seen.outcome is Outcome.ANSWERED
        label = self._label(exchange.model, confirmed=confirmed)
        self._meet(label, seen.route.label)
        key = (label, seen.route.label, seen.code)
        self._requests[key] = self._requests.get(key, 0) + 1
        if seen.outcome is not Outcome.ANSWERED:
            self._fail(label, seen.route.label, seen.outcome)
        if seen.phase is not None:
            self._child("ollama_requests_aborted_total", label, seen.phase).inc()
        self._record_run(exchange, seen, label)

    def _record_run(self, exchange: Exchange, seen: Observation, label: str) -> None:
        asked, read, start = seen.asked, seen.reading, seen.start
        self._child("ollama_request_keep_alive_total", label, _keep_alive(asked)).inc()
        self._child("ollama_request_options_total", label, _options(asked)).inc()
        if start is Start.COLD:
            self._child("ollama_cold_starts_total", label).inc()
        if seen.outcome is Outcome.ANSWERED:
            finish = "none" if read.finish is None else FINISHES.get(read.finish, "other")
            self._child("ollama_request_finish_reasons_total", label, finish).inc()
        exemplar = None if seen.trace_id is None else {"trace_id": seen.trace_id}
        if seen.outcome in (Outcome.ANSWERED, Outcome.CLIENT_GONE, Outcome.TRUNCATED):
            self._child("ollama_request_duration_seconds", label, start).observe(
                seen.duration, exemplar
            )
        for name, labels, value in (
            ("time_to_first_token_seconds", (label, start), seen.time_to_first_token),
            ("load_wait_seconds", (label, start), seen.load_wait),
            ("prompt_eval_seconds", (label,), read.prompt_eval),
            ("eval_seconds", (label,), read.eval),
            ("unaccounted_seconds", (label,), seen.unaccounted),
            ("time_per_output_token_seconds", (label,), seen.time_per_output_token),
        ):
            if value is not None:
                self._child(f"ollama_request_{name}", *labels).observe(value)
        for name, count in (
            ("prompt_tokens", read.prompt_tokens),
            ("cached_prompt_tokens", read.cached_tokens),
            ("output_tokens", read.output_tokens),
        ):
            if count is not None:
                self._child(f"ollama_request_{name}_total", label).inc(count)
        load = self._waits.load_seconds(exchange, seen)
        if load is not None:
            self._child("ollama_model_load_seconds", label).observe(load)

    # -- what is read ----------------------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        """Yield the families as counted so far."""
        yield from collected(*self._instruments.values())
        with self._lock:
            waiting = self._waits.waiting()
            routes = [((route,), passed) for route, passed in self._routes.items()]
            requests = [((m, r, str(code)), float(n)) for (m, r, code), n in self._requests.items()]
            for (route,), passed in routes:
                requests += [(("", route, str(c)), float(n)) for c, n in passed.codes.items()]
        yield constant("ollama_requests_total", requests)
        yield constant("ollama_requests_in_flight", [(r, float(p.in_flight)) for r, p in routes])
        yield constant("ollama_request_bytes_total", [(r, float(p.sent)) for r, p in routes])
        yield constant("ollama_response_bytes_total", [(r, float(p.received)) for r, p in routes])
        counts: dict[str, int] = {}
        oldest: dict[str, float] = {}
        for each in waiting:
            label = self._label(each.model, confirmed=False)
            counts[label] = counts.get(label, 0) + each.count
            oldest[label] = min(oldest.get(label, math.inf), self._wall(each.since))
        waits = [((label,), float(n)) for label, n in counts.items()]
        since = [((label,), at) for label, at in oldest.items()]
        yield constant("ollama_requests_waiting_for_load", waits)
        yield constant("ollama_request_oldest_wait_timestamp_seconds", since)

    def describe(self) -> Iterator[Metric]:
        """Yield the names, for a registry that knows this recorder alone."""
        return (empty(family.name) for family in FAMILIES.values() if family.source)

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


def _keep_alive(asked: Asked) -> str:
    if asked.keep_alive is None:
        return "absent"
    if asked.keep_alive == 0:
        return "zero"
    return "never" if asked.keep_alive == math.inf else "finite"


def _options(asked: Asked) -> str:
    if not asked.reloading:
        return "absent"
    return "other" if asked.num_ctx is None else "num_ctx"
