# SPDX-License-Identifier: Apache-2.0
"""What is kept of requests has a bound on its size, whatever clients write into them."""

import asyncio
import json
from pathlib import Path
from typing import Final

import pytest

from ollama_exporter.advice.idle_gaps import IdleGapDetector
from ollama_exporter.clock import Timeline
from ollama_exporter.metrics.labels import ModelLabels
from ollama_exporter.protocol.routes import route_of
from ollama_exporter.reporter import Reporter, ignore
from ollama_exporter.residency.tracker import Tracker
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.in_flight import InFlight, Unpolled
from ollama_exporter.shim.recorder import Recorder, RequestInstruments
from tests.support.process import proxy_process
from tests.support.rawserver import answers, caller, rawserver

NOT_FOUND: Final = (
    b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n"
    b'{"error":"not found"}'
)
GROWTH: Final = 48 << 20  # bytes; without a bound each of these tests keeps more than 80 MB
REQUESTS: Final = 4_000
ROUTES: Final = (
    *("/api/generate", "/api/chat", "/api/embed", "/api/embeddings", "/v1/chat/completions"),
    *("/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"),
)


def resident() -> int:
    """Return the memory of this process, bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages << 12


@pytest.mark.parametrize("path", ROUTES)
def test_thousands_of_the_longest_names_cost_little(path: str) -> None:
    tracker, route = Tracker(window=60.0), route_of("POST", path)
    timeline = Timeline()
    recorder = Recorder(
        RequestInstruments(ModelLabels(100)),
        InFlight(Unpolled(), IdleGapDetector()),
        Reporter(fact=lambda fact: ignore(tracker.observe(fact))),
        timeline,
    )
    name = "n" * 20_000
    before = 0
    for number in range(REQUESTS):
        body = b'{"model":"%d%b","num_ctx":1,"keep_alive":"5m"}' % (number, name.encode())
        exchange = Exchange(recorder, route, method=b"POST", id=number, now=timeline.now)
        exchange.on_request_body(body)
        exchange.on_request_complete()
        exchange.on_response_head(404 if number % 2 else 200, b"application/json", b"")
        exchange.on_response_body(json.dumps({"model": name, "error": "e"}).encode())
        exchange.on_response_complete()
        if number == 100:
            before = resident()
    assert resident() - before < GROWTH


def test_the_largest_requests_cost_a_running_exporter_little() -> None:
    async def check() -> None:
        async with rawserver(answers(NOT_FOUND)) as server:
            with proxy_process(server.url) as proxy:
                before = 0
                for number in range(300):
                    body = b'{"model":"%d-%b"}' % (number, b"n" * 900_000)
                    head = (
                        b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\n"
                        b"Content-Length: %d\r\n\r\n"
                    )
                    async with caller(proxy.port) as client:
                        assert (await client.ask(head % len(body) + body)).status == 404
                    before = before or proxy.resident()
                assert proxy.resident() - before < GROWTH

    asyncio.run(check())
