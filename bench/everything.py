# SPDX-License-Identifier: Apache-2.0
"""All figures of speed beside their goals, in one run: python -m bench.everything.

`--write docs/performance.md` writes the table there. Takes below 20 minutes. Needs what the proxy's
bench needs: two cores, taskset, wrk, Go.
"""

import argparse
import os
import platform
import resource
import statistics
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import transport
from bench.idle import measure_idle
from bench.pauses import measure_pauses
from bench.proxy.candidates import candidates
from bench.proxy.run import Rounds, scrapes
from bench.proxy.run import measure as measure_proxies
from bench.proxy.run import stage as proxy_stage
from bench.run import machine, measure_rounds, write_between

OURS: Final = "ours, uvloop"
UNMEASURED: Final = "ours, no metrics"
RELAY: Final = "relay that looks at nothing"
GO: Final = "Go ReverseProxy"
NGINX: Final = "nginx"
SHORT: Final = {UNMEASURED: "no metrics", RELAY: "relay", GO: "Go", NGINX: "nginx"}
WIDTH: Final = 120  # of the page
BUSY: Final = 10.0  # % of the machine that others may use before the page says so


@dataclass(frozen=True, slots=True)
class Line:
    """One figure. `other`: figures of what it is compared with, by round; empty: no ratio.

    `goal`: the most that the ratio, or the figure itself, should be.
    """

    title: str
    ours: Sequence[float]
    goal: float
    other: Sequence[float] = ()

    @property
    def reached(self) -> float:
        """The ratio of the medians, or the median."""
        middle = statistics.median(self.ours)
        return middle / statistics.median(self.other) if self.other else middle

    def text(self) -> str:
        """Return the line of the table."""
        ratio = f"{self.reached:.2f}x" if self.other else ""
        is_met = self.reached <= self.goal
        missed = f"missed by {100 * (self.reached / self.goal - 1):.0f} %"
        cells = (
            self.title,
            _spread(self.ours),
            _spread(self.other) if self.other else "",
            ratio,
            f"<= {self.goal:g}{'x' if self.other else ''}",
            "met" if is_met else missed,
        )
        return f"| {' | '.join(cells)} |"


def base_lines(count: int) -> list[Line]:
    """Measure the exporter beside *bare*."""
    rounds, polls = measure_rounds(count)
    ours, bare = rounds["ollama_exporter"], rounds["bare"]
    idle = measure_idle(count, {"all parts": ()})["all parts"]
    return [
        Line("scrape, CPU, ms / bare", [x.scrape for x in ours], 1.8, [x.scrape for x in bare]),
        Line(
            "start to first scrape, s / bare",
            [x.start for x in ours],
            1.25,
            [x.start for x in bare],
        ),
        Line(
            "likewise, CPU, s / bare",
            [x.start_cpu for x in ours],
            1.25,
            [x.start_cpu for x in bare],
        ),
        Line("resident memory, idle, MiB", [x.memory for x in ours], 46.0),
        Line("poll, CPU, ms / bare httpx", [x.ours for x in polls], 0.7, [x.bare for x in polls]),
        Line("idle, % of a core", idle, 0.25),
    ]


def pause_lines(count: int) -> list[Line]:
    """Measure how long a scrape of 10,000 lines keeps a loop waiting."""
    seen = [measure_pauses() for _ in range(count)]
    added = [max(0.0, within - without) for within, without, _ in seen]
    return [Line("a scrape of 10,000 lines delays the loop, p99, ms", added, 5.0)]


