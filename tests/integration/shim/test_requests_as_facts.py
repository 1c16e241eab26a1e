# SPDX-License-Identifier: Apache-2.0
"""What the proxy would have told the tracker of recorded requests is what replay tells it."""

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest

from bench.scoring import Score
from bench.truth import RECORDINGS, Evidence, judge
from ollama_exporter.advice.idle_gaps import IdleGapDetector
from ollama_exporter.metrics.labels import ModelLabels
from ollama_exporter.protocol.routes import route_of
from ollama_exporter.recordings.format import Recording, moment_of
from ollama_exporter.recordings.read_recording import read_recording
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.facts import RequestAnswered, RequestEnded, RequestFact
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.in_flight import InFlight, Unpolled
from ollama_exporter.shim.recorder import Recorder, RequestInstruments
from tests.support.timelines import GivenTimeline

NEW = (
    *("agents-2", "batch-2", "faults-2", "mixed-3", "office-1", "stuck-2", "thrash-2"),
    "sizes-1",
)
OLD = ("old-1",)
NDJSON = b"application/x-ndjson"
DURATIONS = (
    *("done", "done_reason", "total_duration", "load_duration", "prompt_eval_count"),
    *("prompt_eval_duration", "eval_count", "eval_duration"),
)


class Clock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lines(name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(RECORDINGS / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def request_body(start: dict[str, Any]) -> bytes:
    """Write the body that this request must have had."""
    body: dict[str, Any] = {"model": start["model"]}
    if start["has_keep_alive"]:
        body["keep_alive"] = start["keep_alive"]
    if start["num_ctx"] is not None:
        body["options"] = {"num_ctx": start["num_ctx"]}
    if not start["empty"]:
        body |= {"prompt": "p", "messages": [{"role": "user", "content": "p"}], "input": "p"}
    return json.dumps(body).encode()


def begin(start: dict[str, Any], sink: Recorder, clock: Clock) -> Exchange:
    clock.now = start["t"]
    route = route_of("POST", start["path"])
    exchange = Exchange(sink, route, method=b"POST", id=start["id"], now=clock)
    exchange.on_request_body(request_body(start))
    exchange.on_request_complete()
    return exchange


def first_byte(end: dict[str, Any], exchange: Exchange) -> None:
    exchange.on_response_head(
        end["status"], NDJSON if end["status"] == 200 else b"application/json", b""
    )
    token = b'{"response":"w","done":false}\n' if end["records"] > 1 else b"{"
    exchange.on_response_body(token if end["status"] == 200 else b"{")


def finish(end: dict[str, Any], exchange: Exchange) -> None:
    if end["outcome"] == "client_gone":
        exchange.on_client_gone()
    elif end["outcome"] != "ok" and end["status"] is None:
        exchange.on_upstream_error(code=502)
    else:
        said = {key: end[key] for key in (*DURATIONS, "error") if key in end}
        text = json.dumps(said, separators=(",", ":")).encode()
        began = end["status"] != 200 or end["records"] <= 1
        exchange.on_response_body(text[1:] if began else text + b"\n")
        exchange.on_response_complete()


def proxied(name: str) -> list[RequestFact]:
    """Drive an exchange for each recorded request, each step at its recorded moment."""
    clock, facts, running = Clock(), list[RequestFact](), dict[Any, Exchange]()
    sink = Recorder(
        RequestInstruments(ModelLabels(100)),
        InFlight(Unpolled(), IdleGapDetector()),
        Reporter(fact=cast("Any", facts.append), error=pytest.fail),
        GivenTimeline(clock),
    )

    def started(line: dict[str, Any]) -> None:
        running[line["id"]] = begin(line, sink, clock)

    def answered(line: dict[str, Any]) -> None:
        first_byte(line, running[line["id"]])

    def ended(line: dict[str, Any]) -> None:
        finish(line, running.pop(line["id"]))

    steps: list[tuple[float, int, Callable[[], None]]] = []
    for line in lines(name):
        if line["kind"] == "request_start":
            steps.append((line["t"], 0, partial(started, line)))
        elif line["kind"] == "request_end":
            if line["ttft"] is not None:
                at = line["start"] + line["ttft"]
                steps.append((at, 1, partial(answered, line)))
            steps.append((line["t"], 2, partial(ended, line)))
    for at, _, step in sorted(steps, key=lambda each: each[:2]):
        clock.now = at
        step()
    return facts


def with_facts(name: str) -> tuple[Recording, Recording]:
    recording = read_recording(RECORDINGS / f"{name}.jsonl.gz")
    return recording, replace(recording, requests=tuple(sorted(proxied(name), key=moment_of)))


@pytest.mark.parametrize("name", NEW + OLD)
def test_the_proxy_tells_what_a_recording_tells(name: str) -> None:
    recording, ours = with_facts(name)

    def known(facts: Any) -> list[Any]:
        shown = []
        for fact in facts:
            if isinstance(fact, RequestAnswered | RequestEnded):
                shown.append((round(fact.at, 3), fact.id, getattr(fact, "failure", None)))
            else:
                shown.append(fact)
        return sorted(shown, key=repr)

    assert known(ours.requests) == known(recording.requests)


@pytest.mark.parametrize(
    ("names", "right", "wrong"),
    [pytest.param(NEW, 0.97, 0.02, id="0.33"), pytest.param(OLD, 0.90, 0.06, id="0.24")],
)
def test_the_reasons_are_as_accurate_with_what_the_proxy_tells(
    names: tuple[str, ...], right: float, wrong: float
) -> None:
    total = Score()
    for name in names:
        truth = RECORDINGS / f"{name}.truth.jsonl"
        total += judge(with_facts(name)[1], truth, interval=15.0, evidence=Evidence(requests=True))
    assert total.right >= right * total.judged
    assert total.wrong <= wrong * total.judged
