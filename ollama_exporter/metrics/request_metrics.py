# SPDX-License-Identifier: Apache-2.0
"""Counts the families of the section Requests."""

import math
from collections.abc import Iterable
from typing import Final

from msgspec import Struct, field
from prometheus_client.samples import Exemplar

from ollama_exporter.clock import Timeline
from ollama_exporter.metrics.catalog.request_families import REQUEST_FAMILIES
from ollama_exporter.metrics.catalog_metric import Labels
from ollama_exporter.metrics.fast_instruments import FastCounter, FastHistogram
from ollama_exporter.metrics.from_catalog import Families, constant
from ollama_exporter.metrics.request_classes import (
    KEEP_ALIVES,
    OPTIONS,
    keep_alive_class,
    options_class,
)
from ollama_exporter.protocol.response_fields import ResponseFields
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
FINISHES: Final[dict[str | None, str]] = {
    None: "none",
    **{word: label for label, words in FINISH.items() for word in words},
}
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


class RequestSeries(Struct, frozen=True):
    """The label values of one model's series, made once. By the value of the last label."""

    label: Labels
    start: dict[Start, Labels]
    keep_alive: dict[str, Labels]
    options: dict[str, Labels]
    finish: dict[str, Labels]

    @classmethod
    def of(cls, label: str) -> "RequestSeries":
        """Return those of a label."""
        finishes = {*FINISHES.values(), "other"}
        return cls(
            (label,),
            {start: (label, start) for start in Start},
            {each: (label, each) for each in KEEP_ALIVES},
            {each: (label, each) for each in OPTIONS},
            {each: (label, each) for each in finishes},
        )


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
        # What each request updates is looked up once.
        self._failures = self._counters["ollama_request_failures_total"]
        self._keep_alives = self._counters["ollama_request_keep_alive_total"]
        self._options = self._counters["ollama_request_options_total"]
        self._finishes = self._counters["ollama_request_finish_reasons_total"]
        self._prompt_tokens = self._counters["ollama_request_prompt_tokens_total"]
        self._cached_tokens = self._counters["ollama_request_cached_prompt_tokens_total"]
        self._output_tokens = self._counters["ollama_request_output_tokens_total"]
        self._duration = self._histograms["ollama_request_duration_seconds"]
        self._first = self._histograms["ollama_request_time_to_first_token_seconds"]
        self._load_wait = self._histograms["ollama_request_load_wait_seconds"]
        self._prompt_eval = self._histograms["ollama_request_prompt_eval_seconds"]
        self._eval = self._histograms["ollama_request_eval_seconds"]
        self._unaccounted = self._histograms["ollama_request_unaccounted_seconds"]
        self._each_token = self._histograms["ollama_request_time_per_output_token_seconds"]
        # By label and route; both are bounded.
        self._series: dict[tuple[str, str], RequestSeries] = {}

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

    def create(self, label: str, route: str) -> "RequestSeries":
        """Create counters at 0: `increase()` does not see a counter that starts at 1."""
        series = self._series.get((label, route))
        if series is not None:
            return series
        series = self._series[label, route] = RequestSeries.of(label)
        self._requests.setdefault((label, route, 200), 0)
        counters = self._counters
        counters["ollama_cold_starts_total"].create(label)
        for outcome in FAILURES:
            self._failures.create(label, route, outcome)
        for phase in Phase:
            counters["ollama_requests_aborted_total"].create(label, phase)
        for class_ in KEEP_ALIVES:
            self._keep_alives.create(label, class_)
        for class_ in OPTIONS:
            self._options.create(label, class_)
        return series

    def record(self, label: str, seen: Observation) -> None:
        """Count a finished request."""
        route, outcome, counters = seen.route.label, seen.outcome, self._counters
        series = self.create(label, route)
        key = (label, route, seen.code)
        self._requests[key] = self._requests.get(key, 0) + 1
        self._keep_alives.add_at(series.keep_alive[keep_alive_class(seen.request_fields)])
        self._options.add_at(series.options[options_class(seen.request_fields)])
        if outcome is not Outcome.ANSWERED:
            self._failures.add(label, route, outcome)
        else:
            self._finishes.add_at(series.finish[FINISHES.get(seen.response.finish, "other")])
        if seen.phase is not None:
            counters["ollama_requests_aborted_total"].add(label, seen.phase)
        if seen.start is Start.COLD:
            counters["ollama_cold_starts_total"].add(label)
        self._times(series, seen)
        self._tokens(series.label, seen.response)

    def _times(self, series: "RequestSeries", seen: Observation) -> None:
        read, whole = seen.response, seen.duration
        label, of_start = series.label, series.start[seen.start]
        if seen.outcome in SERVED:
            exemplar = None
            if seen.trace_id is not None:
                ended = self._timeline.wall(seen.ended)
                exemplar = Exemplar({"trace_id": seen.trace_id}, whole, ended)
            self._duration.observe_at(of_start, whole, exemplar)
        if (first := seen.time_to_first_token) is not None:
            self._first.observe_at(of_start, first)
        if (load_wait := seen.load_wait) is not None:
            self._load_wait.observe_at(of_start, load_wait)
        if read.prompt_eval is not None:
            self._prompt_eval.observe_at(label, read.prompt_eval)
        if read.eval is not None:
            self._eval.observe_at(label, read.eval)
        if (unaccounted := seen.unaccounted) is not None:
            self._unaccounted.observe_at(label, unaccounted)
        if (each_token := seen.time_per_output_token) is not None:
            self._each_token.observe_at(label, each_token)

    def _tokens(self, label: Labels, read: ResponseFields) -> None:
        if read.prompt_tokens is not None:
            self._prompt_tokens.add_at(label, read.prompt_tokens)
        if read.cached_tokens is not None:
            self._cached_tokens.add_at(label, read.cached_tokens)
        if read.output_tokens is not None:
            self._output_tokens.add_at(label, read.output_tokens)

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
