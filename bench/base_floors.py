# SPDX-License-Identifier: Apache-2.0
"""What the cost of scrapes, polls and memory is made of: the same with less, step by step.

python -m bench.base_floors [--rounds 5] [--write docs/performance.md]
"""

import argparse
import asyncio
import gzip
import os
import ssl
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import httpx

from bench.poll import POLLS, WARM, bare, ours
from bench.run import (
    SCRAPES,
    body_of,
    compiled,
    contenders,
    free_port,
    machine,
    resident_mib,
    scheduled,
    scrape_many,
    stage,
    write_between,
)
from ollama_exporter.config.target import Target
from ollama_exporter.fleet.target_client import SharedByTargets, TargetClient
from ollama_exporter.protocol.client import OllamaClient

# A web server of the same libraries. Its arguments: port, kind, file with the text of a scrape.
SERVER: Final = """
import gzip, sys, zlib
from pathlib import Path
import uvicorn
from prometheus_client import CollectorRegistry, Gauge, make_asgi_app
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount, Route
port, kind, text = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_bytes()
packed, registry = gzip.compress(text, 1), CollectorRegistry()
options = {"http": "h11", "loop": "asyncio"} if kind == "checked" else {}
async def constant(_request):
    return Response(packed, headers={"content-encoding": "gzip"})
async def compressing(_request):
    return Response(gzip.compress(text, 1), headers={"content-encoding": "gzip"})
for number in range(text.count(b"\\n") // 13):
    gauge = Gauge(f"family_{number}", "What it counts.", ["model"], registry=registry)
    for model in range(11):
        gauge.labels(f"some-model-{model}:latest").set(number)
routes = {
    "constant": Route("/metrics", constant),
    "checked": Route("/metrics", constant),
    "compressing": Route("/metrics", compressing),
    "library": Mount("/metrics", make_asgi_app(registry)),
}
app = Starlette(routes=[routes[kind]])
uvicorn.run(app, port=port, log_level="error", access_log=False, **options)
"""
STEPS: Final = (
    ("interpreter, asyncio, ssl", "import asyncio, ssl, logging"),
    ("uvicorn and starlette", "import uvicorn, starlette.applications, starlette.responses"),
    ("prometheus_client", "import prometheus_client"),
    ("msgspec, httptools, click", "import msgspec, httptools, click"),
    ("httpx", "import sys; sys.modules['httpx._main'] = None; import httpx, httpcore"),
    ("our own modules", "import ollama_exporter.cli.serve"),
)
RESIDENT: Final = (
    "int(next(x for x in open('/proc/self/status') if x.startswith('VmRSS')).split()[1]) / 1024"
)
Poll = Callable[[], Awaitable[object]]


def scrape_cost(command: list[str], port: int, environment: dict[str, str]) -> tuple[float, float]:
    """Return milliseconds of CPU of a scrape, and the memory afterwards in MiB."""
    with subprocess.Popen(command, env=compiled() | environment, stderr=subprocess.DEVNULL) as run:
        try:
            _wait_for(port)
            time.sleep(2.0)  # our exporter has polled
            scrape_many(port, 20)
            before = scheduled(run.pid)
            scrape_many(port, SCRAPES)
            return (scheduled(run.pid) - before) * 1e3 / SCRAPES, resident_mib(run.pid)
        finally:
            run.terminate()
            run.wait(10)


def _wait_for(port: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            body_of(port)
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(port)


async def poll_cost(poll: Poll) -> float:
    """Return milliseconds of CPU of a poll."""
    before = 0.0
    for number in range(WARM + POLLS):
        if number == WARM:
            before = time.process_time()
        await poll()
    return (time.process_time() - before) * 1e3 / POLLS


async def by_transport(url: str) -> float:
    """Ask by httpx's transport alone, with one request that is made once."""
    transport = httpx.AsyncHTTPTransport(
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), limits=httpx.Limits(max_connections=1)
    )
    request = httpx.Request("GET", f"{url}/api/ps")

    async def poll() -> None:
        response = await transport.handle_async_request(request)
        await response.aread()
        await response.aclose()

    try:
        return await poll_cost(poll)
    finally:
        await transport.aclose()


async def by_client(client: OllamaClient | TargetClient) -> float:
    """Ask by a client of ours."""
    try:
        return await poll_cost(client.ps)
    finally:
        await client.aclose()


