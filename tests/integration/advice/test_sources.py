# SPDX-License-Identifier: Apache-2.0
"""One history, three ways to it: a running exporter, its text, a real Prometheus."""

import asyncio
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from msgspec import structs

from ollama_exporter.advice.exporter_source import from_exporter, from_text
from ollama_exporter.advice.idle_histogram import IdleHistogram
from ollama_exporter.advice.prometheus_source import HistoryQuery, from_prometheus
from ollama_exporter.advice.report import Report, report
from ollama_exporter.advice.saved_usage import SavedUsage
from ollama_exporter.bounded_client import BoundedClient
from ollama_exporter.residency.facts import Snapshot
from ollama_exporter.residency.saved_state import Saved
from ollama_exporter.simulator.simulator import Simulator
from ollama_exporter.state_file import SavedState, StateFile
from tests.support.exporting import exporting
from tests.support.histories import Use, exposition
from tests.support.programs import program
from tests.support.prometheus import prometheus, scraping

DAY: Final = 86400.0
STEP: Final = 300.0
BUSY: Final = [90.0] * 60 + [700.0] * 60 + [9000.0] * 14
INSTALLED: Final = "ollama_model_disk_bytes", "model=mistral:latest"
RARE: Final = [6500.0] * 30


def test_a_running_exporter_and_its_text_say_the_same_and_outlive_a_restart(
    tmp_path: Path,
) -> None:
    asyncio.run(_exporter_and_text(tmp_path))


