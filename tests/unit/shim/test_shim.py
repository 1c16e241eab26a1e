# SPDX-License-Identifier: Apache-2.0
"""From what passes through a shim to what is recorded: exchanges, waits, recorder, bars."""

import asyncio
import logging
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec import structs
from prometheus_client import CollectorRegistry, generate_latest

from ollama_exporter.advice.idle_gaps import Gaps
from ollama_exporter.cli.present.wait_bars import bar, beside, parts, words
from ollama_exporter.metrics.from_catalog import counter
from ollama_exporter.metrics.labels import ModelLabels
from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.protocol.request_body import RequestFields
from ollama_exporter.protocol.response_fields import ResponseEnd, ResponseFields
from ollama_exporter.protocol.routes import route_of
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.facts import RequestAnswered, RequestEnded, RequestStarted
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.in_flight import InFlight, Unpolled
from ollama_exporter.shim.observation import COLD, Observation, Outcome, Phase, Start, start_of
from ollama_exporter.shim.proxy.deferred import Deferred
from ollama_exporter.shim.recorder import Recorder, RequestInstruments, Standalone
from tests.support.exporting import Records, Samples, parsed, same_logger, until
from tests.support.timelines import GivenTimeline

GENERATE = route_of("POST", "/api/generate")
NDJSON = b"application/x-ndjson"
ASK = b'{"model":"m","prompt":"p"}'
TRACE = "0af7651916cd43dd8448eb211c80319c"
TOKEN = b'{"model":"m","response":"w","done":false}\n'
FINAL = (
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

    def canonical_name(self, name: str) -> str | None:
        return self.installed.get(name.lower())

    def is_resident(self, name: str) -> bool | None:
        return name in self.listed if self.up else None

    def loaded_at(self, name: str) -> float | None:
        return self.listed.get(name)

    def polled_at(self) -> float:
        return self.at


class Bench:
    """A recorder on a clock that stands where it is put."""

    def __init__(self, polls: Polls | None = None, **options: Any) -> None:
        self.now = 100.0
        self.polls = polls or Polls()
        self.facts: list[Any] = []
        self.seen: list[Observation] = []
        self.numbers = 0
        self.errors = counter("ollama_exporter_recorder_errors_total")
        instruments = RequestInstruments(ModelLabels(options.pop("limit", 100)))
        self.recorder = Recorder(
            instruments,
            InFlight(self.polls, Gaps(), cold=options.pop("cold", COLD)),
            Reporter(fact=options.pop("tell", self.facts.append), error=self.errors.inc),
            GivenTimeline(),
            on_request=options.pop("on_request", self.seen.append),
            **options,
        )
        self.registry = CollectorRegistry()
        self.registry.register(Standalone(self.recorder, instruments, self.errors))

    def samples(self) -> Samples:
        return parsed(generate_latest(self.registry).decode())

    def ask(
        self, body: bytes = b'{"model":"m","prompt":"p"}', path: str = "/api/generate"
    ) -> Exchange:
        self.numbers += 1
        exchange = Exchange(
            self.recorder,
            route_of("POST", path),
            method=b"POST",
            id=self.numbers,
            now=lambda: self.now,
        )
        exchange.on_request_body(body)
        exchange.on_request_complete()
        return exchange

    def answer(self, exchange: Exchange, *, load: float = 0.002, first: float = 1.0) -> Observation:
        self.now += first
        exchange.on_response_head(200, NDJSON, b"")
        exchange.on_response_body(TOKEN)
        self.now += 1.0
        exchange.on_response_body(FINAL % round(load * 1e9))
        exchange.on_response_complete()
        return self.seen[-1]


# -- cold and warm ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "resident", "start"),
    [
        (0.1, None, Start.WARM),
        (0.5, None, Start.COLD),
        (0.3, False, Start.COLD),  # a small model, loaded since
        (0.002, False, Start.WARM),  # the listing was older than the load
        (3.0, True, Start.COLD),  # evicted since, or an old server that lists while it loads
        (None, True, Start.WARM),
        (None, False, Start.COLD),
        (None, None, Start.UNKNOWN),
    ],
)
def test_what_the_answer_says_wins_over_a_listing(
    load: float | None,
    resident: bool | None,  # noqa: FBT001 - a row of the table
    start: Start,
) -> None:
    assert start_of(load_wait=load, resident=resident) is start


