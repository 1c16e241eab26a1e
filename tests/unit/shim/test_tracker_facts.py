# SPDX-License-Identifier: Apache-2.0
import logging

from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.residency.facts import RequestAnswered, RequestEnded, RequestStarted
from ollama_exporter.shim.observation import Outcome, Start
from tests.support.benches import NDJSON, TOKEN, Bench
from tests.support.exporting import Records, same_logger


def test_start_answer_and_end_are_facts() -> None:
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


def test_a_broken_answer_without_an_error_is_a_failure_too() -> None:
    bench = Bench()
    exchange = bench.ask()
    exchange.on_response_head(200, NDJSON, b"")
    exchange.on_response_body(TOKEN)
    exchange.on_upstream_error()
    assert bench.facts[-1] == RequestEnded(100.0, 1, Failure.OTHER)
    bench.ask().on_client_gone()
    assert bench.facts[-1] == RequestEnded(100.0, 2)


def test_a_request_for_a_cloud_model_is_neither_a_cold_start_nor_a_fact() -> None:
    bench = Bench()
    exchange = bench.ask(b'{"model":"gpt-oss:120b-cloud","prompt":"p"}')
    exchange.on_response_head(200, NDJSON, b"")
    exchange.on_response_body(
        b'{"done":true,"remote_host":"https://x","load_duration":9000000000}\n'
    )
    exchange.on_response_complete()
    assert bench.seen[-1].start is Start.UNKNOWN
    assert not any(isinstance(fact, RequestStarted) for fact in bench.facts)
