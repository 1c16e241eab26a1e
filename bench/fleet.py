# SPDX-License-Identifier: Apache-2.0
"""What one exporter of 10, 100, 1,000 and 3,000 servers costs, beside the least that could do it.

`python -m bench.fleet` prints a table; `--write docs/performance.md` writes it into that page.
bench/README.md describes the method.
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.fleet_stage import address_of

COUNTS: Final = (10, 100, 1000, 3000)
INTERVAL: Final = 15.0
WINDOW: Final = 30.0  # seconds of each measurement
HANGING: Final = 1000
CONNECTIONS: Final = 8  # of the scraper, as Prometheus keeps some
HEAD: Final = (
    "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0\r\n"
    "Accept-Encoding: gzip\r\n\r\n"
)
MARKS: Final = "<!-- fleet -->", "<!-- end of fleet -->"
DELAY: Final = re.compile(
    r'^ollama_exporter_poll_delay_seconds_bucket\{le="([^"]+)"\} (\S+)$', re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one number of targets. CPU in milliseconds, memory in MiB, times in seconds."""

    count: int
    start: float
    poll: float
    bare_poll: float
    scrape: float
    bare_scrape: float
    memory: float
    bare_memory: float
    late: str


def cpu_of(pid: int) -> float:
    """Return the CPU time of all threads of a process, seconds, as the scheduler counts it."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text(encoding="ascii").split()[0]) for file in files) / 1e9


def memory_of(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        try:
            yield running
        finally:
            running.terminate()
            running.communicate()


def said(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    return running.stdout.readline().strip()


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        text: str = answer.read().decode()
    return text


def free_port() -> int:
    import socket  # noqa: PLC0415 - here alone

    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def exporter(here: Path, targets: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    folder = here / "targets"
    folder.mkdir(exist_ok=True)
    (folder / "all.json").write_text(json.dumps(targets), encoding="utf-8")
    port = free_port()
    with process(
        "ollama_exporter",
        f"--targets-dir={folder}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ) as running:
        yield running, port


def until_polled(port: int, count: int, *, since: float) -> float:
    """Return the seconds since a moment until so many polls have begun."""
    while True:
        try:
            if delays(port).get("+Inf", 0.0) >= count:
                return time.monotonic() - since
        except OSError:
            pass
        assert time.monotonic() - since < 300, "they are never all polled"
        time.sleep(0.1)


def delays(port: int) -> dict[str, float]:
    return {le: float(count) for le, count in DELAY.findall(get(port, "/metrics"))}


def late(before: dict[str, float], after: dict[str, float]) -> tuple[float, str]:
    """Return how many polls began, and the bound below which 99 % of them began late."""
    counts = {le: after[le] - before.get(le, 0.0) for le in after}
    total = counts["+Inf"]
    bound = next(le for le, count in counts.items() if count >= 0.99 * total)
    return total, bound


async def scrape(port: int, paths: list[str], seconds: float) -> int:
    """Ask for the paths in turn, evenly spread, for some seconds; return how often."""
    done, gap, begun = 0, seconds / len(paths), time.monotonic()
    queue = asyncio.Queue[tuple[float, str]]()
    for number, path in enumerate(paths):
        queue.put_nowait((begun + gap * number, path))

    async def work() -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        while not queue.empty():
            due, path = queue.get_nowait()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            writer.write(HEAD.format(path=path).encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            if found is not None:
                await reader.readexactly(int(found[1]))
            else:
                await reader.readuntil(b"\r\n0\r\n\r\n")
            done += 1
        writer.close()

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return done


def idle_cpu(here: Path) -> float:
    """Return the CPU of an exporter without targets, seconds each second."""
    with exporter(here, {}) as (running, port):
        until_polled(port, 0, since=time.monotonic())
        time.sleep(2)
        before = cpu_of(running.pid)
        time.sleep(10)
        return (cpu_of(running.pid) - before) / 10


def bare_polling(port: int, count: int) -> tuple[float, float]:
    """Return CPU of a poll, ms, and memory, MiB."""
    with process("bench.fleet_bare", "poll", str(port), str(count)) as running:
        assert said(running) == "polled"
        time.sleep(2)
        before = cpu_of(running.pid)
        time.sleep(WINDOW)
        polls = count * WINDOW / INTERVAL
        return (cpu_of(running.pid) - before) / polls * 1e3, memory_of(running.pid)


def bare_scraping(here: Path, text: str, times: int) -> float:
    """Return the CPU of a scrape, ms, of the same families by prometheus_client."""
    file = here / "exposition.txt"
    file.write_text(text, encoding="utf-8")
    with process("bench.fleet_bare", "render", str(file)) as running:
        port = int(said(running))
        asyncio.run(scrape(port, ["/metrics"] * 20, 1.0))
        before = cpu_of(running.pid)
        asyncio.run(scrape(port, ["/metrics"] * times, WINDOW / 3))
        return (cpu_of(running.pid) - before) / times * 1e3


def measure(here: Path, port: int, count: int, idle: float) -> Figures:
    targets = {f"t{number}": f"http://{address_of(number)}:{port}" for number in range(count)}
    since = time.monotonic()
    with exporter(here, targets) as (running, web):
        start = until_polled(web, count, since=since)
        asyncio.run(scrape(web, [f"/probe?target={name}" for name in targets], INTERVAL))
        time.sleep(2)
        first, cpu, at = delays(web), cpu_of(running.pid), time.monotonic()
        time.sleep(WINDOW)
        took = time.monotonic() - at
        used = cpu_of(running.pid) - cpu - idle * took
        polls, _ = late(first, delays(web))
        poll = used / polls
        first, cpu, at = delays(web), cpu_of(running.pid), time.monotonic()
        paths = [f"/probe?target={name}" for name in targets] * round(WINDOW / INTERVAL)
        times = asyncio.run(scrape(web, paths, WINDOW))
        took = time.monotonic() - at
        used = cpu_of(running.pid) - cpu - idle * took
        polls, bound = late(first, delays(web))
        scraped = (used - polls * poll) / times
        memory, text = memory_of(running.pid), get(web, "/probe?target=t0")
    bare_poll, bare_memory = bare_polling(port, count)
    bare_scrape = bare_scraping(here, text, max(300, min(1000, count)))
    return Figures(
        count, start, poll * 1e3, bare_poll, scraped * 1e3, bare_scrape, memory, bare_memory, bound
    )


def hanging(here: Path, port: int) -> str:
    """Return what a thousand servers that never answer cost."""
    targets = {
        f"t{number}": f"http://{address_of(number, hanging=True)}:{port}"
        for number in range(HANGING)
    }
    with exporter(here, targets) as (running, web):
        until_polled(web, 0, since=time.monotonic())
        time.sleep(30)
        early, slowest = memory_of(running.pid), 0.0
        for number in range(300):
            begun = time.monotonic()
            get(web, "/metrics" if number % 3 == 0 else f"/probe?target=t{number}")
            slowest = max(slowest, time.monotonic() - begun)
            time.sleep(0.2)
        return (
            f"{HANGING} servers that never answer: {early:.0f} MiB after half a minute, "
            f"{memory_of(running.pid):.0f} MiB a minute later. The slowest of 300 scrapes of the "
            f"exporter and its targets meanwhile took {slowest:.2f} s."
        )


def table(figures: list[Figures]) -> str:
    head = (
        "| servers | start to all polled, s | CPU of a poll, ms | of a scraped target, ms "
        "| memory, MiB | late polls, s |\n|---|---|---|---|---|---|\n"
    )
    return head + "".join(
        f"| {x.count:,} | {x.start:.1f} | {x.poll:.2f} ({x.bare_poll:.2f}) "
        f"| {x.scrape:.2f} ({x.bare_scrape:.2f}) | {x.memory:.0f} ({x.bare_memory:.0f}) "
        f"| {x.late} |\n"
        for x in figures
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)), help="numbers of servers")
    parser.add_argument("--write", metavar="PAGE", type=Path, help="page that holds the table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, process("bench.fleet_stage") as stage:
        here, port = Path(folder), int(said(stage))
        idle = idle_cpu(here)
        figures = []
        for count in map(int, arguments.counts.split(",")):
            figures.append(measure(here, port, count, idle))
            print(figures[-1], flush=True)
        text = f"{table(figures)}\n{hanging(here, port)}\n"
    print(text)
    if arguments.write is not None:
        page = arguments.write.read_text(encoding="utf-8")
        before, _, rest = page.partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
        arguments.write.write_text(f"{before}{MARKS[0]}\n{text}{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