def test_all_who_wait_for_one_load_are_cold_and_the_load_is_measured_once() -> None:
    bench = Bench(Polls({"m:latest": "m:latest"}))
    waiting = [bench.ask() for _ in range(3)]
    samples = bench.samples()
    assert samples["ollama_requests_waiting_for_load", "model=m:latest"] == 3
    assert samples["ollama_request_oldest_wait_timestamp_seconds", "model=m:latest"] == 100.0
    assert [bench.answer(each, load=4.0).start for each in waiting] == [Start.COLD] * 3
    samples = bench.samples()
    assert samples["ollama_cold_starts_total", "model=m:latest"] == 3
    assert samples["ollama_model_load_seconds_count", "model=m:latest"] == 1
    assert ("ollama_requests_waiting_for_load", "model=m:latest") not in samples


def test_a_request_of_another_api_is_told_by_what_polls_showed() -> None:
    bench = Bench(Polls({"m:latest": "m:latest"}, {"m:latest": 90.0}))
    path = "/v1/chat/completions"

    def answered(exchange: Exchange) -> Start:
        bench.now += 1
        exchange.on_response_head(200, b"text/event-stream", b"")
        exchange.on_response_body(
            b'data: {"choices":[{"delta":{"content":"w"}}]}\n\ndata: [DONE]\n\n'
        )
        exchange.on_response_complete()
        return bench.seen[-1].start

    assert answered(bench.ask(path=path)) is Start.WARM
    bench.polls.listed.clear()
    bench.polls.at = bench.now + 1  # polled again: it has gone
    bench.now += 2
    first, second = bench.ask(path=path), bench.ask(path=path)
    bench.polls.listed["m:latest"] = bench.now  # an old server lists what is still loading
    third = bench.ask(path=path)
    assert [answered(each) for each in (first, second, third)] == [Start.COLD] * 3
    assert answered(bench.ask(path=path)) is Start.WARM
    bench.polls.listed.clear()  # the last poll is older than that answer
    assert answered(bench.ask(path=path)) is Start.WARM
    bench.polls.up = False
    assert answered(bench.ask(path=path)) is Start.UNKNOWN


def test_an_incarnation_that_is_younger_than_the_request_was_loaded_for_it() -> None:
    bench = Bench(Polls({"m:latest": "m:latest"}, {"m:latest": 90.0}))
    exchange = bench.ask(path="/v1/messages")
    bench.polls.listed["m:latest"] = bench.now + 3  # evicted before it came, and loaded again
    bench.now += 5
    exchange.on_response_head(200, b"application/json", b"")
    exchange.on_response_body(b'{"model":"m","stop_reason":"end_turn","usage":{"output_tokens":1}}')
    exchange.on_response_complete()
    assert bench.seen[-1].start is Start.COLD


def test_a_slow_upload_is_no_wait_for_a_runner() -> None:
    bench = Bench()
    exchange = Exchange(bench.recorder, GENERATE, method=b"POST", id=1, now=lambda: bench.now)
    exchange.on_request_body(b'{"model":"m","prompt":"p"')
    bench.now += 5.0
    exchange.on_request_body(b"}")
    exchange.on_request_complete()
    seen = bench.answer(exchange, load=5.1)
    assert seen.load_wait == pytest.approx(0.1)
    assert seen.start is Start.WARM