def proxy_lines(count: int) -> list[Line]:
    """Measure the proxy beside its peers."""
    with proxy_stage() as (work, server):
        names = ("small", "asked", "chunks", "first", "memory")
        seen = measure_proxies(work, server, names, rounds=count)
        ours = next(iter(candidates(work, [])))
        delays = [scrapes(ours, work, server=server) for _ in range(count)]
    lines = [
        line
        for measure, figure, title, peers in (
            (
                "small",
                "cpu_us",
                "proxy, small, µs",
                ((NGINX, 1.6), (RELAY, 1.6), (GO, 0.4)),
            ),
            ("chunks", "cpu_us", "proxy, chunk, µs", ((RELAY, 1.3), (GO, 1.0))),
            ("asked", "cpu_us", "proxy, recorded, µs", ((UNMEASURED, 1.3),)),
            ("first", "first_p50", "first record, p50, ms", ((GO, 1.0),)),
            ("first", "first_p99", "first record, p99, ms", ((GO, 1.0),)),
        )
        for line in _against(seen, measure, figure, title, peers)
    ]
    opened = [x["streams"] - x["idle"] for x in seen["memory"][OURS]]
    lines.append(Line("memory of 1,000 open streams, MiB", opened, 8.0))
    lines.append(
        Line(
            "chunk p99, scraped / not, ms",
            [x["with scrapes"]["delay_p99"] for x in delays],
            1.2,
            [x["without scrapes"]["delay_p99"] for x in delays],
        )
    )
    return lines


def _against(
    seen: Rounds, measure: str, figure: str, title: str, peers: Sequence[tuple[str, float]]
) -> list[Line]:
    """Return a line for each peer that could be measured."""
    figures = {who: [x[figure] for x in rounds] for who, rounds in seen[measure].items() if rounds}
    return [
        Line(f"{title} / {SHORT[peer]}", figures[OURS], goal, figures[peer])
        for peer, goal in peers
        if OURS in figures and peer in figures
    ]


def python_lines(count: int) -> list[Line]:
    """Measure the shim inside Python."""
    lines = []
    for title, goal, chunks, times in (
        ("in Python, a request, µs / httpx", 0.4, 0, transport.REQUESTS),
        ("in Python, a chunk, µs", 0.67, transport.CHUNKS, transport.STREAMS),
    ):
        without, within = transport.rounds(count, chunks=chunks, times=times)
        each = (chunks or 1) / 1e6
        added = [(more - less) / each for less, more in zip(without, within, strict=True)]
        lines.append(Line(title, added, goal, () if chunks else [x / each for x in without]))
    return lines


def neighbours() -> tuple[float, float]:
    """Return seconds of CPU that the machine has used so far, and that this bench has."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, soft, steal = (int(x) for x in fields[:8])
    used = (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
    own = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        own += usage.ru_utime + usage.ru_stime
    return used, own


def table(lines: Sequence[Line]) -> str:
    """Write the figures as a table in Markdown."""
    head = "| figure | ours | the other | ratio | goal | |\n|---|---|---|---|---|---|\n"
    return head + "".join(f"{line.text()}\n" for line in lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="put the table between the marks of this page")
    parser.add_argument("--without-proxy", action="store_true", help="where wrk or Go is missing")
    options = parser.parse_args()
    began, (used, own) = time.monotonic(), neighbours()
    lines = base_lines(options.rounds) + pause_lines(options.rounds) + python_lines(options.rounds)
    if not options.without_proxy:
        lines += proxy_lines(options.rounds)
    took, (used_then, own_then) = time.monotonic() - began, neighbours()
    others = ((used_then - used) - (own_then - own)) / took / (os.cpu_count() or 1) * 100
    text = (
        f"Median (least to most) of {options.rounds} rounds in one run of {took / 60:.0f} minutes. "
        f"{machine()}, Linux {platform.release().split('-')[0]}. Other programs used "
        f"{max(0.0, others):.0f} % of the machine meanwhile"
    )
    text += ": times are disturbed, CPU less so." if others > BUSY else "."
    text = f"{table(lines)}\n{textwrap.fill(text, WIDTH)}\n"
    sys.stdout.write(text)
    if options.write is not None:
        write_between(options.write, "everything", text)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


if __name__ == "__main__":
    main()
