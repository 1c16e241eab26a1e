# SPDX-License-Identifier: Apache-2.0
import logging

import pytest

from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.residency.facts import RequestAnswered, RequestEnded, RequestStarted
from ollama_exporter.shim.in_flight import Unpolled
from ollama_exporter.shim.observation import Outcome, Start
from tests.support.benches import FINAL, NDJSON, TOKEN, Bench, Polls
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


@pytest.mark.parametrize("path", ["/api/generate", "/v1/chat/completions"])
def test_a_request_for_a_remote_model_waits_for_nothing(path: str) -> None:
    """Such as a copy of a cloud model under another name."""
    bench = Bench(Polls({"mycoder:latest": "mycoder:latest"}, at=95.0, remote={"mycoder:latest"}))
    exchange = bench.ask(b'{"model":"mycoder","prompt":"p"}', path)
    bench.polls.at = 150.0  # a later poll does not list it either
    samples = bench.samples()
    assert ("ollama_requests_waiting_for_load", "model=mycoder:latest") not in samples
    bench.now += 50.0
    kind = NDJSON if path.startswith("/api") else b"text/event-stream"
    end = FINAL % 9_000_000_000 if kind == NDJSON else b"data: [DONE]\n\n"
    exchange.on_response_head(200, kind, b"")
    exchange.on_response_body(end)
    exchange.on_response_complete()
    assert bench.seen[-1].start is Start.REMOTE
    assert not any(isinstance(fact, RequestStarted) for fact in bench.facts)
    samples = bench.samples()
    assert samples["ollama_cold_starts_total", "model=mycoder:latest"] == 0
    took = "ollama_request_duration_seconds_count"
    assert samples[took, "model=mycoder:latest,start=remote"] == 1
    assert ("ollama_model_load_seconds_count", "model=mycoder:latest") not in samples
    assert ("ollama_model_idle_gap_seconds_count", "model=mycoder:latest") not in samples
    if kind == NDJSON:
        assert samples["ollama_request_output_tokens_total", "model=mycoder:latest"] == 3


def test_an_answer_tells_that_its_model_is_remote() -> None:
    bench = Bench()
    exchange = bench.ask()
    exchange.on_response_head(200, NDJSON, b"")
    exchange.on_response_body(
        b'{"done":true,"remote_host":"https://x","load_duration":9000000000}\n'
    )
    exchange.on_response_complete()
    assert bench.seen[-1].start is Start.REMOTE


@pytest.mark.parametrize(
    ("name", "remote"),
    [
        ("gpt-oss:120b-cloud", True),
        ("Kimi:1T-CLOUD", True),
        ("x:Cloud", True),
        ("my-cloud:latest", False),
        ("a:latest", False),
    ],
)
def test_without_polls_a_name_tells_whether_its_model_is_remote(name: str, *, remote: bool) -> None:
    assert Unpolled().is_remote(name) is remote