def test_a_preload_measures_the_load_by_its_own_time() -> None:
    bench = Bench()
    exchange = bench.ask(b'{"model":"m"}')
    bench.now += 7.0
    exchange.on_response_head(200, b"application/json", b"")
    exchange.on_response_body(b'{"model":"m","done":true,"done_reason":"load"}')
    exchange.on_response_complete()
    (seen,) = bench.seen
    assert (seen.load_wait, seen.start, seen.request_fields.is_empty) == (7.0, Start.COLD, True)
    assert bench.samples()["ollama_model_load_seconds_sum", "model=m:latest"] == 7.0


# -- what is told and counted ----------------------------------------------------------------------


def test_a_request_is_taken_apart() -> None:
    bench = Bench()
    seen = bench.answer(bench.ask(), load=3.0)
    assert (seen.duration, seen.time_to_first_token, seen.load_wait) == (2.0, 1.0, 3.0)
    assert (seen.unaccounted, seen.time_per_output_token) == (3.0, 1.0)
    samples = bench.samples()
    labels = "model=m:latest,start=cold"
    for name, value in (("duration", 2.0), ("time_to_first_token", 1.0), ("load_wait", 3.0)):
        assert samples[f"ollama_request_{name}_seconds_sum", labels] == value
    for name, value in (("prompt_eval", 1), ("eval", 2), ("unaccounted", 3)):
        assert samples[f"ollama_request_{name}_seconds_sum", "model=m:latest"] == value
    assert samples["ollama_request_output_tokens_total", "model=m:latest"] == 3
    assert samples["ollama_request_finish_reasons_total", "finish=stop,model=m:latest"] == 1
    assert samples["ollama_requests_total", "code=200,model=m:latest,route=/api/generate"] == 1
    assert samples["ollama_requests_in_flight", "route=/api/generate"] == 0


def test_the_tracker_is_told_of_begin_answer_and_end() -> None:
    bench = Bench()
    body = b'{"model":"M","keep_alive":"5m","prompt":"p","options":{"num_ctx":9}}'
    bench.polls.installed["m:latest"] = "m:latest"
    bench.answer(bench.ask(body))
    assert bench.facts == [
        RequestStarted(100.0, 1, "m:latest", 300.0, 9),
        RequestAnswered(101.0, 1),
        RequestEnded(102.0, 1),
    ]


def test_a_failure_is_classified_for_the_tracker_and_never_logged() -> None:
    bench, log = Bench(access_log=True), Records()
    with same_logger() as logger:
        logger.setLevel(logging.INFO)
        logger.addHandler(log)
        exchange = bench.ask()
        exchange.on_response_head(500, b"application/json", b"")
        exchange.on_response_body(
            b'{"error":"the model runner has unexpectedly stopped: secret prompt"}'
        )
        exchange.on_response_complete()
    assert bench.facts[-1] == RequestEnded(100.0, 1, Failure.CRASHED)
    assert bench.seen[-1].outcome is Outcome.UPSTREAM_ERROR
    (record,) = log.records
    assert "secret" not in str(vars(record))
    assert (vars(record)["route"], vars(record)["code"]) == ("/api/generate", 500)
    assert vars(record)["model"] == "other"


def test_an_answer_that_broke_off_asks_for_a_poll_though_it_says_nothing() -> None:
    bench = Bench()
    exchange = bench.ask()
    exchange.on_response_head(200, NDJSON, b"")
    exchange.on_response_body(TOKEN)
    exchange.on_upstream_error()
    assert bench.facts[-1] == RequestEnded(100.0, 1, Failure.OTHER)
    bench.ask().on_client_gone()
    assert bench.facts[-1] == RequestEnded(100.0, 2)


