# SPDX-License-Identifier: Apache-2.0
"""Counts the families of the section Clients."""

from typing import Final

from msgspec import Struct

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.metrics.catalog.client_families import CLIENT_FAMILIES
from ollama_exporter.metrics.client_labels import ClientLabels
from ollama_exporter.metrics.fast_instruments import FastCounter
from ollama_exporter.metrics.from_catalog import Families
from ollama_exporter.metrics.request_classes import (
    KEEP_ALIVES,
    OPTIONS,
    keep_alive_class,
    options_class,
)
from ollama_exporter.residency.events import Reason, Unloaded
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.observation import Observation, Start

KINDS: Final = ("load", "queue")
MOST_WAITS: Final = 2048  # requests that may have caused an eviction; twice what may be in flight


class PossibleCause(Struct):
    """A request that may have waited for a load. Times are on the timeline."""

    model: str
    client: str  # its label; empty: the request shows none
    began: float
    until: float | None = None  # when its model was loaded, at the latest; None: not yet


class ClientMetrics:
    """Counts requests by client. The caller holds a lock, except for `collect`."""

    def __init__(self) -> None:
        self._labels = ClientLabels()
        self._counters = {each.name: FastCounter(each.name) for each in CLIENT_FAMILIES}
        self._created: set[tuple[str, str]] = set()  # of client and model; both are bounded
        self._causes = BoundedDict[int, PossibleCause](MOST_WAITS)

    def on_request_read(self, exchange: Exchange, model_label: str) -> None:
        """Note a request of a client, and create its counters at 0."""
        if exchange.client is None or exchange.model is None or not exchange.route.runs:
            return
        client = self._labels.label(exchange.client)
        self._create(client, model_label)
        if not (exchange.is_remote or exchange.request_fields.is_stop):
            self._causes[exchange.id] = PossibleCause(exchange.model, client, exchange.started_at)

    def on_request_end(self, exchange: Exchange, model_label: str, seen: Observation) -> None:
        """Count a finished request of a client."""
        if exchange.client is None:
            return
        client, counters = self._labels.label(exchange.client), self._counters
        self._create(client, model_label)
        counters["ollama_client_requests_total"].add(client, model_label)
        for name, tokens in (
            ("ollama_client_prompt_tokens_total", seen.response.prompt_tokens),
            ("ollama_client_output_tokens_total", seen.response.output_tokens),
        ):
            if tokens is not None:
                counters[name].add(client, model_label, amount=tokens)
        waits = counters["ollama_client_wait_seconds_total"]
        if seen.start is Start.COLD and seen.load_wait is not None:
            waits.add(client, "load", amount=seen.load_wait)
        if seen.unaccounted is not None:
            waits.add(client, "queue", amount=seen.unaccounted)
        keep_alive, options = (f"ollama_client_{x}_total" for x in ("keep_alive", "options"))
        counters[keep_alive].add(client, keep_alive_class(seen.request_fields))
        counters[options].add(client, options_class(seen.request_fields))
        self._end_cause(exchange, seen)

    def _end_cause(self, exchange: Exchange, seen: Observation) -> None:
        cause = self._causes.get(exchange.id)
        if cause is None:
            return
        if seen.start is Start.WARM:
            del self._causes[exchange.id]
            return
        cause.until = seen.ended if exchange.answered_at is None else exchange.answered_at
        if seen.load_wait is not None:  # an answer that is not streamed begins at its end
            cause.until = min(cause.until, seen.began + seen.upload + seen.load_wait)

    def on_unload(self, event: Unloaded, victim_label: str) -> None:
        """Count an eviction for the client that caused it, if that can only be one."""
        if event.reason is not Reason.EVICTED or event.by is None:
            return
        clients = {
            each.client
            for each in self._causes.values()
            if each.model == event.by
            and each.began <= event.not_after
            and (each.until is None or each.until >= event.not_before)
        }
        if len(clients) == 1:
            self._counters["ollama_client_evictions_caused_total"].add(clients.pop(), victim_label)

    def forget_in_flight(self) -> None:
        """Forget requests whose end will not come."""
        self._causes.clear()

    def _create(self, client: str, model_label: str) -> None:
        if (client, model_label) in self._created:
            return
        self._created.add((client, model_label))
        for name in ("requests", "prompt_tokens", "output_tokens"):
            self._counters[f"ollama_client_{name}_total"].create(client, model_label)
        for kind in KINDS:
            self._counters["ollama_client_wait_seconds_total"].create(client, kind)
        for each in KEEP_ALIVES:
            self._counters["ollama_client_keep_alive_total"].create(client, each)
        for each in OPTIONS:
            self._counters["ollama_client_options_total"].create(client, each)

    def collect(self) -> Families:
        """Yield the families as counted so far."""
        yield from (counter.collect() for counter in self._counters.values())
