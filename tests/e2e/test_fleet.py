# SPDX-License-Identifier: Apache-2.0
"""Fifty servers behind one locked exporter, found and scraped by a real Prometheus."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import bcrypt
import httpx
import pytest
import trustme
import yaml

from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host
from tests.support.faultserver import faultserver
from tests.support.fleets import fleet
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.prometheus import Prometheus, prometheus, quick_rules
from tests.support.queries import Query, filled, of_dashboard

SERVERS: Final = 50
FOUND: Final = "ollama-3-0"  # the job whose targets /sd lists
LISTED: Final = "ollama-2-0"  # the one that has a file of them
USER, PASSWORD = "prometheus", "correct horse"
HASH: Final = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
LOCKS: Final = f"""
tls_server_config: {{cert_file: server.pem, key_file: server.pem}}
basic_auth_users: {{{USER}: {HASH}}}
"""
LOADING: Final = 1  # the number of the one that loads a model: a simulator; the others only answer
DYING: Final = 2  # the number of the one that goes away
STAGE: Final = Config(
    host=Host(memory=24 * GIB, recovery=0.1), catalogue=default_catalogue().compressed(1000.0)
)
RULES: Final = sorted(ROOT.glob("dashboards/rules/*.yaml"))
DASHBOARDS: Final = sorted(ROOT.glob("dashboards/grafana/*.json"))
PAGE: Final = (ROOT / "docs" / "fleet.md").read_text(encoding="utf-8")
BLOCK: Final = re.compile(r"^```yaml\n(scrape_configs:.*?)^```", re.MULTILINE | re.DOTALL)
SHORTER: Final = {"for: 2m": "for: 1s", "for: 5m": "for: 1s", "for: 1m": "for: 1s"}
INTERVAL: Final = "2s"  # fifty servers: a busy machine answers no more in time
VARIABLES: Final = {
    "job": ".+",
    "model": ".+",
    "__rate_interval": "10s",
    "__interval": "2s",
    "__range": "30s",
}


def jobs_of_page(number: int, replaced: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the jobs of a block of docs/fleet.md, with addresses of this test."""
    text = BLOCK.findall(PAGE)[number]
    for old, new in replaced.items():
        assert old in text, (old, text)
        text = text.replace(old, new)
    jobs: list[dict[str, Any]] = yaml.safe_load(text)["scrape_configs"]
    for index, job in enumerate(jobs):
        job["job_name"] = f"{job['job_name']}-{number}-{index}"
        for discovery in ("http_sd_configs", "file_sd_configs"):
            for each in job.get(discovery, ()):
                each["refresh_interval"] = "1s"
    return jobs


def configuration(jobs: Sequence[Mapping[str, Any]], rules: Sequence[Path] = ()) -> dict[str, Any]:
    times = ("scrape_interval", "scrape_timeout", "evaluation_interval")
    return {
        "global": dict.fromkeys(times, INTERVAL),
        "rule_files": [str(file) for file in rules],
        "scrape_configs": list(jobs),
    }


async def start(stack: AsyncExitStack, number: int) -> str:
    """Run one of the servers; return its URL."""
    if number == LOADING:
        return (await stack.enter_async_context(Simulator(STAGE))).url
    return (await stack.enter_async_context(faultserver())).url


def named(url: str) -> str:
    return url.removeprefix("http://")


async def find(prom: Prometheus, expression: str, instances: set[str]) -> None:
    """Ask until these have it. A scrape that a busy machine let time out hides one for a while."""
    await prom.until(expression, lambda found: {x["instance"] for x, _ in found} == instances)


async def dashboards_of(prom: Prometheus, instance: str) -> Sequence[str]:
    """Return the panels that show something of an instance; each query must be answered."""
    shown = []
    for file in DASHBOARDS:
        for query in of_dashboard(file):
            values = {**VARIABLES, "instance": re.escape(instance).replace("\\", "\\\\")}
            if await answered(prom, query, values):
                shown.append(query.where)
    return shown


async def answered(prom: Prometheus, query: Query, values: Mapping[str, str]) -> bool:
    return bool(await prom.query(filled(query.expression, values)))


async def check_discovery(prom: Prometheus, urls: list[str]) -> None:
    job = f'job="{FOUND}"'
    for each in (FOUND, LISTED):
        up = f'ollama_up{{job="{each}"}} == 1'
        await find(prom, up, {"first", *map(named, urls[1:])})
    await find(prom, f'ollama_up{{{job},site="berlin"}}', set(map(named, urls[1:])))
    await prom.until(f"ollama_exporter_targets{{{job}}} == {SERVERS}")


async def check_dashboards(prom: Prometheus, url: str) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        body = {"model": "mistral", "keep_alive": "10m"}
        answer = await http.post(f"{url}/api/generate", json=body)
        assert answer.status_code == httpx.codes.OK
    loaded = f'ollama_model_loaded{{job="{FOUND}",instance="{named(url)}"}} == 1'
    await prom.until(loaded)
    await find(prom, "ollama_model_loaded == 1", {named(url)})
    missing = {"Ollama / Overview", "Ollama / Model"}
    async with asyncio.timeout(PATIENCE):  # as above: a scrape may time out
        while missing:
            shown = await dashboards_of(prom, named(url))
            missing -= {where.partition(":")[0] for where in shown}


