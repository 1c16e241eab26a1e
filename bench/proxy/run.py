# SPDX-License-Identifier: Apache-2.0
"""The proxy beside its peers, in one run: python -m bench.proxy.run [--rounds 3].

The proxy has one core, server and client share the other. Needs taskset, wrk and Go. nginx and
haproxy are measured if they are installed.
"""

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench import transport
from bench.proxy.candidates import (
    HERE,
    Candidate,
    Running,
    candidates,
    free_port,
    running,
    say,
    wait_for,
)

CLIENT: Final = ("taskset", "-c", "1")
Figures = dict[str, float]
Rounds = dict[str, dict[str, list[Figures]]]  # by measure and candidate
SMALL: Final = re.compile(r"(\d+) requests in")


# A request that needs a runner and is answered at once: the recorder does all of its work.
ASK: Final = """wrk.method = "POST"
wrk.body = '{"model":"llama3.2:3b","prompt":"why"}'
wrk.headers["Content-Type"] = "application/json"
"""


def small(proxy: Running, _: Path) -> Figures:
    """Measure small requests: wrk, 32 connections."""
    return _hurried(proxy, f"http://127.0.0.1:{proxy.port}/api/ps")


def asked(proxy: Running, work: Path) -> Figures:
    """Measure small requests that are recorded in full."""
    script = work / "ask.lua"
    script.write_text(ASK, encoding="utf-8")
    url = f"http://127.0.0.1:{proxy.port}/api/generate?records=1&rate=1000000"
    return _hurried(proxy, "-s", str(script), url)


def _hurried(proxy: Running, *what: str) -> Figures:
    """Send requests with wrk as fast as possible."""
    _output(*CLIENT, "wrk", "-t1", "-c32", "-d1s", *what)
    before, began = proxy.cpu(), time.monotonic()
    said = _output(*CLIENT, "wrk", "-t1", "-c32", "-d2s", *what)
    took = time.monotonic() - began
    count = requests_of(said)
    return {"per_second": count / took, "cpu_us": (proxy.cpu() - before) / count * 1e6}


def requests_of(said: str) -> int:
    """Return how many requests wrk made. Raises ValueError if any failed."""
    found = SMALL.search(said)
    if found is None or "Non-2xx" in said or "Socket errors" in said:
        raise ValueError(said)
    return int(found[1])


def chunks(proxy: Running, work: Path) -> Figures:
    """Measure the CPU of a chunk: 600 streams of 50 records a second."""
    before = proxy.cpu()
    seen = load(proxy.port, work, streams=600, records=200, seconds=4, warmup=0)
    used = proxy.cpu() - before
    if seen["errors"]:
        raise ValueError(seen)
    return {"cpu_us": used / seen["chunks"] * 1e6, "delay_p99": seen["delay_p99"]}


def first(proxy: Running, work: Path) -> Figures:
    """Measure the time to the first record with 64 streams, ms."""
    seen = load(proxy.port, work, streams=64, records=25, seconds=4, warmup=1.5)
    return {name: seen[name] for name in ("first_p50", "first_p99", "delay_p50", "delay_p99")}


def memory(proxy: Running, work: Path) -> Figures:
    """Measure the memory: idle, and with 1,000 open streams, MiB."""
    idle, most = proxy.memory(), 0.0
    with subprocess.Popen(
        [*_load(proxy.port, work, streams=1000, records=20, rate=0.5, seconds=3.0, warmup=0.5)],
        stdout=subprocess.DEVNULL,
    ) as client:
        while client.poll() is None:
            most = max(most, proxy.memory())
            time.sleep(0.1)
    return {"idle": idle, "streams": most}


MEASURES: Final[dict[str, Callable[[Running, Path], Figures]]] = {
    "small": small,
    "asked": asked,
    "chunks": chunks,
    "first": first,
    "memory": memory,
}


def load(
    port: int,
    work: Path,
    *,
    streams: int,
    records: int,
    seconds: float,
    warmup: float,
    rate: float = 50.0,
) -> dict[str, Any]:
    """Run the client and return its figures; times in ms."""
    command = _load(
        port, work, streams=streams, records=records, rate=rate, seconds=seconds, warmup=warmup
    )
    return dict(json.loads(_output(*command)))


def _load(port: int, work: Path, **how: float) -> tuple[str, ...]:
    order = ("streams", "records", "rate", "seconds", "warmup")
    return (*CLIENT, f"{work}/peer", "load", str(port), *(f"{how[name]:g}" for name in order))


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


# -- a scrape meanwhile ----------------------------------------------------------------------------


