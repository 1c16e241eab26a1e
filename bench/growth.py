# SPDX-License-Identifier: Apache-2.0
"""How cost grows with models, series, events and streams: a table and a chart.

python -m bench.growth [--write docs/performance.md] [--chart docs/images/growth.svg]
[--without-streams]. All figures are CPU time. Streams need what the proxy's bench needs.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from msgspec import Struct
from prometheus_client import CollectorRegistry

from bench.pauses import ManyLines
from bench.proxy.candidates import HERE, Candidate, running
from bench.proxy.run import load
from bench.proxy.run import stage as proxy_stage
from bench.run import write_between
from ollama_exporter.clock import Timeline
from ollama_exporter.metrics.collectors.exporter_collector import ExporterCollector, LogCounter
from ollama_exporter.metrics.exposition import in_parts
from ollama_exporter.metrics.registry import Instruments, build
from ollama_exporter.metrics.rendering import Renderer
from ollama_exporter.poller.published import Published, ServerState
from ollama_exporter.protocol.wire import decode_ps
from ollama_exporter.residency.facts import Snapshot
from ollama_exporter.residency.tracker import Tracker

ROUNDS: Final = 5
LEAST: Final = 0.05  # seconds that one measurement takes
STEEPEST: Final = 1.15  # exponent of the last step that is still called linear
ACCEPT: Final = "application/openmetrics-text;version=1.0.0"
RATE: Final = 2.0  # records a second of each stream
COLOURS: Final = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280")
STYLE: Final = 'font-family="sans-serif" font-size="12" role="img"'
WIDTH, HEIGHT, LEFT, BOTTOM, RIGHT, TOP = 830, 420, 70, 50, 240, 20


class Curve(Struct, frozen=True):
    """What one dimension costs: sizes, and CPU in milliseconds for each."""

    name: str
    points: tuple[tuple[int, float], ...]

    @property
    def steepness(self) -> float:
        """The exponent of the last step: 1 is linear, 2 quadratic."""
        (before, less), (size, cost) = self.points[-2:]
        return math.log(cost / less) / math.log(size / before)


def cost(work: Callable[[], object]) -> float:
    """Return the CPU of one call, ms: the least of some rounds, which neighbours disturb least."""
    work()
    begun, times = time.process_time(), 0
    while time.process_time() - begun < LEAST:
        work()
        times += 1
    rounds = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(times):
            work()
        rounds.append((time.process_time() - begun) / times * 1e3)
    return min(rounds)


def listing(first: int, count: int) -> bytes:
    """Return an answer of `/api/ps`."""
    models = [
        {
            "name": f"model-{number}:7b",
            "model": f"model-{number}:7b",
            "size": 4 << 30,
            "digest": sha256(str(number).encode()).hexdigest(),
            "details": {"format": "gguf", "family": "llama", "parameter_size": "7.2B"},
            "expires_at": "2318-03-01T12:00:00Z",
            "size_vram": 4 << 30,
            "context_length": 4096,
        }
        for number in range(first, first + count)
    ]
    return json.dumps({"models": models}, separators=(",", ":")).encode()


def poll_and_scrape(count: int) -> tuple[float, float]:
    """Return the CPU of a poll, without the network, and of a scrape of so many models, ms."""
    timeline, body, at = Timeline(), listing(0, count), [0.0]
    tracker = Tracker(window=60.0)

    def poll() -> None:
        at[0] += 15.0
        tracker.observe(Snapshot(at[0], at[0] + 0.001, decode_ps(body)))
        tracker.advance(at[0] + 0.001)

    poll()
    state = ServerState().after(Snapshot(0.0, 0.0, ()), at=0.0)
    instruments = Instruments.new(
        timeline, ExporterCollector(log_lines=LogCounter()), max_models=2000
    )
    published = Published(state, tracker.view())
    registry, renderer = build(instruments, timeline, lambda: published), Renderer()
    polled = cost(poll)
    return polled, cost(lambda: scrape(registry, renderer))


def series(count: int) -> float:
    """Return the CPU of a scrape of so many lines, all of which have changed, ms."""
    registry, renderer = CollectorRegistry(), Renderer(most_heads=200_000)
    registry.register(ManyLines(count))
    return cost(lambda: scrape(registry, renderer))


def scrape(registry: CollectorRegistry, renderer: Renderer) -> bytes:
    """Return the body of a scrape."""
    return b"".join(in_parts(registry, renderer, accept=ACCEPT, accept_encoding="gzip")[1])


def events(count: int) -> float:
    """Return the CPU of a poll at which so many models have taken the place of others, ms."""
    tracker, bodies = Tracker(window=60.0), [listing(0, count), listing(count, count)]
    at = [0.0]

    def poll() -> None:
        at[0] += 1.0
        body = bodies[int(at[0]) % 2]
        tracker.observe(Snapshot(at[0], at[0] + 0.001, decode_ps(body)))
        tracker.advance(at[0] + 0.001)

    for _ in range(120):  # as many unloads wait for their reasons as ever will
        poll()
    return cost(poll)


def streams(counts: Sequence[int]) -> Iterator[tuple[int, float]]:
    """Yield the proxy's CPU of a second with so many open streams, ms."""
    with proxy_stage() as (work, server):
        proxy = Candidate(
            "ours", f"{sys.executable} {HERE / 'stage.py'} {{port}} {{server}} uvloop metrics"
        )
        for count in counts:
            with running(proxy, work, server=server) as process:
                before = process.cpu()
                seen = load(
                    process.port,
                    work,
                    streams=count,
                    records=20,
                    rate=RATE,
                    seconds=6,
                    warmup=0,
                )
                # Per record that arrived: a starved client must not look like a cheap proxy.
                each = (process.cpu() - before) / seen["chunks"]
                yield count, each * RATE * count * 1e3