def memory_steps() -> list[float]:
    """Return the resident memory after each step of imports, MiB."""
    lines = "".join(f"{code}\nprint({RESIDENT})\n" for _, code in STEPS)
    command = [sys.executable, "-c", f"import gc; gc.disable()\n{lines}"]
    done = subprocess.run(command, env=compiled(), capture_output=True, text=True, check=True)
    return [float(line) for line in done.stdout.split()]


def one_round(url: str, text: Path, found: dict[str, list[float]]) -> None:
    """Measure everything once."""

    def note(what: str, value: float) -> None:
        found.setdefault(what, []).append(value)

    for kind in ("constant", "checked", "compressing", "library"):
        port = free_port()
        command = [sys.executable, "-c", SERVER, str(port), kind, str(text)]
        note(kind, scrape_cost(command, port, {})[0])
    for contender in contenders(url):
        cpu, memory = scrape_cost(contender.command, contender.port, contender.environment)
        note(f"scrape {contender.name}", cpu)
        note(f"memory {contender.name}", memory)
    target = Target("bench", url)
    note("httpx get", asyncio.run(bare(url, POLLS)))
    note("transport", asyncio.run(by_transport(url)))
    note("client", asyncio.run(by_client(OllamaClient(target))))
    note("poll", asyncio.run(ours(url, POLLS)))
    note("httptools", asyncio.run(by_client(TargetClient(target, SharedByTargets(10.0)))))
    before = 0.0
    for (step, _), after in zip(STEPS, memory_steps(), strict=True):
        note(step, after - before)
        before = after


def example(url: str, file: Path) -> int:
    """Write the text of a scrape of ours to a file; return its number of lines."""
    ours_first = contenders(url)[0]
    environment = compiled() | ours_first.environment
    with subprocess.Popen(ours_first.command, env=environment, stderr=subprocess.DEVNULL) as run:
        try:
            _wait_for(ours_first.port)
            time.sleep(2.0)
            text = body_of(ours_first.port)
        finally:
            run.terminate()
            run.wait(10)
    file.write_bytes(text)
    return text.count(b"\n")


def report(found: dict[str, list[float]], lines: int, size: int) -> str:
    """Return the table."""
    rows = [
        (
            "scrape, ms",
            f"uvicorn and starlette, {size / 1000:.0f} kB that never change",
            "constant",
        ),
        ("", "they on h11, which checks and bounds what it reads, and asyncio", "checked"),
        ("", f"uvicorn, starlette, and gzip of {lines} lines each time", "compressing"),
        ("", f"uvicorn, starlette, and prometheus_client for {lines} lines, gzip", "library"),
        ("", "*bare*: the same for 40 lines", "scrape bare"),
        ("", f"ollama_exporter, {lines} lines, gzip", "scrape ollama_exporter"),
        ("poll, ms", "httpx's transport alone, one request made once", "transport"),
        ("", "httpx's `get`, and json.loads: *bare*", "httpx get"),
        ("", "our client: the transport, bounds, credentials, decoding", "client"),
        ("", "ollama_exporter: the client and the tracker", "poll"),
        ("", "the client of several servers, on httptools, without a tracker", "httptools"),
        *(("memory, MiB" if not n else "", step, step) for n, (step, _) in enumerate(STEPS)),
        ("", "*bare*, in all", "memory bare"),
        ("", "ollama_exporter, in all", "memory ollama_exporter"),
    ]
    head = "| | | median (least to most) |\n|---|---|---|\n"
    return head + "".join(f"| {of} | {what} | {_spread(found[key])} |\n" for of, what, key in rows)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path, help="put the table between the marks of this page")
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    text = Path(f"/tmp/ollama-exporter-floors-{os.getpid()}")  # noqa: S108 - removed below
    try:
        with stage() as url:
            lines = example(url, text)
            for number in range(options.rounds):
                print(f"round {number + 1}", file=sys.stderr, flush=True)
                one_round(url, text, found)
        size = len(gzip.compress(text.read_bytes(), 1))
    finally:
        text.unlink(missing_ok=True)
    what = textwrap.fill(f"{options.rounds} rounds, CPU by the scheduler. {machine()}.", 120)
    table = f"{report(found, lines, size)}\n{what}\n"
    print(table)
    if options.write is not None:
        write_between(options.write, "floors", table)


if __name__ == "__main__":
    main()