def test_requests_are_logged_at_debug_alone_unless_an_access_log_is_wanted() -> None:
    bench, log = Bench(), Records()
    with same_logger() as logger:
        logger.addHandler(log)
        for level, lines in ((logging.INFO, 0), (logging.DEBUG, 1)):
            logger.setLevel(level)
            bench.answer(bench.ask())
            assert log.count("Request") == lines


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (503, b'{"error":"server busy"}', Outcome.QUEUE_FULL),
        (404, b'{"error":"no"}', Outcome.REJECTED),
        (400, b'{"error":"do embedding request: Post x: EOF"}', Outcome.UPSTREAM_ERROR),
        (500, b"oops", Outcome.UPSTREAM_ERROR),
        (200, b'{"done":false}', Outcome.TRUNCATED),
        (200, b'{"error":"x"}', Outcome.UPSTREAM_ERROR),
    ],
)
def test_ends_are_told_apart(status: int, body: bytes, outcome: Outcome) -> None:
    bench = Bench()
    exchange = bench.ask()
    exchange.on_response_head(status, b"application/json", b"")
    exchange.on_response_body(body)
    exchange.on_response_complete()
    assert bench.seen[-1].outcome is outcome
    labels = f"model=other,outcome={outcome},route=/api/generate"
    assert bench.samples()["ollama_request_failures_total", labels] == 1


def test_who_leaves_is_counted_by_what_it_waited_for() -> None:
    bench = Bench(Polls({"m:latest": "m:latest"}))
    bench.ask().on_client_gone()
    bench.polls.listed["m:latest"] = 90.0
    bench.ask().on_client_gone()
    reading = bench.ask()
    reading.on_response_head(200, NDJSON, b"")
    reading.on_response_body(TOKEN)
    reading.on_client_gone()
    reading.on_client_gone()  # a stream that is closed after its end
    assert [seen.phase for seen in bench.seen] == [Phase.WAITING, Phase.PREFILL, Phase.DECODE]
    assert [seen.code for seen in bench.seen] == [499, 499, 200]
    samples = bench.samples()
    for phase in Phase:
        assert samples["ollama_requests_aborted_total", f"model=m:latest,phase={phase}"] == 1


def test_who_finds_a_listed_model_gone_waits_for_a_load_as_soon_as_a_poll_shows_it() -> None:
    bench = Bench(Polls({"m:latest": "m:latest"}, {"m:latest": 90.0}, at=95.0))
    exchange = bench.ask()
    bench.polls.at, bench.polls.listed = 99.0, {}  # older than the request: it may be listed by now
    assert bench.samples().get(("ollama_requests_waiting_for_load", "model=m:latest")) is None
    bench.polls.at = 101.0
    samples = bench.samples()
    assert samples["ollama_requests_waiting_for_load", "model=m:latest"] == 1
    assert samples["ollama_request_oldest_wait_timestamp_seconds", "model=m:latest"] == 100.0
    exchange.on_client_gone()
    assert bench.seen[-1].phase is Phase.WAITING
    assert bench.samples().get(("ollama_requests_waiting_for_load", "model=m:latest")) is None


def test_a_client_that_does_not_wait_for_the_end_of_the_framing_was_answered() -> None:
    bench = Bench()
    exchange = bench.ask()
    exchange.on_response_head(200, NDJSON, b"")
    exchange.on_response_body(TOKEN + FINAL % 1)
    exchange.on_client_gone()
    assert (bench.seen[-1].outcome, bench.seen[-1].phase) == (Outcome.ANSWERED, None)


def test_a_server_that_fails_is_told_by_what_the_client_saw() -> None:
    bench = Bench()
    bench.ask().on_upstream_error(code=502)
    bench.ask().on_upstream_error(code=504, timeout=True)
    cut = bench.ask()
    cut.on_response_head(200, NDJSON, b"")
    cut.on_upstream_error()
    bench.ask().on_rejected(431)
    told = [(seen.outcome, seen.code) for seen in bench.seen]
    assert told == [
        (Outcome.UPSTREAM_ERROR, 502),
        (Outcome.TIMEOUT, 504),
        (Outcome.TRUNCATED, 200),
        (Outcome.REJECTED, 431),
    ]