def scrapes(candidate: Candidate, work: Path, *, server: int) -> dict[str, Figures]:
    """Measure the delay of chunks with and without scrapes of some 3,000 lines, ms."""
    found: dict[str, Figures] = {}
    with running(candidate, work, server=server) as proxy:
        lines = _fill(proxy)
        for name in ("without scrapes", "with scrapes"):
            stop = threading.Event()
            count: list[int] = []
            scraper = threading.Thread(target=_scrape, args=(proxy.metrics, stop, count))
            if name == "with scrapes":
                scraper.start()
            seen = load(proxy.port, work, streams=64, records=100, seconds=4, warmup=1.5)
            stop.set()
            if scraper.ident is not None:
                scraper.join()
            found[name] = {
                "delay_p50": seen["delay_p50"],
                "delay_p99": seen["delay_p99"],
                "delay_max": seen["delay_max"],
                "lines": float(lines),
                "scrapes": float(len(count)),
            }
    return found


def _fill(proxy: Running) -> int:
    """Use many model names until an exposition has 3,000 lines."""
    number = lines = 0
    while lines < 3000 and number < 90:
        number += 1
        body = json.dumps({"model": f"model-{number}", "prompt": "x"}).encode()
        url = f"http://127.0.0.1:{proxy.port}/api/generate?records=3&rate=1000"
        urllib.request.urlopen(urllib.request.Request(url, body), timeout=5).read()
        lines = _exposition(proxy.metrics).count(b"\n")
    return lines


def _exposition(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return bytes(answer.read())


def _scrape(port: int, stop: threading.Event, count: list[int]) -> None:
    while not stop.wait(0.2):
        count.append(len(_exposition(port)))


# -- all of it -------------------------------------------------------------------------------------


def main() -> None:
    """Measure, print the tables, and write the raw figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(MEASURES), default=list(MEASURES))
    parser.add_argument("--rival", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--raw", type=Path, help="write the raw figures here, as JSON")
    arguments = parser.parse_args()
    with stage() as (work, server):
        seen = measure(
            work, server, arguments.only, rounds=arguments.rounds, rivals=arguments.rival
        )
        results: dict[str, Any] = {
            name: {who: summary(figures) for who, figures in everyone.items() if figures}
            for name, everyone in seen.items()
        }
        results["scrape"] = scrapes(next(iter(candidates(work, []))), work, server=server)
    if arguments.raw is not None:
        arguments.raw.write_text(json.dumps(results, indent=1), encoding="utf-8")
    sys.stdout.write(f"{platform.platform()}, Python {platform.python_version()}\n")
    for name, figures in results.items():
        sys.stdout.write(f"\n{name}\n{table(figures)}")
    sys.stdout.write(f"\nin Python\n{transport.table(arguments.rounds)}")


@contextmanager
def stage() -> Iterator[tuple[Path, int]]:
    """Build client and server, run the server; yield a folder and the server's port."""
    os.environ["PYTHONPATH"] = str(HERE.parents[1])
    with tempfile.TemporaryDirectory() as folder:
        work, server = Path(folder), free_port()
        _output("go", "build", "-o", f"{work}/peer", str(HERE / "peer.go"))
        with subprocess.Popen([*CLIENT, f"{work}/peer", "upstream", str(server)]) as upstream:
            try:
                wait_for(lambda: _answers(server), "the server does not answer")
                yield work, server
            finally:
                upstream.terminate()


def measure(
    work: Path, server: int, names: Sequence[str], *, rounds: int, rivals: Sequence[str] = ()
) -> Rounds:
    """Measure every candidate in every round, in random order. Return figures of each round."""
    everyone = list(candidates(work, list(rivals)))
    results: Rounds = {}
    for name in names:
        seen = results[name] = {each.name: [] for each in everyone}
        for number in range(rounds):
            for candidate in random.sample(everyone, len(everyone)):
                say(f"{name}, round {number + 1}: {candidate.name}")
                try:
                    with running(candidate, work, server=server) as proxy:
                        seen[candidate.name].append(MEASURES[name](proxy, work))
                except (ValueError, TimeoutError, subprocess.SubprocessError, OSError) as err:
                    say(f"  failed, left out: {str(err)[:200]}")
    return results


def summary(figures: list[Figures]) -> dict[str, tuple[float, float, float]]:
    """Return median, minimum and maximum of each figure."""
    names = figures[0]
    columns = {name: [each[name] for each in figures] for name in names}
    return {name: (median(seen), min(seen), max(seen)) for name, seen in columns.items()}


def table(figures: dict[str, dict[str, Any]]) -> str:
    """Write figures as a table in Markdown."""
    if not figures:
        return "nothing could be measured\n"
    columns = list(next(iter(figures.values())))
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for who, values in figures.items():
        lines.append(f"| {who} | {' | '.join(_cell(values[name]) for name in columns)} |")
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:  # noqa: ANN401 - a figure, or one with its spread
    if isinstance(value, tuple):
        middle, least, most = value
        return f"{middle:,.4g} ({least:,.4g} to {most:,.4g})"
    return f"{value:,.4g}"


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/ps", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    main()
