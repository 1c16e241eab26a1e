# SPDX-License-Identifier: Apache-2.0
"""What is counted by client, and to whom an eviction is put down."""

import pytest

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.events import Reason, Unloaded
from ollama_exporter.shim.exchange import Exchange
from tests.support.benches import Bench

CAUSED = "ollama_client_evictions_caused_total"


def ask(bench: Bench, client: str | None, model: str = "m", more: str = "") -> Exchange:
    """Send a request of a client; it is named before the body comes, as in the proxy."""
    return bench.ask(f'{{"model":"{model}","prompt":"p"{more}}}'.encode(), client=client)


def evicted(
    *, by: str | None = "m:latest", at: tuple[float, float], reason: Reason = Reason.EVICTED
) -> Unloaded:
    model = RunningModel("v:latest", "d", 500.0, 1, 1, 4096)
    return Unloaded(model, reason, (), *at, settled_at=at[1], resident_since=1.0, by=by)


def caused(bench: Bench) -> dict[str, float]:
    return {labels: n for (name, labels), n in bench.samples().items() if name == CAUSED}


def test_requests_tokens_waits_and_classes_are_counted_by_client() -> None:
    bench = Bench()
    bench.answer(ask(bench, "alice", more=',"keep_alive":-1'), load=3.0)
    bench.answer(ask(bench, "bob", more=',"options":{"num_ctx":9}'))
    bench.answer(ask(bench, "bob"))
    bench.answer(ask(bench, None))
    samples = bench.samples()
    for client, requests in (("alice", 1), ("bob", 2)):
        labels = f"client={client},model=m:latest"
        assert samples["ollama_client_requests_total", labels] == requests
        assert samples["ollama_client_prompt_tokens_total", labels] == 4 * requests
        assert samples["ollama_client_output_tokens_total", labels] == 3 * requests
    waits = {x: n for (name, x), n in samples.items() if name == "ollama_client_wait_seconds_total"}
    assert waits["client=alice,kind=load"] == 3.0
    assert waits["client=bob,kind=load"] == 0.0  # a warm request waits for nothing
    assert waits["client=alice,kind=queue"] == 3.0  # 9 - 3 - 1 - 2
    assert samples["ollama_client_keep_alive_total", "class=never,client=alice"] == 1
    assert samples["ollama_client_keep_alive_total", "class=absent,client=bob"] == 2
    assert samples["ollama_client_options_total", "class=num_ctx,client=bob"] == 1
    assert not any("client=other" in labels for _, labels in samples)
    assert samples["ollama_exporter_recorder_errors_total", ""] == 0


def test_without_clients_no_series_is_added() -> None:
    bench = Bench()
    bench.answer(bench.ask())
    assert not any(name.startswith("ollama_client_") for name, _ in bench.samples())


def test_an_eviction_during_the_wait_of_one_client_is_its_own() -> None:
    bench = Bench()
    waiting = ask(bench, "alice")
    ask(bench, "bob", "n")
    bench.recorder.on_event(evicted(at=(101.0, 102.0)))
    assert caused(bench) == {"client=alice,victim=v:latest": 1}
    bench.now = 103.0
    bench.answer(waiting, load=3.0)
    bench.recorder.on_event(evicted(at=(101.0, 102.0)))  # settled later than the answer
    assert caused(bench) == {"client=alice,victim=v:latest": 2}


@pytest.mark.parametrize(
    "event",
    [
        evicted(at=(90.0, 99.0)),  # before the request
        evicted(at=(104.5, 105.0)),  # after its load, while it is answered
        evicted(at=(101.0, 102.0), by="x:latest"),
        evicted(at=(101.0, 102.0), by=None),
        evicted(at=(101.0, 102.0), reason=Reason.EXPIRED),
    ],
)
def test_another_unload_is_put_down_to_no_client(event: Unloaded) -> None:
    bench = Bench()
    bench.answer(ask(bench, "alice"), load=3.0, first=4.0)
    bench.recorder.on_event(event)
    assert caused(bench) == {}


def test_what_two_clients_waited_for_is_put_down_to_neither() -> None:
    bench = Bench()
    ask(bench, "alice")
    ask(bench, "bob")
    bench.recorder.on_event(evicted(at=(100.0, 102.0)))
    assert caused(bench) == {}


def test_a_request_that_found_its_model_loaded_causes_nothing() -> None:
    bench = Bench()
    bench.answer(ask(bench, "alice"))
    bench.recorder.on_event(evicted(at=(100.0, 102.0)))
    assert caused(bench) == {}


def test_a_client_that_left_during_the_load_has_caused_it() -> None:
    bench = Bench()
    exchange = ask(bench, "alice")
    bench.now = 105.0
    exchange.on_client_gone()
    bench.recorder.on_event(evicted(at=(101.0, 102.0)))
    assert caused(bench) == {"client=alice,victim=v:latest": 1}


def test_clients_beyond_fifty_are_other() -> None:
    bench = Bench()
    for number in range(200):
        bench.answer(ask(bench, f"made-up-{number}"))
    names = {x.split(",")[0] for n, x in bench.samples() if n == "ollama_client_requests_total"}
    assert len(names) == 51
    assert bench.samples()["ollama_client_requests_total", "client=other,model=m:latest"] == 150
