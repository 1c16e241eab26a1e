# SPDX-License-Identifier: Apache-2.0
"""What the shim inside Python adds, CPU of a request and of a chunk: python -m bench.transport.

Two httpx clients on the same transport, which answers out of memory, so that nothing but the client
and the shim is measured. They take turns; what is printed is the difference between the two.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from statistics import median
from typing import Final

import httpx
from prometheus_client import CollectorRegistry

from bench.no_sink import NoSink
from ollama_exporter import Transport
from ollama_exporter.protocol.routes import route_of
from ollama_exporter.shim.exchange import Exchange, Sink
from ollama_exporter.shim.httpx.hooks import HttpxHooks, server_of
from ollama_exporter.shim.httpx.recorders import StandaloneCollector
from ollama_exporter.shim.httpx.transports import library_of

URL: Final = "http://127.0.0.1:11434"
REQUESTS: Final = 2000
STREAMS: Final = 20
CHUNKS: Final = 5000
FINAL: Final = (
    b'{"model":"llama3.2","created_at":"2026-01-01T00:00:00Z","response":"","done":true,'
    b'"done_reason":"stop","total_duration":900000000,"load_duration":40000000,'
    b'"prompt_eval_count":12,"prompt_eval_duration":100000000,"eval_count":40,'
    b'"eval_duration":700000000}\n'
)
CHUNK: Final = (
    b'{"model":"llama3.2","created_at":"2026-01-01T00:00:00Z","response":" word","done":false}\n'
)
ASKED: Final = {"model": "llama3.2", "prompt": "why", "keep_alive": "10m"}


class Answer(httpx.SyncByteStream):
    """A streamed answer of so many chunks and a final record."""

    def __init__(self, chunks: int) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self._chunks):
            yield CHUNK
        yield FINAL


class Memory(httpx.BaseTransport):
    """Answers without a network."""

    def __init__(self) -> None:
        self.chunks = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        for _ in request.stream:  # type: ignore[union-attr]  # a synchronous client's
            pass
        kind = {"Content-Type": "application/x-ndjson"}
        return httpx.Response(200, headers=kind, stream=Answer(self.chunks))


class Passed(httpx.SyncByteStream):
    """A body that is passed on as it comes."""

    def __init__(self, inner: httpx.SyncByteStream) -> None:
        self._inner = inner

    def __iter__(self) -> Iterator[bytes]:
        yield from self._inner

    def close(self) -> None:
        """Close the inner one."""
        self._inner.close()


class Passing(httpx.BaseTransport):
    """The least that a hook does: puts a stream around both bodies."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Pass on."""
        body = request.stream
        assert isinstance(body, httpx.SyncByteStream)
        request.stream = Passed(body)
        response = self._inner.handle_request(request)
        request.stream = body
        assert isinstance(response.stream, httpx.SyncByteStream)
        response.stream = Passed(response.stream)
        return response


def steps(count: int) -> str:
    """Measure what a request costs, step by step; return a table in Markdown."""
    inner = Memory()
    hooks = HttpxHooks(
        server_of(URL), CollectorRegistry(), None, timeout_error=httpx.TimeoutException
    )
    hooks.recorder = NoSink()  # type: ignore[assignment]  # for this table only
    reading: httpx.BaseTransport = library_of("httpx").transport(inner, hooks)  # type: ignore[assignment]  # made of it
    transports = {
        "httpx alone": inner,
        "a hook that passes both bodies on": Passing(inner),
        "and reads both": reading,
        "and records the request": Transport(inner, base_url=URL, registry=CollectorRegistry()),
    }
    clients = {
        name: httpx.Client(base_url=URL, transport=each) for name, each in transports.items()
    }
    seen: dict[str, list[float]] = {name: [] for name in clients}
    for number in range(count + 1):
        for name, client in clients.items():
            took = cost(client, REQUESTS)
            if number:  # the first round warms up
                seen[name].append(took * 1e6)
    for name, sink in (
        ("reading both, alone in a loop", NoSink()),
        ("reading and recording, alone in a loop", StandaloneCollector().recorder),
    ):
        seen[name] = [alone(sink) * 1e6 for _ in range(count)]
    rows = [f"| {name} | {_spread(values)} |\n" for name, values in seen.items()]
    return "| CPU of a request, µs | |\n|---|---|\n" + "".join(rows)


def alone(sink: Sink) -> float:
    """Return the CPU of reading and reporting one request to a sink, without httpx, seconds."""
    body, route = json.dumps(ASKED).encode(), route_of("POST", "/api/generate")
    before = time.process_time()
    for number in range(REQUESTS):
        exchange = Exchange(sink, route, method=b"POST", id=number, now=time.monotonic)
        exchange.on_request_body(body)
        exchange.on_request_complete()
        exchange.on_response_head(200, b"application/x-ndjson", b"")
        exchange.on_response_body(FINAL)
        exchange.on_response_complete()
    return (time.process_time() - before) / REQUESTS


def cost(client: httpx.Client, times: int) -> float:
    """Return the CPU of one request, seconds."""
    before = time.process_time()
    for _ in range(times):
        with client.stream("POST", "/api/generate", json=ASKED) as answer:
            for _ in answer.iter_raw():
                pass
    return (time.process_time() - before) / times


def rounds(count: int, *, chunks: int, times: int) -> tuple[list[float], list[float]]:
    """Return each round's CPU of a request: without and with the shim, seconds."""
    inner = Memory()
    inner.chunks = chunks
    registry = CollectorRegistry()
    bare = httpx.Client(base_url=URL, transport=inner)
    ours = httpx.Client(base_url=URL, transport=Transport(inner, base_url=URL, registry=registry))
    for client in (bare, ours):
        cost(client, max(1, times // 10))
    without, within = [], []
    for _ in range(count):
        without.append(cost(bare, times))
        within.append(cost(ours, times))
    return without, within


def table(count: int) -> str:
    """Measure so many rounds; return a table in Markdown."""
    short = rounds(count, chunks=0, times=REQUESTS)
    long = rounds(count, chunks=CHUNKS, times=STREAMS)
    head = "| CPU, µs | httpx alone | what the shim adds |\n|---|---|---|\n"
    return head + _line("of a request", short, each=1) + _line("of a chunk", long, each=CHUNKS)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", action="store_true", help="of what a request is made")
    options = parser.parse_args()
    sys.stdout.write(steps(options.rounds) if options.steps else table(options.rounds))


def _line(what: str, seen: tuple[list[float], list[float]], *, each: int) -> str:
    alone = [value / each * 1e6 for value in seen[0]]
    added = [(with_it - value) / each * 1e6 for value, with_it in zip(*seen, strict=True)]
    return f"| {what} | {_spread(alone)} | {_spread(added)} |\n"


def _spread(values: list[float]) -> str:
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


if __name__ == "__main__":
    main()
