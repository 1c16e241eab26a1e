# SPDX-License-Identifier: Apache-2.0
import math

from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.in_flight import Unpolled
from ollama_exporter.shim.observation import Phase, Start
from tests.support.benches import Bench, Polls


def test_all_requests_that_wait_for_one_load_are_cold_and_the_load_is_measured_once() -> None:
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


def test_without_durations_polls_decide_whether_a_request_was_cold() -> None:
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


def test_an_incarnation_younger_than_the_request_was_loaded_for_it() -> None:
    bench = Bench(Polls({"m:latest": "m:latest"}, {"m:latest": 90.0}))
    exchange = bench.ask(path="/v1/messages")
    bench.polls.listed["m:latest"] = bench.now + 3  # evicted before it came, and loaded again
    bench.now += 5
    exchange.on_response_head(200, b"application/json", b"")
    exchange.on_response_body(b'{"model":"m","stop_reason":"end_turn","usage":{"output_tokens":1}}')
    exchange.on_response_complete()
    assert bench.seen[-1].start is Start.COLD


def test_a_request_waits_for_a_load_as_soon_as_a_poll_shows_its_model_unloaded() -> None:
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


def test_without_polls_residency_is_unknown() -> None:
    unpolled = Unpolled()
    assert (unpolled.canonical_name("m"), unpolled.is_resident("m"), unpolled.loaded_at("m")) == (
        None,
    ) * 3
    assert unpolled.polled_at() < math.inf


def test_an_idle_gap_lasts_from_the_end_of_a_request_to_the_start_of_the_next() -> None:
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