def measure(*, with_streams: bool) -> list[Curve]:
    """Measure all curves."""
    sizes = (1, 10, 100, 1000)
    models = {count: poll_and_scrape(count) for count in sizes}
    curves = [
        Curve("poll, by models", tuple((n, polled) for n, (polled, _) in models.items())),
        Curve("scrape, by models", tuple((n, scraped) for n, (_, scraped) in models.items())),
        Curve("scrape, by lines", tuple((n, series(n)) for n in (300, 3000, 30_000, 100_000))),
        Curve("poll, by models replaced", tuple((n, events(n)) for n in sizes)),
    ]
    if with_streams:
        points = tuple(streams((1, 10, 100, 1000, 5000)))
        curves.append(Curve("a second of relaying, by streams", points))
    return curves


def table(curves: Sequence[Curve]) -> str:
    """Return the figures as a table in Markdown."""
    lines = ["| CPU, ms | at each size | last step | |", "|---|---|---|---|"]
    for curve in curves:
        costs = ", ".join(f"{size:,}: {each:.3g}" for size, each in curve.points)
        verdict = "linear or less" if curve.steepness <= STEEPEST else "worse than linear"
        lines.append(f"| {curve.name} | {costs} | n^{curve.steepness:.2f} | {verdict} |")
    return "\n".join(lines) + "\n"


def chart(curves: Sequence[Curve]) -> str:
    """Return the curves as an SVG, both axes logarithmic, with a line that is linear."""
    costs = [each for curve in curves for _, each in curve.points]
    low, high = math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs)))
    decades = 5

    def x(size: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log10(size) / decades

    def y(each: float) -> float:
        share = (math.log10(each) - low) / (high - low)
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share

    def line(points: Sequence[tuple[float, float]], style: str) -> str:
        joined = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        return f'<polyline points="{joined}" fill="none" {style}/>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {STYLE}>',
        "<title>How the CPU of polls, scrapes and streams grows with their size</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for decade in range(decades + 1):
        at, name = x(10**decade), f"{10**decade:,}"
        parts.append(f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#e2e8f0"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - 30}" text-anchor="middle">{name}</text>')
    for decade in range(low, high + 1):
        at = y(10.0**decade)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#e2e8f0"/>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{10.0**decade:g} ms</text>'
        )
    span = min(high - low, decades)
    linear = [(10.0 ** (decades - span), 10.0**low), (10.0**decades, 10.0 ** (low + span))]
    parts.append(line(linear, 'stroke="#a0aec0" stroke-dasharray="4 4"'))
    parts.append(
        f'<text x="{WIDTH - RIGHT + 8}" y="{y(linear[1][1]) + 4:.1f}" fill="#718096">linear</text>'
    )
    for number, (curve, colour) in enumerate(zip(curves, COLOURS, strict=False)):
        parts.append(line(curve.points, f'stroke="{colour}" stroke-width="2"'))
        parts += [
            f'<circle cx="{x(size):.1f}" cy="{y(each):.1f}" r="3" fill="{colour}"/>'
            for size, each in curve.points
        ]
        parts.append(
            f'<text x="{WIDTH - RIGHT + 8}" y="{HEIGHT / 2 + 18 * number:.1f}" fill="{colour}">'
            f"{curve.name}</text>"
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">size</text></svg>')
    return "\n".join(parts) + "\n"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="put the table between the marks of this page")
    parser.add_argument("--chart", type=Path, help="write the chart there")
    parser.add_argument("--without-streams", action="store_true", help="where Go is missing")
    options = parser.parse_args()
    curves = measure(with_streams=not options.without_streams)
    text = table(curves)
    print(text)
    if options.chart is not None:
        options.chart.write_text(chart(curves), encoding="utf-8")
    if options.write is not None:
        write_between(options.write, "growth", text)


if __name__ == "__main__":
    main()
