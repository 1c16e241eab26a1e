# SPDX-License-Identifier: Apache-2.0
"""Cost of the exporter beside the least that could do: see README.md for the method.

python -m bench.run [--rounds 5] [--write docs/performance.md]
"""

import argparse
import compileall
import http.client
import os
import platform
import socket
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from bench.poll import PollFigures, measure_polls
from bench.stage import MODELS

TICK: Final = os.sysconf("SC_CLK_TCK")
SCRAPES: Final = 300
IDLE: Final = 15.0  # seconds without a scrape, in which there is one poll, before memory is read
HEADERS: Final = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
    "Accept-Encoding": "gzip",
}
GOALS: Final = {"start": 0.5, "memory": 60.0, "scrape": 3.0}


@dataclass(frozen=True, slots=True)
class Contender:
    """A program that polls and serves `/metrics`, and the line that says a model is loaded."""

    name: str
    command: list[str]
    environment: dict[str, str]
    loaded: bytes
    port: int


@dataclass(frozen=True, slots=True)
class Figures:
    """One round. Seconds, seconds of CPU, MiB, milliseconds of CPU, % of a core, bytes."""

    start: float
    start_cpu: float
    memory: float
    scrape: float
    idle: float
    size: int


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def stage(*options: str) -> Iterator[str]:
    """Run the simulated server in a process of its own; yield its URL."""
    command = [sys.executable, "-m", "bench.stage", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        assert url, "the simulated server did not come up"
        try:
            yield url
        finally:
            process.stdin.close()
            process.wait(10)


def contenders(url: str) -> list[Contender]:
    ours, bare = free_port(), free_port()
    python = sys.executable
    return [
        Contender(
            "ollama_exporter",
            [python, "-m", "ollama_exporter", "serve", f"--web.listen-address=127.0.0.1:{ours}"],
            {"OLLAMA_HOST": url},
            b"ollama_model_loaded{",
            ours,
        ),
        Contender(
            "bare",
            [python, "-m", "bench.bare", url, str(bare)],
            {},
            b"bare_model_loaded{",
            bare,
        ),
    ]


def body_of(port: int) -> bytes:
    """Scrape once, as text, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == http.HTTPStatus.TEMPORARY_REDIRECT:
            connection.request("GET", "/metrics/")
            body = connection.getresponse().read()
        return body
    finally:
        connection.close()


def complete(contender: Contender) -> bool:
    try:
        lines = body_of(contender.port).splitlines()
    except OSError:
        return False
    return sum(x.startswith(contender.loaded) and x.endswith(b" 1.0") for x in lines) == len(MODELS)


def cpu_ms(pid: int) -> float:
    """CPU that the process used so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / TICK


def scheduled(pid: int) -> float:
    """Return the CPU that the threads of a process used so far, seconds, by the scheduler."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text(encoding="ascii").split()[0]) for thread in threads) / 1e9


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(x for x in status.splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def scrape_many(port: int, times: int) -> int:
    """Scrape as Prometheus does: one connection, OpenMetrics, gzip. Return bytes of the last."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    path = "/metrics"
    size = 0
    for _ in range(times):
        connection.request("GET", path, headers=HEADERS)
        answer = connection.getresponse()
        size = len(answer.read())
        if answer.status == http.HTTPStatus.TEMPORARY_REDIRECT:
            path = "/metrics/"
    connection.close()
    return size


def compiled() -> dict[str, str]:
    """Return an environment in which Python uses the compiled modules, as an installed package."""
    for folder in ("ollama_exporter", "bench"):
        compileall.compile_dir(folder, quiet=2)
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def measure(contender: Contender) -> Figures:
    started = time.perf_counter()
    with subprocess.Popen(
        contender.command, env=compiled() | contender.environment, stderr=subprocess.DEVNULL
    ) as process:
        try:
            while not complete(contender):
                assert process.poll() is None, f"{contender.name} ended: {contender.command}"
                assert time.perf_counter() < started + 30, f"{contender.name} shows no models"
                time.sleep(0.005)
            start, start_cpu = time.perf_counter() - started, scheduled(process.pid)
            scrape_many(contender.port, 20)  # warm
            before = cpu_ms(process.pid)
            size = scrape_many(contender.port, SCRAPES)
            scrape = (cpu_ms(process.pid) - before) / SCRAPES
            idle, began = scheduled(process.pid), time.perf_counter()
            time.sleep(IDLE)
            idle = (scheduled(process.pid) - idle) / (time.perf_counter() - began) * 100
            return Figures(start, start_cpu, resident_mib(process.pid), scrape, idle, size)
        finally:
            process.terminate()
            process.wait(10)


def spread(values: list[float], digits: int) -> str:
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def machine() -> str:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    packages = ("prometheus-client", "httpx", "starlette", "uvicorn", "msgspec")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    return f"{os.cpu_count()} x {cpu}, Python {platform.python_version()}, {versions}"


def report(rounds: dict[str, list[Figures]], polls: list[PollFigures]) -> str:
    ours, bare = rounds["ollama_exporter"], rounds["bare"]
    rows = [
        ("start to first complete scrape, s", "start", 2, f"< {GOALS['start']}"),
        ("likewise, CPU, s", "start_cpu", 2, ""),
        ("resident memory, idle, MiB", "memory", 1, f"< {GOALS['memory']:.0f}"),
        ("CPU of one scrape, ms", "scrape", 2, f"< {GOALS['scrape']:.0f}"),
        ("idle, % of a core", "idle", 3, "< 0.25"),
        ("size of one scrape, gzip, bytes", "size", 0, ""),
    ]
    lines = [
        "| five resident models | ollama_exporter | bare | ratio | to reach |",
        "|---|---|---|---|---|",
    ]
    for title, name, digits, goal in rows:
        mine = [float(getattr(x, name)) for x in ours]
        theirs = [float(getattr(x, name)) for x in bare]
        lines.append(row(title, mine, theirs, digits, goal))
    mine, theirs = [x.ours for x in polls], [x.bare for x in polls]
    lines.append(row("CPU of one poll, ms", mine, theirs, 2, ""))
    return "\n".join(lines)


def row(title: str, mine: list[float], theirs: list[float], digits: int, goal: str) -> str:
    ratio = statistics.median(mine) / statistics.median(theirs)
    cells = [title, spread(mine, digits), spread(theirs, digits), f"{ratio:.2f}", goal]
    return f"| {' | '.join(cells)} |"


def measure_rounds(count: int) -> tuple[dict[str, list[Figures]], list[PollFigures]]:
    rounds: dict[str, list[Figures]] = {}
    polls: list[PollFigures] = []
    with stage() as url:
        for number in range(count):
            for contender in contenders(url):
                print(f"round {number + 1}: {contender.name}", file=sys.stderr, flush=True)
                rounds.setdefault(contender.name, []).append(measure(contender))
            polls.append(measure_polls(url))
    return rounds, polls


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of the exporter beside the least.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path, help="put the table between the marks of this page")
    options = parser.parse_args()
    rounds, polls = measure_rounds(options.rounds)
    what = textwrap.fill(f"Median (least to most) of {options.rounds} rounds. {machine()}.", 120)
    text = f"{report(rounds, polls)}\n\n{what}\n"
    print(text)
    if options.write is not None:
        write_between(options.write, "figures", text)


def write_between(file: Path, name: str, text: str) -> None:
    """Replace what stands between two marks of a page."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    page = file.read_text(encoding="utf-8")
    assert begin in page, f"{file} has no {begin}"
    head, _, rest = page.partition(begin)
    file.write_text(f"{head}{begin}{text}{end}{rest.partition(end)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
