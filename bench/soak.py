# SPDX-License-Identifier: Apache-2.0
"""Shows what grows when the exporter runs for long under ten times the load of a busy host.

python -m bench.soak [--minutes 60] [--write docs/performance.md]; README.md describes the load.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.proxy.candidates import accepts, wait_for
from bench.run import free_port, machine, resident_mib, scheduled, write_between
from bench.soak_stage import NAMES
from ollama_exporter.actions.keep_warm.saved_history import SavedKeepWarm
from ollama_exporter.actions.load_options import MAX_MODELS
from ollama_exporter.actions.saved_actions import SavedActions
from ollama_exporter.actions.saved_options import RequestedOptions, SavedOptions, ServedOptions
from ollama_exporter.residency.saved_state import Saved
from ollama_exporter.state_file import SavedState, StateFile
from ollama_exporter.story.history import MOST_EVENTS, MOST_MINUTES, MOST_REQUESTS, MOST_STAYS
from ollama_exporter.story.past import Past, PastEvent, PastRequest, RequestMinute, SavedPast, Stay

CLIENTS: Final = 40  # at work at the same time
LEAVING: Final = 0.2  # of the requests: the client goes away amid the answer
STRANGE: Final = 0.05  # of the requests: a name that no other request has
SCRAPE: Final = 1.0  # seconds between two scrapes
RELOAD: Final = 10.0  # seconds between two reloads
SAMPLE: Final = 15.0  # seconds between two looks
WARM: Final = 0.2  # of the time, in which caches and label sets may fill
PATIENCE: Final = 20.0


@dataclass(frozen=True, slots=True)
class Look:
    """What one look shows. Memory in MiB, CPU in seconds so far."""

    at: float
    memory: float
    descriptors: int
    threads: int
    tasks: int
    objects: int
    blocks: int
    cpu: float


@dataclass(slots=True)
class Soak:
    """What has been done and seen so far."""

    port: int
    metrics: int
    pid: int
    done: Counter[str] = field(default_factory=Counter)
    looks: list[Look] = field(default_factory=list)


async def client(soak: Soak) -> None:
    """Ask, read the answer or leave, and ask again."""
    while True:
        try:
            async with asyncio.timeout(PATIENCE):
                await _visit(soak)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, AssertionError) as err:
            soak.done[f"failed: {type(err).__name__}"] += 1
            await asyncio.sleep(0.5)


async def _visit(soak: Soak) -> None:
    """Use one connection for some requests."""
    reader, writer = await asyncio.open_connection("127.0.0.1", soak.port)
    try:
        for _ in range(random.randint(1, 5)):
            model = random.choice(NAMES)
            if random.random() < STRANGE:
                model = f"strange-{random.getrandbits(48):x}"
            body = json.dumps({"model": model, "prompt": "why " * random.randint(1, 200)}).encode()
            writer.write(
                b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            if random.random() < LEAVING:
                await reader.readuntil(b"\r\n")
                await asyncio.sleep(random.random())
                soak.done["left"] += 1
                return
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await reader.readexactly(size + 2)
            await reader.readexactly(2)
            soak.done["answered"] += 1
    finally:
        writer.transport.abort()


async def scraper(soak: Soak) -> None:
    """Scrape on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", soak.metrics)
    while True:
        writer.write(
            b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n"
            b"Accept: application/openmetrics-text;version=1.0.0\r\n\r\n"
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        await reader.readexactly(length)
        soak.done["scrapes"] += 1
        await asyncio.sleep(SCRAPE)


async def reloader(soak: Soak, file: Path) -> None:
    """Change the configuration and have it read again."""
    while True:
        await asyncio.sleep(RELOAD)
        soak.done["reloads"] += 1
        configure(file, soak.done["reloads"])
        os.kill(soak.pid, signal.SIGHUP)


def configure(file: Path, number: int) -> None:
    """Write the configuration, another one each time."""
    lines = f"expected-model: [{NAMES[number % len(NAMES)]}]\npoll.interval: {5 + number % 3}s\n"
    file.write_text(lines, encoding="utf-8")


def fill(file: Path, url: str, now: float) -> None:
    """Write a state whose stores are full, as after a busy day: what grows from here on leaks."""
    name = f"strange-{1:012x}"
    events = [
        PastEvent(
            id=number,
            kind="unloaded",
            at=now - 1.0,
            low=now - 6.0,
            text=f"evicted by {NAMES[number % len(NAMES)]}",
            model=NAMES[number % len(NAMES)],
            reason="evicted",
            by=NAMES[(number + 1) % len(NAMES)],
            evidence=("another model came into memory between the same two polls",),
            since=now - 11.0,
            early=290.0,
            settled=now - 0.5,
            sure=0.957,
        )
        for number in range(MOST_EVENTS)
    ]
    stays = [
        Stay(
            id=MOST_EVENTS + number,
            model=NAMES[number % len(NAMES)],
            start=now - 11.0,
            end=now - 1.0,
            low=now - 16.0,
            end_low=now - 6.0,
            why=f"evicted by {NAMES[(number + 1) % len(NAMES)]}",
            event=number,
        )
        for number in range(MOST_STAYS)
    ]
    requests = [
        PastRequest(
            id=2 * MOST_EVENTS + number,
            model=name,
            at=now - 1.0,
            took=0.9,
            start="warm",
            outcome="answered",
            parts=(("prompt", 0.09), ("answer", 0.8), ("other", 0.01)),
        )
        for number in range(MOST_REQUESTS)
    ]
    minutes = [
        RequestMinute(id=3 * MOST_EVENTS + number, model=name, at=now - 60.0, warm=20, failed=4)
        for number in range(MOST_MINUTES)
    ]
    kinds = (tuple(events), tuple(stays), tuple(requests), tuple(minutes))
    past = Past(events=kinds[0], stays=kinds[1], requests=kinds[2], minutes=kinds[3])
    names, options = [f"strange-{number:012x}" for number in range(MAX_MODELS)], RequestedOptions()
    remembered = SavedOptions(
        dict.fromkeys(names, options), dict.fromkeys(names, ServedOptions(now, options))
    )
    actions = SavedActions(SavedKeepWarm(), remembered)
    state = SavedState(Saved(None, (), ()), {}, actions, SavedPast(at=now, past=past))
    StateFile(file, url=url).write(state)


def look_at(pid: int, counted: Path, at: float) -> Look:
    """Return what one look shows."""
    tasks, objects, blocks = 0, 0, 0
    if counted.exists() and (text := counted.read_text(encoding="ascii").split()):
        tasks, objects, blocks = map(int, text)
    proc = Path(f"/proc/{pid}")
    descriptors, threads = (len(list((proc / name).iterdir())) for name in ("fd", "task"))
    cpu = scheduled(pid)
    return Look(at, resident_mib(pid), descriptors, threads, tasks, objects, blocks, cpu)


async def watcher(soak: Soak, counted: Path, began: float) -> None:
    """Look now and then."""
    while True:
        await asyncio.sleep(SAMPLE)
        soak.looks.append(look_at(soak.pid, counted, time.monotonic() - began))
        look = soak.looks[-1]
        print(
            f"{look.at / 60:.1f} min: {look.memory:.1f} MiB, {look.descriptors} descriptors, "
            f"{look.threads} threads, {look.tasks} tasks, {look.objects} objects, "
            f"{look.blocks} blocks; "
            f"{dict(soak.done)}",
            file=sys.stderr,
            flush=True,
        )


async def run(soak: Soak, minutes: float, file: Path, counted: Path) -> None:
    """Do all of it for some minutes."""
    began = time.monotonic()
    tasks = [asyncio.create_task(client(soak)) for _ in range(CLIENTS)]
    tasks.append(asyncio.create_task(scraper(soak)))
    tasks.append(asyncio.create_task(reloader(soak, file)))
    tasks.append(asyncio.create_task(watcher(soak, counted, began)))
    done, _ = await asyncio.wait(tasks, timeout=minutes * 60, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for task in done:
        task.result()  # none of them ends by itself
    await asyncio.gather(*tasks, return_exceptions=True)


def growth(looks: Sequence[Look], name: str) -> tuple[float, float, float]:
    """Return the median of the first and last third after the warm-up, and growth per hour."""
    chosen = looks[int(WARM * len(looks)) :]
    values = [float(getattr(look, name)) for look in chosen]
    third = max(1, len(values) // 3)
    slope = statistics.linear_regression([look.at / 3600 for look in chosen], values).slope
    return statistics.median(values[:third]), statistics.median(values[-third:]), slope


def report(soak: Soak, minutes: float) -> str:
    """Return table and text."""
    lines = ["| | early | late | slope per hour |", "|---|---|---|---|"]
    for title, name, digits in (
        ("memory, MiB", "memory", 1),
        ("descriptors", "descriptors", 0),
        ("threads", "threads", 0),
        ("tasks", "tasks", 0),
        ("objects of the garbage collector", "objects", 0),
        ("blocks of Python's allocator", "blocks", 0),
    ):
        early, late, slope = growth(soak.looks, name)
        lines.append(f"| {title} | {early:,.{digits}f} | {late:,.{digits}f} | {slope:+,.1f} |")
    done, cpu = soak.done, soak.looks[-1].cpu / soak.looks[-1].at * 100
    failed = sum(count for what, count in done.items() if what.startswith("failed"))
    text = (
        f"{minutes:g} minutes of {CLIENTS} clients: {done['answered']:,} streams read to their "
        f"end, {done['left']:,} left amid the answer, {failed:,} failed, {done['scrapes']:,} "
        f"scrapes, {done['reloads']:,} reloads, another model in memory each second. {cpu:.0f} % "
        f"of a core. Early and late: medians of the first and last third of the time, without its "
        f"first fifth. {machine()}."
    )
    return "\n".join(lines) + f"\n\n{textwrap.fill(text, 120)}\n"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--write", type=Path, help="put the table between the marks of this page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        file, counted = here / "config.yml", here / "tasks"
        configure(file, 0)
        with subprocess.Popen(
            [sys.executable, "-m", "bench.soak_stage"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as stage:
            assert stage.stdout is not None
            server, port, metrics = stage.stdout.readline().strip(), free_port(), free_port()
            fill(here / "state", f"http://127.0.0.1:{server}", time.time())
            with subprocess.Popen(
                [
                    *(sys.executable, "-m", "bench.soak_exporter", str(counted)),
                    f"--ollama.url=http://127.0.0.1:{server}",
                    f"--web.listen-address=127.0.0.1:{metrics}",
                    f"--proxy.listen-address=127.0.0.1:{port}",
                    f"--config.file={file}",
                    f"--state.file={here / 'state'}",
                    "--log.level=error",
                ]
            ) as exporter:
                soak = Soak(port, metrics, exporter.pid)
                try:
                    wait_for(lambda: accepts(port) and accepts(metrics), "nothing listens")
                    asyncio.run(run(soak, options.minutes, file, counted))
                finally:
                    exporter.terminate()
                    exporter.wait(60)
                    stage.communicate()
    text = report(soak, options.minutes)
    print(text)
    if options.write is not None:
        write_between(options.write, "soak", text)


if __name__ == "__main__":
    main()
