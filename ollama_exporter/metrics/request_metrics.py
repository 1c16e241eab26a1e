# SPDX-License-Identifier: Apache-2.0
"""Counts the families of the section Requests."""

import math
from collections.abc import Iterable
from typing import Final

from msgspec import Struct, field
from prometheus_client.samples import Exemplar

from ollama_exporter.clock import Timeline
from ollama_exporter.metrics.catalog.request_families import REQUEST_FAMILIES
from ollama_exporter.metrics.fast_instruments import FastCounter, FastHistogram
from ollama_exporter.metrics.from_catalog import Families, constant
from ollama_exporter.metrics.request_classes import (
    KEEP_ALIVES,
    OPTIONS,
    keep_alive_class,
    options_class,
)
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.observation import SERVED, Observation, Outcome, Phase, Start

# Label -> the finish reasons of Ollama's, OpenAI's and Anthropic's API that it stands for.
FINISH: Final = {
    "stop": ("stop", "end_turn", "stop_sequence", "completed"),
    "length": ("length", "max_tokens", "max_output_tokens"),
    "tool": ("tool_calls", "tool_use", "function_call"),
    "load": ("load",),
    "unload": ("unload",),
}
FINISHES: Final = {word: label for label, words in FINISH.items() for word in words}
FAILURES: Final = tuple(outcome for outcome in Outcome if outcome is not Outcome.ANSWERED)
# Families whose samples are made at a scrape.
COUNTED: Final = frozenset(
    {
        *("ollama_requests_total", "ollama_requests_in_flight", "ollama_request_bytes_total"),
        *("ollama_response_bytes_total", "ollama_requests_waiting_for_load"),
        "ollama_request_oldest_wait_timestamp_seconds",
    }
)


class Passed(Struct):
    """The requests of one route."""

    in_flight: int = 0
    sent: int = 0
    received: int = 0
    codes: dict[int, int] = field(default_factory=dict)  # of requests without a runner


class Waiting(Struct, frozen=True):
    """Requests with one label that wait for a load. `since`: wall-clock Unix seconds."""

    label: str
    count: int
    since: float


class RequestMetrics:
    """Counts requests. The caller holds a lock, except for `collect`."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._routes: dict[str, Passed] = {}
        self._requests: dict[tuple[str, str, int], int] = {}  # by model, route, code
        mine = [x for x in REQUEST_FAMILIES if x.name not in COUNTED]
        self._counters = {x.name: FastCounter(x.name) for x in mine if x.kind == "counter"}
        self._histograms = {x.name: FastHistogram(x.name) for x in mine if x.kind == "histogram"}
        self._failures = self._counters["ollama_request_failures_total"]
        self._created: set[tuple[str, str]] = set()  # of label and route; both are bounded

    # -- every request ---------------------------------------------------------------------------

    def on_request_start(self, route: str) -> None:
        """Count a request in flight."""
        passed = self._routes.get(route)
        if passed is None:
            passed = self._routes[route] = Passed()
        passed.in_flight += 1

    def on_request_end(self, exchange: Exchange, outcome: Outcome) -> None:
        """Count what all requests have, and the code of a request without a runner."""
        passed = self._routes[exchange.route.label]
        passed.in_flight = max(0, passed.in_flight - 1)  # 0: it began before a fork
        passed.sent += exchange.request_bytes
        passed.received += exchange.response_bytes
        if not exchange.route.runs:
            codes, code = passed.codes, exchange.status
            codes[code] = codes.get(code, 0) + 1
            if outcome is not Outcome.ANSWERED:
                self._failures.add("", exchange.route.label, outcome)

    def forget_in_flight(self) -> None:
        """Set the requests in flight to 0."""
        for passed in self._routes.values():
            passed.in_flight = 0

    # -- requests that need a runner -------------------------------------------------------------

    def create(self, label: str, route: str) -> None:
        """Create counters at 0: `increase()` does not see a counter that starts at 1."""
        if (label, route) in self._created:
            return
        self._created.add((label, route))
        self._requests.setdefault((label, route, 200), 0)
        counters = self._counters
        counters["ollama_cold_starts_total"].create(label)
        for outcome in FAILURES:
            self._failures.create(label, route, outcome)
        for phase in Phase:
            counters["ollama_requests_aborted_total"].create(label, phase)
        for class_ in KEEP_ALIVES:
            counters["ollama_request_keep_alive_total"].create(label, class_)
        for class_ in OPTIONS:
            counters["ollama_request_options_total"].create(label, class_)

    def record(self, label: str, seen: Observation) -> None:
        """Count a finished request."""
        route, outcome, counters = seen.route.label, seen.outcome, self._counters
        self.create(label, route)
        key = (label, route, seen.code)
        self._requests[key] = self._requests.get(key, 0) + 1
        counters["ollama_request_keep_alive_total"].add(
            label, keep_alive_class(seen.request_fields)
        )
        counters["ollama_request_options_total"].add(label, options_class(seen.request_fields))
        if outcome is not Outcome.ANSWERED:
            self._failures.add(label, route, outcome)
        else:
            word = seen.response.finish
            finish = "none" if word is None else FINISHES.get(word, "other")
            counters["ollama_request_finish_reasons_total"].add(label, finish)
        if seen.phase is not None:
            counters["ollama_requests_aborted_total"].add(label, seen.phase)
        if seen.start is Start.COLD:
            counters["ollama_cold_starts_total"].add(label)
        self._times(label, seen)
        self._tokens(label, seen)

    def _times(self, label: str, seen: Observation) -> None:
        read, start, histograms = seen.response, seen.start, self._histograms
        first, each_token = seen.time_to_first_token, seen.time_per_output_token
        if seen.outcome in SERVED:
            exemplar = None
            if seen.trace_id is not None:
                ended = self._timeline.wall(seen.ended)
                exemplar = Exemplar({"trace_id": seen.trace_id}, seen.duration, ended)
            whole = histograms["ollama_request_duration_seconds"]
            whole.observe(label, start, value=seen.duration, exemplar=exemplar)
        for name, labels, value in (
            ("ollama_request_time_to_first_token_seconds", (label, start), first),
            ("ollama_request_load_wait_seconds", (label, start), seen.load_wait),
            ("ollama_request_prompt_eval_seconds", (label,), read.prompt_eval),
            ("ollama_request_eval_seconds", (label,), read.eval),
            ("ollama_request_unaccounted_seconds", (label,), seen.unaccounted),
            ("ollama_request_time_per_output_token_seconds", (label,), each_token),
        ):
            if value is not None:
                histograms[name].observe(*labels, value=value)

    def _tokens(self, label: str, seen: Observation) -> None:
        for name, count in (
            ("ollama_request_prompt_tokens_total", seen.response.prompt_tokens),
            ("ollama_request_cached_prompt_tokens_total", seen.response.cached_tokens),
            ("ollama_request_output_tokens_total", seen.response.output_tokens),
        ):
            if count is not None:
                self._counters[name].add(label, amount=count)

    # -- what is read ----------------------------------------------------------------------------

    def collect(self, waiting: Iterable[Waiting]) -> Families:
        """Yield the families as counted so far."""
        yield from (counter.collect() for counter in self._counters.values())
        yield from (histogram.collect() for histogram in self._histograms.values())
        routes = [((route,), passed) for route, passed in list(self._routes.items())]
        counted = list(self._requests.items())  # a copy: other threads count meanwhile
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