def test_names_that_the_server_does_not_know_share_a_label() -> None:
    bench = Bench(limit=2)
    for number in range(50):
        exchange = bench.ask(b'{"model":"made-up-%d","prompt":"p"}' % number)
        exchange.on_response_head(404, b"application/json", b"")
        exchange.on_response_body(b'{"error":"no"}')
        exchange.on_response_complete()
    labels = "code=404,model=other,route=/api/generate"
    assert bench.samples()["ollama_requests_total", labels] == 50
    for name in (b"a", b"b", b"c"):
        bench.answer(bench.ask(b'{"model":"%b","prompt":"p"}' % name))
    answered = {
        labels
        for (metric, labels), _ in bench.samples().items()
        if metric == "ollama_requests_total" and "code=200" in labels and "=made" not in labels
    }
    assert {part.split(",")[1] for part in answered} == {
        "model=a:latest",
        "model=b:latest",
        "model=other",
    }


def test_an_idle_gap_is_between_the_end_of_one_and_the_begin_of_the_next() -> None:
    bench = Bench()
    bench.answer(bench.ask())
    bench.now += 40.0
    overlapping = [bench.ask(), bench.ask()]
    for each in overlapping:
        bench.answer(each)
    samples = bench.samples()
    assert samples["ollama_model_idle_gap_seconds_count", "model=m:latest"] == 1
    assert samples["ollama_model_idle_gap_seconds_sum", "model=m:latest"] == 40.0
    truncated = "ollama_model_idle_gap_truncated_seconds_total"
    assert samples[truncated, "le=30.0,model=m:latest"] == 30.0
    assert samples[truncated, "le=60.0,model=m:latest"] == 40.0


def test_keep_alives_and_options_are_counted_by_class() -> None:
    bench = Bench()
    for written in (b"", b',"keep_alive":0', b',"keep_alive":"5m"', b',"keep_alive":-1'):
        bench.answer(bench.ask(b'{"model":"m","prompt":"p"%b}' % written))
    for options in (b'{"num_ctx":9}', b'{"num_gpu":1}'):
        bench.answer(bench.ask(b'{"model":"m","prompt":"p","options":%b}' % options))
    samples = bench.samples()
    kept = {
        name: samples["ollama_request_keep_alive_total", f"class={name},model=m:latest"]
        for name in ("absent", "zero", "finite", "never")
    }
    assert kept == {"absent": 3, "zero": 1, "finite": 1, "never": 1}
    asked = {
        name: samples["ollama_request_options_total", f"class={name},model=m:latest"]
        for name in ("absent", "num_ctx", "other")
    }
    assert asked == {"absent": 4, "num_ctx": 1, "other": 1}


def test_models_that_run_elsewhere_are_no_cold_starts_and_no_facts() -> None:
    bench = Bench()
    exchange = bench.ask(b'{"model":"gpt-oss:120b-cloud","prompt":"p"}')
    exchange.on_response_head(200, NDJSON, b"")
    exchange.on_response_body(
        b'{"done":true,"remote_host":"https://x","load_duration":9000000000}\n'
    )
    exchange.on_response_complete()
    assert bench.seen[-1].start is Start.UNKNOWN
    assert not any(isinstance(fact, RequestStarted) for fact in bench.facts)


def test_a_model_is_learned_from_the_answer_where_the_request_cannot_be_read() -> None:
    bench = Bench()
    bench.answer(bench.ask(b"\x28\xb5\x2f\xfd compressed"))
    assert bench.seen[-1].model == "m:latest"


