# SPDX-License-Identifier: Apache-2.0
"""A recorder, the polls that it knows, and requests to record."""

from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest

from ollama_exporter.advice.idle_gaps import IdleGapDetector
from ollama_exporter.metrics.collectors.idle_gap_collector import IdleGapCollector
from ollama_exporter.metrics.from_catalog import counter
from ollama_exporter.metrics.labels import ModelLabels
from ollama_exporter.protocol.routes import route_of
from ollama_exporter.reporter import Reporter
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.in_flight import InFlight
from ollama_exporter.shim.observation import COLD, Observation
from ollama_exporter.shim.recorder import Recorder, RequestInstruments
from tests.support.exporting import Samples, parsed
from tests.support.timelines import GivenTimeline

GENERATE: Final = route_of("POST", "/api/generate")
NDJSON: Final = b"application/x-ndjson"
ASK: Final = b'{"model":"m","prompt":"p"}'
TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
TOKEN: Final = b'{"model":"m","response":"w","done":false}\n'
FINAL: Final = (
    b'{"model":"m","response":"","done":true,"done_reason":"stop","total_duration":9000000000,'
    b'"load_duration":%d,"prompt_eval_count":4,"prompt_eval_duration":1000000000,'
    b'"eval_count":3,"eval_duration":2000000000}\n'
)


@dataclass(slots=True)
class Polls:
    """What polls say, set by a test."""

    installed: dict[str, str] = field(default_factory=dict)  # in lower case -> as installed
    listed: dict[str, float] = field(default_factory=dict)  # -> first poll that listed it
    at: float = 0.0
    up: bool = True
    remote: set[str] = field(default_factory=set)

    def canonical_name(self, name: str) -> str | None:
        """Return a model's own spelling."""
        return self.installed.get(name.lower())

    def is_remote(self, name: str) -> bool:
        """Return whether a test made the model remote."""
        return name in self.remote

    def is_resident(self, name: str) -> bool | None:
        """Return whether a model is listed."""
        return name in self.listed if self.up else None

    def loaded_at(self, name: str) -> float | None:
        """Return the first poll that listed it."""
        return self.listed.get(name)

    def polled_at(self) -> float:
        """Return the time of the last poll."""
        return self.at


class Bench:
    """A recorder on a clock that the test sets."""

    def __init__(self, polls: Polls | None = None, **options: Any) -> None:
        self.now = 100.0
        self.polls = polls or Polls()
        self.facts: list[Any] = []
        self.seen: list[Observation] = []
        self.numbers = 0
        self.errors = counter("ollama_exporter_recorder_errors_total")
        instruments = RequestInstruments(ModelLabels(options.pop("limit", 100)))
        self.in_flight = InFlight(self.polls, IdleGapDetector(), cold=options.pop("cold", COLD))
        self.recorder = Recorder(
            instruments,
            self.in_flight,
            Reporter(fact=options.pop("tell", self.facts.append), error=self.errors.inc),
            GivenTimeline(),
            on_request=options.pop("on_request", self.seen.append),
            **options,
        )
        self.registry = CollectorRegistry()
        for part in (
            self.recorder,
            instruments.loads,
            IdleGapCollector(instruments.gaps),
            self.errors,
        ):
            self.registry.register(part)

    def samples(self) -> Samples:
        """Return all samples."""
        return parsed(generate_latest(self.registry).decode())

    def ask(
        self,
        body: bytes = b'{"model":"m","prompt":"p"}',
        path: str = "/api/generate",
        *,
        client: str | None = None,
    ) -> Exchange:
        """Send a request, of a client if clients are told apart."""
        self.numbers += 1
        exchange = Exchange(
            self.recorder,
            route_of("POST", path),
            method=b"POST",
            id=self.numbers,
            now=lambda: self.now,
        )
        exchange.client = client
        exchange.on_request_body(body)
        exchange.on_request_complete()
        return exchange

    def answer(self, exchange: Exchange, *, load: float = 0.002, first: float = 1.0) -> Observation:
        """Answer a request: first token after `first` seconds, end one second later."""
        self.now += first
        exchange.on_response_head(200, NDJSON, b"")
        exchange.on_response_body(TOKEN)
        self.now += 1.0
        exchange.on_response_body(FINAL % round(load * 1e9))
        exchange.on_response_complete()
        return self.seen[-1]
