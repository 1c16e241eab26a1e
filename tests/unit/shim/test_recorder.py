# SPDX-License-Identifier: Apache-2.0


from tests.support.benches import FINAL, NDJSON, TOKEN, Bench, Polls
from tests.support.exporting import Records, same_logger


def test_the_parts_of_a_request_are_measured() -> None:
    bench = Bench()
    exchange = bench.ask()
    seen = bench.answer(exchange, load=3.0)
    exchange.on_response_complete()  # its end is told twice and counts once
    assert bench.seen == [seen]
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


def test_keep_alives_and_options_are_counted_by_class() -> None:
    bench = Bench()
    for written in (b"", *(b',"keep_alive":' + form for form in (b"0", b'"5m"', b"-1", b'"300"'))):
        bench.answer(bench.ask(b'{"model":"m","prompt":"p"%b}' % written))
    for options in (b'{"num_ctx":9}', b'{"num_gpu":1}'):
        bench.answer(bench.ask(b'{"model":"m","prompt":"p","options":%b}' % options))
    samples = bench.samples()
    kept = {
        name: samples["ollama_request_keep_alive_total", f"class={name},model=m:latest"]
        for name in ("absent", "refused", "zero", "finite", "never")
    }
    assert kept == {"absent": 3, "refused": 1, "zero": 1, "finite": 1, "never": 1}
    asked = {
        name: samples["ollama_request_options_total", f"class={name},model=m:latest"]
        for name in ("absent", "num_ctx", "other")
    }
    assert asked == {"absent": 5, "num_ctx": 1, "other": 1}


class Raising(Polls):
    """Polls whose every use is a defect."""

    def canonical_name(self, name: str) -> str | None:
        raise ZeroDivisionError(name)


def test_an_internal_error_is_counted_and_logged_once_and_the_answer_is_still_read() -> None:
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


def test_a_raising_sink_costs_no_other_sink() -> None:
    def broken(_seen: object) -> None:
        raise ZeroDivisionError

    served: list[object] = []
    bench = Bench(on_served=[broken, served.append])
    bench.answer(bench.ask())
    assert served == bench.seen
    assert len(served) == 1
    assert bench.samples()["ollama_exporter_recorder_errors_total", ""] == 1


def test_a_child_forgets_the_requests_of_threads_that_it_does_not_have() -> None:
    bench = Bench()
    bench.ask(client="alice")
    bench.recorder.before_fork()
    bench.recorder.after_fork_in_parent()
    in_flight = "ollama_requests_in_flight", "route=/api/generate"
    assert (bench.samples()[in_flight], bench.in_flight.count("m:latest")) == (1, 1)
    bench.recorder.before_fork()
    bench.recorder.after_fork_in_child()
    assert (bench.samples()[in_flight], bench.in_flight.count("m:latest")) == (0, 0)
    bench.answer(bench.ask(client="alice"))
    assert bench.samples()[in_flight] == 0


def test_what_cannot_be_reported_costs_no_request() -> None:
    def raising(_: object) -> None:
        raise ZeroDivisionError("a defect of ours")

    bench = Bench(tell=raising)
    exchange = bench.ask()
    exchange.on_response_head(200, NDJSON, b"")
    exchange.on_response_body(TOKEN)
    exchange.on_response_body(FINAL % 1)
    exchange.on_response_complete()
    samples = bench.samples()
    assert samples["ollama_exporter_recorder_errors_total", ""] == 3  # begun, answered, ended
    assert samples["ollama_requests_total", "code=200,model=m:latest,route=/api/generate"] == 1