async def check_changes(prom: Prometheus, gone: str, new: str) -> None:
    for job in (FOUND, LISTED):
        one = f'ollama_up{{job="{job}"'
        await prom.until(f'{one},instance="{new}"}} == 1')
        await prom.until(f'absent({one},instance="{gone}"}})')
        # A scrape that a busy machine let time out hides one for a while.
        await prom.until(f"{one}}}", lambda found: len(found) == SERVERS)


async def check_alerts(prom: Prometheus, instance: str) -> None:
    firing = f'ALERTS{{alertstate="firing",job="{FOUND}"}}'
    await prom.until(f'{firing[:-1]},alertname="OllamaDown",instance="{instance}"}} == 1')
    await prom.until(  # nothing else, but for scrapes that a busy machine lets time out
        firing,
        lambda found: (
            {(x["alertname"], x["instance"]) for x, _ in found} == {("OllamaDown", instance)}
        ),
    )


def write_locks(folder: Path) -> Path:
    """Write the locks of the exporter, and what Prometheus needs to pass them."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
    issued.write_to_path(folder / "server.pem")
    (folder / "password").write_text(PASSWORD)
    (folder / "web.yml").write_text(LOCKS)
    return folder / "web.yml"


def locked_jobs(folder: Path, address: str) -> list[dict[str, Any]]:
    """Return the job that finds all targets by /sd, and one that has a file of them."""
    files = {
        "/etc/prometheus/ollama-password": str(folder / "password"),
        "/etc/prometheus/ollama-ca.pem": str(folder / "ca.pem"),
    }
    found = jobs_of_page(3, {"exporter:11487": address, **files})
    listed = jobs_of_page(
        2, {"exporter:11487": address, "/etc/prometheus/ollama/*.json": str(folder / "names.json")}
    )[:1]
    for key in ("basic_auth", "tls_config"):
        listed[0][key] = found[0][key]
    listed[0] |= {"scheme": "https"}
    return [*found, *listed]


@pytest.mark.slow(seconds=40)
def test_a_prometheus_discovers_and_scrapes_fifty_servers(tmp_path: Path) -> None:
    folder = tmp_path / "targets"
    folder.mkdir()

    def put(urls: Sequence[str]) -> None:
        groups = [{"targets": [named(url)], "labels": {"site": "berlin"}} for url in urls]
        names = [{"targets": ["first", *map(named, urls)]}]
        for file, content in ((folder / "all.json", groups), (tmp_path / "names.json", names)):
            beside = file.with_name(f".{file.name}")
            beside.write_text(json.dumps(content), encoding="utf-8")
            beside.replace(file)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            dying = await stack.enter_async_context(AsyncExitStack())
            urls = [
                await start(dying if number == DYING else stack, number)
                for number in range(SERVERS + 1)
            ]
            spare = urls.pop()
            put(urls[1:])
            exporter = await stack.enter_async_context(
                fleet(
                    {"first": {"url": urls[0]}},
                    targets_dir=folder,
                    poll_interval=2.0,
                    web_config_file=write_locks(tmp_path),
                )
            )
            rules = quick_rules(RULES, tmp_path, SHORTER)
            config = configuration(locked_jobs(tmp_path, exporter.address), rules)
            prom = await stack.enter_async_context(prometheus(tmp_path, config))
            await check_discovery(prom, urls)
            await check_dashboards(prom, urls[LOADING])
            put([*urls[1:-1], spare])  # one is taken away and one added
            await check_changes(prom, named(urls[-1]), named(spare))
            await dying.aclose()
            await check_alerts(prom, named(urls[DYING]))
            assert await prom.rule_problems() == []

    asyncio.run(main())


@pytest.mark.slow(seconds=8)
def test_the_pages_other_jobs_find_what_they_should(tmp_path: Path) -> None:
    names = tmp_path / "names.json"
    names.write_text(json.dumps([{"targets": ["a", "b"]}]))

    async def main() -> None:
        async with faultserver() as one, faultserver() as two, faultserver() as three:
            targets = {
                "a": {"url": one.url, "labels": {"site": "berlin"}},
                "b": {"url": two.url, "labels": {"site": "paris"}},
                "c": three.url,
            }
            async with fleet(targets, poll_interval=2.0) as exporter:
                here = {"exporter:11487": exporter.address}
                shards = {"exporter-0:11487": exporter.address}
                jobs = [
                    *jobs_of_page(0, here),
                    *jobs_of_page(1, here),
                    *jobs_of_page(2, {**here, "/etc/prometheus/ollama/*.json": str(names)}),
                    *jobs_of_page(4, {**shards, "exporter-$1:11487": exporter.address}),
                ]
                async with prometheus(tmp_path, configuration(jobs)) as prom:
                    wanted = {
                        0: {"a", "b", "c"},
                        1: {named(one.url), named(three.url)},  # relabelled
                        2: {"a", "b"},  # by a file
                        4: {"a", "b", "c"},  # over shards
                    }
                    for number, instances in wanted.items():
                        await find(prom, f'ollama_up{{job="ollama-{number}-0"}} == 1', instances)
                    await prom.until('ollama_exporter_targets{job="ollama-exporter-2-1"} == 3')

    asyncio.run(main())
