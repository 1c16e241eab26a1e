# SPDX-License-Identifier: Apache-2.0
"""The real exporter in virtual time: its tracker, its recorder, its registry; no sockets, no clock.

A rehearsal says what the server did; here it is polled and asked as if it were now.
"""

import heapq
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from prometheus_client.metrics_core import Metric

from dashboards.pictures.day import NO_MEMORY, Question
from dashboards.pictures.machine import Machine, facts
from ollama_exporter.advice.live import LiveAdvice
from ollama_exporter.clock import Timeline
from ollama_exporter.errors import FailureReason
from ollama_exporter.metrics.collectors.exporter_collector import ExporterCollector, LogCounter
from ollama_exporter.metrics.registry import Instruments, build
from ollama_exporter.poller.published import Published, ServerState
from ollama_exporter.protocol.routes import route_of
from ollama_exporter.protocol.wire import InstalledModel, RunningModel
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.facts import Fact, PollFailed, Snapshot
from ollama_exporter.residency.tracker import Tracker
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.in_flight import InFlight
from ollama_exporter.shim.polled_residence import PolledResidence
from ollama_exporter.shim.recorder import Recorder, RequestInstruments
from ollama_exporter.simulator.calls import CallPlan, plan
from ollama_exporter.simulator.offline_run import Answered, OfflineRun, Seen, rehearse
from ollama_exporter.simulator.script import Ask, Script
from ollama_exporter.simulator.state import Listed
from ollama_exporter.story.history import History
from ollama_exporter.story.narrator import Known, Narrator
from ollama_exporter.story.status import SourceNow

POLL: Final = 5.0  # seconds; the schedule's denser polls stand in for its aligned ones
WINDOW: Final = 60.0
ANSWERING: Final = 0.003  # seconds that a poll takes
FOR_EVER: Final = 7.3e9  # the year 2200: what lies behind it means never, as on the wire
# Scrapes lie beside full minutes, as they do everywhere: on them, a window that begins where the
# one before it ends would count what lies on the edge twice.
OFF_BEAT: Final = 7.0
NANOSECONDS: Final = 1e9
QUEUE_FULL: Final = 503
FAILED: Final = 500
# What the server says when a runner dies; the rehearsal says no more than that it did.
DIED: Final = "llama runner process has terminated: exit status 2"
SOURCES: Final = (
    SourceNow(name="Processes", on=True, detail="Exits are seen at once."),
    SourceNow(name="Slots", on=False, detail="Not asked.", line="--collector.runner=on"),
    SourceNow(name="Log", on=False, detail="Not followed.", line="--ollama.log=journal"),
    SourceNow(name="Requests", on=True, detail="The proxy at 127.0.0.1:11435 sees them."),
    SourceNow(name="State file", on=True, detail="History survives a restart."),
)
_Do = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Scraped:
    """What `/metrics` held at a moment."""

    at: float
    families: list[Metric]


class _OwnTime(Timeline):
    """The moment of a script."""

    def __init__(self, virtual: "Virtual") -> None:
        super().__init__()
        self._virtual = virtual

    def now(self) -> float:
        """Return it."""
        return self._virtual.now

    def wall(self, moment: float) -> float:
        """Return a moment as it is."""
        return moment