async def _exporter_and_text(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    async with Simulator() as sim:
        file = StateFile(state, url=sim.url)
        now = time.time()
        habits = {
            "mistral:latest": SavedUsage(IdleHistogram.of(BUSY), 0.0, 30.0, 5, 6_000_000_000),
            "llama3.2:latest": SavedUsage(IdleHistogram.of(RARE), 30.0, 0.0, 0, 3_000_000_000),
        }
        file.write(SavedState(Saved(Snapshot(now - 1, now - 1, ()), (), ()), habits))
        for _ in range(2):  # the second one takes up what the first one wrote
            async with exporting(sim.url, state_file=state) as exporter:
                samples = await exporter.until(lambda found: INSTALLED in found)
                text = (await exporter.http.get("/metrics")).text
                url = f"http://{exporter.address}"
                asked = report(await asyncio.to_thread(from_exporter, BoundedClient(), url))
            read = report(from_text(text, source=asked.history.source, now=time.time()))
            assert asked.findings == read.findings
            assert [f.model for f in read.findings] == ["llama3.2:latest", "mistral:latest"]
            for f in read.findings:
                told = samples["ollama_model_advised_keep_alive_seconds", f"model={f.model}"]
                assert f.advice.keep_alive == told
                assert f.advice.samples == len(BUSY if f.model == "mistral:latest" else RARE)
            llama, mistral = read.findings
            assert (mistral.advice.keep_alive, llama.advice.keep_alive) == (900.0, 15.0)
            assert (mistral.inputs.load_seconds, llama.record.seen) == (6.0, False)


def moments(hosts: dict[str, dict[str, Use]], *, days: float, now: float) -> Iterator[str]:
    """Write the OpenMetrics of days: each gap is counted when it ends, the exporters restart once.

    A quarter of a day in the middle was not scraped.
    """
    steps = int(days * DAY / STEP)
    written: dict[tuple[object, ...], list[str]] = {}
    for step in range(steps + 1):
        at = now - days * DAY + step * STEP
        if 0.5 < step / steps < 0.5 + 0.25 / days:
            continue
        restarted = step > 0.7 * steps
        for host, uses in hosts.items():
            part = {
                model: replace(use, gaps=_until(use.gaps, step / steps, since=0.7 * restarted))
                for model, use in uses.items()
            }
            key = host, *(len(use.gaps) for use in part.values()), restarted
            if key not in written:  # most scrapes find nothing new
                written[key] = exposition(part).splitlines()
            for line in written[key]:
                if line.startswith("ollama_"):
                    series, _, value = line.rpartition(" ")
                    name, _, labels = series.removesuffix("}").partition("{")
                    more = f",{labels}" if labels else ""
                    yield f'{name}{{instance="{host}"{more}}} {value} {at:.0f}'


def _until(gaps: Sequence[float], share: float, *, since: float) -> list[float]:
    """Return the gaps counted by then, since the last restart."""
    return list(gaps[round(len(gaps) * since) : round(len(gaps) * share)])


def backfill(folder: Path, lines: Iterator[str]) -> None:
    """Put samples into a Prometheus' store."""
    by_name: dict[str, list[str]] = {}
    for line in lines:
        by_name.setdefault(line.partition("{")[0], []).append(line)
    source = folder / "history.om"
    with source.open("w", encoding="utf-8") as file:
        for name in sorted(by_name):
            by_series = sorted(by_name[name], key=lambda line: line.rpartition("}")[0])
            file.write("\n".join(by_series) + "\n")
        file.write("# EOF\n")
    command = [program("promtool"), "tsdb", "create-blocks-from", "openmetrics"]
    subprocess.run([*command, source, folder / "tsdb"], check=True, capture_output=True)


def close(one: Report, other: Report) -> None:
    """Hold two reports against each other: the same advice, the same numbers within rounding."""
    assert [f.model for f in one.findings] == [f.model for f in other.findings]
    for a, b in zip(one.findings, other.findings, strict=True):
        assert a.advice.keep_alive == b.advice.keep_alive
        assert a.advice.samples == pytest.approx(b.advice.samples, rel=0.03, abs=1)
        assert a.now.cold_starts == pytest.approx(b.now.cold_starts, rel=0.03)
        assert a.then.idle_gb_hours == pytest.approx(b.then.idle_gb_hours, rel=0.03)
        assert a.inputs.load_seconds == pytest.approx(b.inputs.load_seconds)
        assert a.inputs.memory_bytes == pytest.approx(b.inputs.memory_bytes)


def test_prometheus_says_what_the_exporter_said_resets_and_holes_notwithstanding(
    tmp_path: Path,
) -> None:
    asyncio.run(_prometheus_and_text(tmp_path))


async def _prometheus_and_text(tmp_path: Path) -> None:
    mixed = [gap for three in zip(BUSY[:60], BUSY[60:120], strict=True) for gap in three]
    uses = {
        "mistral:latest": Use(mixed + BUSY[120:] * 2, requests=200),
        "llama3.2:latest": Use(RARE * 2, memory=3e9, keep_alive=600.0),
        "old-name:latest": Use(RARE, installed=False),
    }
    hosts = {"gpu-a:11487": uses, "gpu-b:11487": {"mistral:latest": uses["mistral:latest"]}}
    now = time.time()
    await asyncio.to_thread(backfill, tmp_path, moments(hosts, days=3.0, now=now))
    async with prometheus(tmp_path, scraping({})) as prom:
        apart = report(
            await asyncio.to_thread(
                from_prometheus, BoundedClient(), prom.url, HistoryQuery(14 * DAY, "instance")
            )
        )
        summed = report(
            await asyncio.to_thread(
                from_prometheus, BoundedClient(), prom.url, HistoryQuery(14 * DAY)
            )
        )
        short = await asyncio.to_thread(
            from_prometheus, BoundedClient(), prom.url, HistoryQuery(DAY)
        )
    text = report(from_text(exposition(uses), source="text", now=now))
    first = structs.replace(
        apart, findings=tuple(f for f in apart.findings if f.record.group[4] == "a")
    )
    close(first, text)
    both = next(f for f in summed.findings if f.model == "mistral:latest")
    one = next(f for f in text.findings if f.model == "mistral:latest")
    assert both.advice.keep_alive == one.advice.keep_alive
    assert both.advice.samples == pytest.approx(2 * one.advice.samples, rel=0.03)
    said = " ".join(summed.warnings)
    assert "2 hosts are taken together" in said
    assert "covers only 3.0 days" in said
    assert re.search(r"[6-9] % of that time has no samples", said)
    assert "old-name:latest is no longer installed" in said
    assert [group for group, _ in apart.verdicts] == ["gpu-a:11487", "gpu-b:11487"]
    assert "hosts are taken together" not in " ".join(apart.warnings)
    day = {record.model: record.gaps.samples for record in short.records}
    assert day["llama3.2:latest"] == pytest.approx(20, abs=2)
