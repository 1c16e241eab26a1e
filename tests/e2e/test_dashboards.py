# SPDX-License-Identifier: Apache-2.0
"""Every shipped query, asked of a real Prometheus that watched the real exporter."""

import asyncio
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from ollama_exporter.actions.defaults.defaults_section import Rule
from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm, WarmModel
from ollama_exporter.config.schema import Settings
from ollama_exporter.runtime import run
from ollama_exporter.simulator.run_script import play
from ollama_exporter.simulator.script import Ask, Script
from ollama_exporter.simulator.simulator import Config, Simulator
from tests.support.eventful import EXPECTED, SCRIPT
from tests.support.exporting import same_logger
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.prometheus import Prometheus, prometheus, quick_rules, scraping
from tests.support.queries import Query, filled, of_dashboard, of_page, of_rules

DASHBOARDS: Final = sorted(ROOT.glob("dashboards/grafana/*.json"))
RULES: Final = sorted(ROOT.glob("dashboards/rules/*.yaml"))
PAGES: Final = sorted(ROOT.glob("docs/**/*.md"))
POLL: Final = 0.6  # seconds; models come and go within two
STEP: Final = 1.0  # seconds between scrapes, and between the points of a graph
# The simulator writes no log: these lines of a server stand for it.
LOG: Final = [
    f'time=2026-11-25T22:05:00.000Z level={level} source=sched.go:1 msg="a line"\n'
    for level in ("INFO", "WARN", "ERROR")
]
SETTLING: Final = 2.0  # seconds: two scrapes, whose rules are evaluated by then
ROUNDS: Final = 8  # of further requests, for queries that a machine under load left without data
# Under load, looks at runners and scrapes are late: what came too rarely for a rate comes now.
MORE: Final = Script(
    "more",
    tuple(Ask(0.8 * turn, "llama3.2", 20, keep_alive="1m") for turn in range(5)),
    4.5,
    SCRIPT.host,
    SCRIPT.catalogue,
)
VALUES: Final = {
    "job": ".+",
    "instance": ".+",
    "model": ".+",
    "__rate_interval": "30s",
    "__interval": "2s",
}
# Where no data is right in this scenario, each with its reason: part of the query's name -> reason.
EMPTY: Final[dict[str, str]] = {
    "Model: Token throughput of requests C": "the simulator has no prompt cache",
    "Keep-alive set by the autopilot A": "it decides once a minute, and this is shorter",
    "Requests changed by the proxy B": "likewise",
    "Overview: Loaded models and their keep-alive E": "advice needs 20 idle gaps",
    "Model: Current and advised keep-alive B": "likewise",
    "speed: Current and advised keep-alive D": "likewise",
}


def queries() -> Iterator[Query]:
    for file in DASHBOARDS:
        yield from of_dashboard(file)
    for file in RULES:
        yield from of_rules(file)
    for file in PAGES:
        yield from of_page(file)


async def watched(tmp_path: Path) -> list[str]:
    """Play the scenario before an exporter that a Prometheus scrapes; then ask everything."""
    stop, port, proxy = asyncio.Event(), free_port(), free_port()
    log = tmp_path / "server.log"
    log.touch()
    # On Linux alone there are processes to be seen, and there alone this runs.
    host = replace(SCRIPT.host, endpoint_metrics=True)
    config = Config(host=host, catalogue=SCRIPT.catalogue, processes=True)
    async with Simulator(config) as sim:
        settings = Settings(
            ollama_url=sim.url,
            listen_addresses=(f"127.0.0.1:{port}",),
            proxy_addresses=(f"127.0.0.1:{proxy}",),
            proxy_client_by="user-agent",
            poll_interval=POLL,
            expected_models=EXPECTED,
            ollama_log=str(log),
            keep_warm=KeepWarm((WarmModel("absent-model:latest"),)),
            defaults=(Rule("gemma2*", keep_alive=600.0),),
        )
        few = {"vector(5)": "vector(1)"}  # one load of a day makes a mean
        rules = quick_rules(RULES, tmp_path, few)
        jobs = {"ollama": [f"127.0.0.1:{port}"], "another": [f"127.0.0.1:{free_port()}"]}
        scrape = scraping(jobs, rules=rules, interval="1s")
        with same_logger():
            exporter = asyncio.create_task(run(settings, stop=stop))
            async with prometheus(tmp_path, scrape) as prom:
                await prom.until("ollama_up == 1")
                begun = time.time()
                with log.open("a", encoding="utf-8") as lines:
                    lines.writelines(LOG)
                await play(SCRIPT, f"http://127.0.0.1:{proxy}", apply=sim.apply)
                problems = await problems_of(list(queries()), prom, begun)
                for _ in range(ROUNDS):
                    if not problems:
                        break
                    await play(MORE, f"http://127.0.0.1:{proxy}", apply=sim.apply)
                    problems = await problems_of(list(problems), prom, begun)
                found = list(problems.values())
                found += await prom.rule_problems()
                found += await counted_of_others(prom)
            stop.set()
            await exporter
    return found


async def problems_of(asked: Iterable[Query], prom: Prometheus, begun: float) -> dict[Query, str]:
    """Ask once scrapes and rules are in; return the queries with a problem."""
    await prom.until(f"timestamp(ollama_up) > {time.time() + SETTLING}")
    now = time.time()
    found = {query: await problem_of(query, prom, begun, now) for query in asked}
    return {query: problem for query, problem in found.items() if problem is not None}


async def counted_of_others(prom: Prometheus) -> list[str]:
    """Say whether a target that is none of ours, and down, is shown as an exporter."""
    assert [value for _, value in await prom.query('up{job="another"}')] == [0.0]
    shown = next(q for q in queries() if q.where == "Ollama / Overview: Servers answering C")
    everything = VALUES | {"__range": "1m"}
    down = await prom.query(filled(shown.expression, everything))
    return [] if down == [({}, 0.0)] else [f"{shown.where}: {down}"]


async def problem_of(query: Query, prom: Prometheus, begun: float, now: float) -> str | None:
    """Ask as a panel does over the whole scenario; say what is wrong with the answer."""
    values = VALUES | {"__range": f"{math.ceil(now - begun)}s"}
    expression = filled(query.expression, values)
    found = await prom.query_range(expression, start=begun, end=now, step=STEP)
    real = [labels for labels, samples in found if any(not math.isnan(v) for _, v in samples)]
    reason = next((why for part, why in EMPTY.items() if part in query.where), None)
    if query.kind in ("alert", "page"):
        return None  # that it can be asked is all: silence is what is hoped for
    if reason is not None:
        return f"{query.where}: has data, although {reason}" if real else None
    if not real:
        return f"{query.where}: no data\n    {expression}"
    missing = [sorted(query.labels - set(labels)) for labels in real if query.labels - set(labels)]
    return f"{query.where}: labels {missing[0]} are missing" if missing else None


@pytest.mark.parametrize("part", EMPTY)
def test_every_exception_names_a_query(part: str) -> None:
    assert [query.where for query in queries() if part in query.where]


@pytest.mark.slow(seconds=45)
def test_every_query_finds_what_it_asks_for(tmp_path: Path) -> None:
    assert len(DASHBOARDS) == 5
    problems = asyncio.run(watched(tmp_path))
    assert problems == [], "\n" + "\n".join(problems)