class Virtual:
    """One server and its exporter. `start`: Unix seconds of the script's first moment.

    `polls`: seconds of the script at which it is polled; by default, every POLL seconds.
    """

    def __init__(
        self,
        script: Script,
        start: float,
        *,
        expected: Sequence[str] = ("mistral:latest",),
        polls: Sequence[float] | None = None,
    ) -> None:
        if polls is None:
            polls = [n * POLL for n in range(int(script.duration / POLL))]
        self._done: OfflineRun = rehearse(script, start=start, polls=polls)
        self._script, self._start, self.now = script, start, start
        self._tracker = Tracker(window=WINDOW)
        timeline = _OwnTime(self)
        self._instruments = made = Instruments.new(
            timeline, ExporterCollector(log_lines=LogCounter())
        )
        self._advising = LiveAdvice(
            made.gaps, made.labels, made.loads.totals, self._tracker.clock, blind=WINDOW
        )
        installed = tuple((name, m.file.size) for name, m in script.catalogue.manifests.items())
        self._server = ServerState(version="0.33.0", installed=installed)
        self._view = self._tracker.view()
        self._ids, self._order = itertools.count(1), itertools.count()
        self._queue: list[tuple[float, int, _Do]] = []
        self._machine = Machine(self._done, script)
        residence = PolledResidence(self._now_published)
        residence.on_installed(
            InstalledModel(name, "", size, remote=False) for name, size in installed
        )
        in_flight = InFlight(residence, self._advising.gaps)
        self.history = History()
        self.narrator = Narrator(self._known(in_flight), self.history)
        self._recorder = Recorder(
            RequestInstruments(made.labels, made.loads, made.gaps),
            in_flight,
            Reporter(fact=self._observe, error=_never),
            timeline,
            on_served=[lambda seen: self.history.on_request(seen, seen.model or "")],
        )
        for name in expected:
            made.lifecycle.expect(name)
        self._registry = build(
            made,
            timeline,
            self._now_published,
            expected=lambda: expected,
            runtime=False,
            requests=self._recorder,
            advice=self._advising.rows,
            sight=self._machine,
        )
        made.exporter.reloaded(at=start)

    def scrapes(self, every: float) -> Iterator[Scraped]:
        """Let the day pass; yield what each scrape finds."""
        for due in self.moments(every):
            yield Scraped(due, self.collect())

    def collect(self) -> list[Metric]:
        """Return what a scrape would find now."""
        return list(self._registry.collect())

    def moments(self, every: float) -> Iterator[float]:
        """Let the day pass; yield the moments at which there may be a scrape."""
        for at, fact in facts(self._done, self._script):
            self._at(at, partial(self._observe, fact))
        for seen in self._done.polls:
            self._at(seen.at, partial(self._poll, seen))
        for answered in self._done.answers:
            self._at(answered.arrived, partial(self._ask, answered))
        due = self._start + every + OFF_BEAT
        while self._queue:
            at, _, do = heapq.heappop(self._queue)
            while due <= at:
                self.now = self._machine.now = due
                yield due
                due += every
            self.now = at
            do()

    def _at(self, moment: float, do: _Do) -> None:
        heapq.heappush(self._queue, (moment, next(self._order), do))

    def _now_published(self) -> Published:
        return Published(self._server, self._view)

    def _known(self, in_flight: InFlight) -> Known:
        return Known(
            url="http://127.0.0.1:11434",
            published=self._now_published,
            weights=lambda digest: digest,
            keep_alive=self._advising.gaps.keep_alive,
            in_flight=in_flight.count,
            waiting=in_flight.waiting,
            runners=self._machine.runners,
            advice=self._advising.advice,
            sources=lambda: SOURCES,
            label=str,
        )

    def _observe(self, fact: Fact) -> None:
        events = self._tracker.observe(fact)
        for event in events:
            self._instruments.lifecycle.on_event(event)
            self._recorder.on_event(event)
        self._view = self._tracker.view()
        self.history.on_change(events, self._now_published(), self.now)

    def _poll(self, seen: Seen) -> None:
        ended = seen.at + ANSWERING
        poll: Snapshot | PollFailed
        if seen.models is None:
            poll = PollFailed(seen.at, ended, FailureReason.REFUSED)
        else:
            models, new = tuple(map(_running, seen.models)), not self._server.up
            poll = Snapshot(seen.at, ended, models, date=seen.at, new_connection=new)
        self._server = self._server.after(poll, at=ended)
        self._observe(poll)
        self._advising.on_poll(poll)

    # -- a request -------------------------------------------------------------------------------

    def _ask(self, answered: Answered) -> None:
        path, body = answered.step.body()
        exchange = Exchange(
            self._recorder,
            route_of("POST", path),
            method=b"POST",
            id=next(self._ids),
            now=lambda: self.now,
        )
        if isinstance(answered.step, Question):
            exchange.client = answered.step.client or None
        exchange.on_request_body(json.dumps(body).encode())
        exchange.on_request_complete()
        end = answered.ended
        match answered.error:
            case "client left":
                first = self._first(answered, body)
                if first is not None and first < end:
                    self._at(first, lambda: self._begin(exchange, path))
                self._at(end, exchange.on_client_gone)
            case "connection broke":
                self._at(end, lambda: exchange.on_upstream_error(code=502))
            case None:
                first = self._first(answered, body)
                assert first is not None  # noqa: S101 - it was answered in full
                self._at(min(first, end), lambda: self._begin(exchange, path))
                self._at(end, lambda: self._finish(exchange, answered, body))
            case "runner died":
                text = NO_MEMORY if answered.step.note == NO_MEMORY else DIED
                self._at(end, lambda: _fail(exchange, text))
            case error:
                self._at(end, lambda: _fail(exchange, error))

    def _first(self, answered: Answered, body: dict[str, Any]) -> float | None:
        """Return when its first token came; None: it never got so far."""
        if answered.granted is None:
            return None
        doing = self._plan(answered.step, body)
        if answered.error is not None:
            return answered.granted + doing.first
        return max(answered.granted, answered.ended - doing.tokens / doing.rate)

    def _plan(self, step: Ask, body: dict[str, Any]) -> CallPlan:
        name = next(n for n in self._script.catalogue.manifests if n.startswith(step.model))
        file = self._script.catalogue.manifests[name].file
        return plan(file, str(body.get("prompt", body)), None)

    def _begin(self, exchange: Exchange, path: str) -> None:
        if path.endswith("embed"):
            return
        exchange.on_response_head(200, b"application/x-ndjson", b"")
        token = {"response": "x"} if path.endswith("generate") else {"message": {"content": "x"}}
        exchange.on_response_body(_record({"model": "", **token, "done": False}))

    def _finish(self, exchange: Exchange, answered: Answered, body: dict[str, Any]) -> None:
        granted = answered.granted or answered.arrived
        doing = self._plan(answered.step, body)
        embeds = exchange.route.label.endswith("embed")
        record = {
            "total_duration": answered.ended - answered.arrived,
            "load_duration": granted - answered.arrived,
            "prompt_eval_count": doing.prompt_tokens,
            "prompt_eval_duration": doing.first,
        }
        record = {
            key: int(value * NANOSECONDS) if key.endswith("duration") else value
            for key, value in record.items()
        }
        if embeds:
            exchange.on_response_head(200, b"application/json", b"")
            exchange.on_response_body(
                json.dumps({"model": "", "embeddings": [[0.5]], **record}).encode()
            )
        else:
            more = {"done": True, "done_reason": doing.reason, "eval_count": doing.tokens}
            record["eval_duration"] = int(doing.tokens / doing.rate * NANOSECONDS)
            exchange.on_response_body(_record({"model": "", **more, **record}))
        exchange.on_response_complete()


def _record(fields: dict[str, Any]) -> bytes:
    """Write one record as the server does: without spaces."""
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _fail(exchange: Exchange, error: str) -> None:
    exchange.on_response_head(QUEUE_FULL if "busy" in error else FAILED, b"application/json", b"")
    exchange.on_response_body(json.dumps({"error": error}).encode())
    exchange.on_response_complete()


def _running(listed: Listed) -> RunningModel:
    file = listed.file
    return RunningModel(
        listed.name,
        listed.digest,
        math.inf if listed.expires_at > FOR_EVER else listed.expires_at,
        listed.size,
        listed.size_vram,
        listed.context,
        file.family,
        "gguf",
        file.parameter_size,
        file.quantization,
    )


def _never() -> None:
    raise AssertionError("the recorder has a defect")
