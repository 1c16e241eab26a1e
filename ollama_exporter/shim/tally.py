# SPDX-License-Identifier: Apache-2.0
"""The families of the section Requests: counted here, under labels that are decided elsewhere."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from ollama_exporter.metrics.catalog import FAMILIES
from ollama_exporter.metrics.families import (
    Families,
    collected,
    constant,
    counter,
    gauge,
    histogram,
)
from ollama_exporter.protocol.asked import Asked
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.observation import Observation, Outcome, Phase, Start

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
# Requests that a runner had to do with: how long the others took says nothing of models.
SERVED: Final = frozenset({Outcome.ANSWERED, Outcome.CLIENT_GONE, Outcome.TRUNCATED})


@dataclass(slots=True)
class Passed:
    """What passed on one route."""

    in_flight: int = 0
    sent: int = 0
    received: int = 0
    codes: dict[int, int] = field(default_factory=dict)  # of requests that need no runner


@dataclass(frozen=True, slots=True)
class Waiting:
    """Requests of one label that wait for a load; `since`: wall-clock Unix seconds."""

    label: str
    count: int
    since: float


class Tally:
    """Counts. Its caller has a lock, but for `collect`."""

    def __init__(self) -> None:
        make = {"counter": counter, "gauge": gauge, "histogram": histogram}
        self._routes: dict[str, Passed] = {}
        self._requests: dict[tuple[str, str, int], int] = {}  # by model, route, code
        self._instruments: dict[str, Any] = {
            family.name: make[family.kind](family.name)
            for family in FAMILIES.values()
            if family.source and family.name not in COUNTED
        }
        self._children: dict[tuple[str, ...], Any] = {}  # bounded, because the labels are
        self.loads: dict[str, tuple[float, int]] = {}  # seconds of all measured loads, and how many

    # -- every request ---------------------------------------------------------------------------

    def begun(self, route: str) -> None:
        """Count a request that is under way."""
        passed = self._routes.get(route)
        if passed is None:
            passed = self._routes[route] = Passed()
        passed.in_flight += 1

    def ended(self, exchange: Exchange, outcome: Outcome) -> None:
        """Count what every request has, and all there is of one that needs no runner."""
        passed = self._routes[exchange.route.label]
        passed.in_flight -= 1
        passed.sent += exchange.sent
        passed.received += exchange.received
        if not exchange.route.runs:
            codes, code = passed.codes, exchange.status
            codes[code] = codes.get(code, 0) + 1
            if outcome is not Outcome.ANSWERED:
                self._failure("", exchange.route.label, outcome).inc()

    # -- requests that need a runner -------------------------------------------------------------

    def meet(self, label: str, route: str) -> None:
        """Create counters at 0 before they count: `increase()` misses a birth at 1."""
        if ("met", label, route) in self._children:
            return
        self._children["met", label, route] = None
        self._requests.setdefault((label, route, 200), 0)
        self._child("ollama_cold_starts_total", label)
        for outcome in FAILURES:
            self._failure(label, route, outcome)
        for phase in Phase:
            self._child("ollama_requests_aborted_total", label, phase)
        for class_ in KEEP_ALIVES:
            self._child("ollama_request_keep_alive_total", label, class_)
        for class_ in OPTIONS:
            self._child("ollama_request_options_total", label, class_)

    def record(self, label: str, seen: Observation, *, load: float | None) -> None:
        """Count a request; `load`: seconds of a load that it measured."""
        route, outcome = seen.route.label, seen.outcome
        self.meet(label, route)
        key = (label, route, seen.code)
        self._requests[key] = self._requests.get(key, 0) + 1
        self._child("ollama_request_keep_alive_total", label, _keep_alive(seen.asked)).inc()
        self._child("ollama_request_options_total", label, _options(seen.asked)).inc()
        if outcome is not Outcome.ANSWERED:
            self._failure(label, route, outcome).inc()
        else:
            finish = (
                "none" if (word := seen.reading.finish) is None else FINISHES.get(word, "other")
            )
            self._child("ollama_request_finish_reasons_total", label, finish).inc()
        if seen.phase is not None:
            self._child("ollama_requests_aborted_total", label, seen.phase).inc()
        if seen.start is Start.COLD:
            self._child("ollama_cold_starts_total", label).inc()
        if load is not None:
            self._child("ollama_model_load_seconds", label).observe(load)
            seconds, count = self.loads.get(label, (0.0, 0))
            self.loads[label] = (seconds + load, count + 1)
        self._times(label, seen)
        self._tokens(label, seen)

    def _times(self, label: str, seen: Observation) -> None:
        read, start = seen.reading, seen.start
        if seen.outcome in SERVED:
            exemplar = None if seen.trace_id is None else {"trace_id": seen.trace_id}
            whole = self._child("ollama_request_duration_seconds", label, start)
            whole.observe(seen.duration, exemplar)
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

    def _tokens(self, label: str, seen: Observation) -> None:
        for name, count in (
            ("prompt_tokens", seen.reading.prompt_tokens),
            ("cached_prompt_tokens", seen.reading.cached_tokens),
            ("output_tokens", seen.reading.output_tokens),
        ):
            if count is not None:
                self._child(f"ollama_request_{name}_total", label).inc(count)

    def _failure(self, label: str, route: str, outcome: Outcome) -> Any:  # noqa: ANN401 - as below
        return self._child("ollama_request_failures_total", label, route, outcome)

    def _child(self, name: str, *labels: str) -> Any:  # noqa: ANN401 - a child of any kind
        key = (name, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._instruments[name].labels(*labels)
        return child

    # -- what is read ----------------------------------------------------------------------------

    def collect(self, waiting: Iterable[Waiting]) -> Families:
        """Yield the families as counted so far."""
        yield from collected(*self._instruments.values())
        routes = [((route,), passed) for route, passed in list(self._routes.items())]
        counted = list(self._requests.items())  # at once: others count meanwhile
        for (route,), passed in routes:
            counted += [(("", route, code), n) for code, n in list(passed.codes.items())]
        requests = [((model, route, str(code)), float(n)) for (model, route, code), n in counted]
        yield constant("ollama_requests_total", requests)
        yield constant("ollama_requests_in_flight", [(r, float(p.in_flight)) for r, p in routes])
        yield constant("ollama_request_bytes_total", [(r, float(p.sent)) for r, p in routes])
        yield constant("ollama_response_bytes_total", [(r, float(p.received)) for r, p in routes])
        counts: dict[str, int] = {}
        oldest: dict[str, float] = {}
        for each in waiting:
            counts[each.label] = counts.get(each.label, 0) + each.count
            oldest[each.label] = min(oldest.get(each.label, math.inf), each.since)
        waits = [((label,), float(count)) for label, count in counts.items()]
        since = [((label,), at) for label, at in oldest.items()]
        yield constant("ollama_requests_waiting_for_load", waits)
        yield constant("ollama_request_oldest_wait_timestamp_seconds", since)


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
