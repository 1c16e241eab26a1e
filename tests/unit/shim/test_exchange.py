# SPDX-License-Identifier: Apache-2.0
import math
import tracemalloc

import pytest

from ollama_exporter.protocol.response_fields import ResponseEnd, ResponseFields
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.observation import Outcome, Phase, Start
from tests.support.benches import FINAL, GENERATE, NDJSON, TOKEN, Bench, Polls


def test_a_slow_upload_is_not_a_wait_for_a_runner() -> None:
    bench = Bench()
    exchange = Exchange(bench.recorder, GENERATE, method=b"POST", id=1, now=lambda: bench.now)
    exchange.on_request_body(b'{"model":"m","prompt":"p"')
    bench.now += 5.0
    exchange.on_request_body(b"}")
    exchange.on_request_complete()
    seen = bench.answer(exchange, load=5.1)
    assert seen.load_wait == pytest.approx(0.1)
    assert seen.start is Start.WARM


def test_what_stands_behind_megabytes_of_a_body_is_read_and_the_megabytes_are_not_kept() -> None:
    bench = Bench()
    exchange = Exchange(bench.recorder, GENERATE, method=b"POST", id=1, now=lambda: bench.now)
    tracemalloc.start()
    exchange.on_request_body(b'{"images":["')
    for _ in range(64):
        exchange.on_request_body(b"A" * (64 << 10))
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    exchange.on_request_body(b'"],"keep_alive":-1,"options":{"num_ctx":9},"model":"m"}')
    exchange.on_request_complete()
    seen = bench.answer(exchange, load=0.1)
    asked = seen.request_fields
    assert (asked.model, asked.keep_alive, asked.num_ctx) == ("m", math.inf, 9)
    assert kept < 200 << 10


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
def test_status_and_body_decide_the_outcome(status: int, body: bytes, outcome: Outcome) -> None:
    bench = Bench()
    exchange = bench.ask()
    exchange.on_response_head(status, b"application/json", b"")
    exchange.on_response_body(body)
    exchange.on_response_complete()
    assert bench.seen[-1].outcome is outcome
    labels = f"model=other,outcome={outcome},route=/api/generate"
    assert bench.samples()["ollama_request_failures_total", labels] == 1


def test_a_client_that_leaves_after_the_final_record_was_answered() -> None:
    bench = Bench()
    exchange = bench.ask()
    exchange.on_response_head(200, NDJSON, b"")
    exchange.on_response_body(TOKEN + FINAL % 1)
    exchange.on_client_gone()
    assert (bench.seen[-1].outcome, bench.seen[-1].phase) == (Outcome.ANSWERED, None)


def test_the_code_of_a_failure_is_what_the_client_got() -> None:
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


def test_the_model_comes_from_the_answer_if_the_request_cannot_be_read() -> None:
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


def test_an_error_in_a_parser_costs_only_what_it_parses() -> None:
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


def test_a_client_that_leaves_is_counted_by_phase() -> None:
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