def test_the_trace_of_a_request_is_an_exemplar() -> None:
    for given, trace in (
        (
            b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0af7651916cd43dd8448eb211c80319c",
        ),
        (b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01", None),
        (b"nonsense", None),
    ):
        bench = Bench()
        exchange = Exchange(
            bench.recorder, GENERATE, method=b"POST", id=1, now=lambda: 1.0, traceparent=given
        )
        exchange.on_request_complete()
        bench.answer(exchange)
        assert bench.seen[-1].trace_id == trace


# -- defects of our own ----------------------------------------------------------------------------


class Raising(Polls):
    """Polls whose every use is a defect."""

    def canonical_name(self, name: str) -> str | None:
        raise ZeroDivisionError(name)


def test_a_defect_is_counted_and_logged_once_and_the_answer_is_still_read() -> None:
    bench, log = Bench(Raising()), Records()
    with same_logger() as logger:
        logger.addHandler(log)
        for _ in range(2):
            exchange = bench.ask()
            exchange.on_response_head(200, NDJSON, b"")
            exchange.on_response_body(TOKEN)
            exchange.on_response_complete()
    assert log.count("Request could not be recorded") == 1
    assert log.records[0].exc_info is not None
    assert bench.samples()["ollama_exporter_recorder_errors_total", ""] >= 2


def test_a_reader_that_raises_costs_the_reading_alone() -> None:
    class Broken:
        content = False

        def feed(self, data: bytes) -> None:
            raise ZeroDivisionError(data)

        def end(self) -> ResponseFields:
            raise ZeroDivisionError

    bench = Bench()
    for method in ("feed", "end"):
        exchange = bench.ask()
        exchange.on_response_head(200, NDJSON, b"")
        exchange._parser = Broken()  # noqa: SLF001 - no bytes make the real ones raise
        if method == "feed":
            exchange.on_response_body(TOKEN)
        exchange.on_response_complete()
        assert bench.seen[-1].response.ending is ResponseEnd.UNREAD
    assert bench.samples()["ollama_exporter_recorder_errors_total", ""] == 2


# -- deferred work ---------------------------------------------------------------------------------


def test_deferred_calls_are_made_in_order_and_none_is_lost() -> None:
    async def run() -> list[int]:
        made: list[int] = []
        later = Deferred()
        for number in range(100):
            later(lambda number=number: made.append(number))  # type: ignore[misc]  # mypy cannot infer it
        assert made == []
        await until(lambda: len(made) == 100)
        later(lambda: made.append(100))
        later.finish()
        return made

    assert asyncio.run(run()) == list(range(101))


# -- bars ------------------------------------------------------------------------------------------


def observation(start: Start, load: float, answer: float, model: str = "m:latest") -> Observation:
    total = load + 0.5 + answer
    reading = ResponseFields(
        ResponseEnd.COMPLETE, load=load, prompt_eval=0.5, eval=answer, total=total
    )
    return Observation(
        1, "POST", GENERATE, 0.0, total + 0.5, 200, Outcome.ANSWERED, RequestFields(model), reading,
        model=model, start=start,
    )  # fmt: skip


def test_a_bar_shows_each_part_by_a_letter_of_its_own() -> None:
    seen = observation(Start.COLD, 7.0, 2.0)
    assert [(p.name, p.seconds) for p in parts(seen)] == [
        ("load", 7.0), ("prompt", 0.5), ("answer", 2.0), ("rest", 0.5),
    ]  # fmt: skip
    assert bar(seen, longest=10.0).plain == "|" + "L" * 28 + "P" * 2 + "A" * 8 + "·" * 2 + "|"
    assert words(seen) == "load 7.0, prompt 0.5, answer 2.0, rest 0.5"
    assert "nothing" in words(
        structs.replace(seen, ended=0.0, response=ResponseFields(ResponseEnd.COMPLETE))
    )


def test_a_cold_call_stands_beside_the_warm_one_whose_answer_took_as_long() -> None:
    seen = [
        observation(Start.COLD, 7.0, 2.0),
        observation(Start.WARM, 0.0, 9.0),
        observation(Start.WARM, 0.0, 2.1),
        observation(Start.WARM, 0.0, 2.0, "other:latest"),
    ]
    title, cold, warm = (line.plain for line in beside(seen))
    assert title == "What the waits of m:latest were made of:"
    assert cold.startswith("  cold  10.0 s |LLL")
    assert warm.startswith("  warm   3.1 s |PP")
    assert "answer 2.1" in warm
    assert beside(seen[1:]) == []


def test_without_polls_nothing_is_known_of_residency() -> None:
    unpolled = Unpolled()
    assert (unpolled.canonical_name("m"), unpolled.is_resident("m"), unpolled.loaded_at("m")) == (
        None,
    ) * 3
    assert unpolled.polled_at() < math.inf
