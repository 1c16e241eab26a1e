# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus and a real Alertmanager on free ports, as processes of their own.

    scrape = scraping({"ollama": [exporter.address]}, rules=RULES, alertmanager=alerts.address)
    async with prometheus(tmp_path, scrape) as prom:
        await prom.until("ollama_up == 1")

Debian's Prometheus 2.42 takes some five seconds to its first scrape, and as many until it knows its
Alertmanager; both are its own, not ours.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final

import httpx
import yaml

from deploy.stack.configuration import prometheus_config
from deploy.stack.daemons import running
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.support.programs import program

INTERVAL: Final = "250ms"  # of scrapes and of rules
Vector = list[tuple[dict[str, str], float]]  # labels and value of each series
Matrix = list[tuple[dict[str, str], list[tuple[float, float]]]]  # moment and value of each sample


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running program that answers over HTTP."""

    address: str
    http: httpx.AsyncClient
    log: Path

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://{self.address}"

    async def get(self, path: str, **parameters: str | float) -> Any:
        """Ask its API; a refusal fails the test with the reason that it gives."""
        answer = await self.http.get(path, params=parameters)
        assert answer.status_code == 200, f"{path} {parameters}: {answer.text}"
        return answer.json()


@dataclass(frozen=True, slots=True)
class Prometheus(Daemon):
    """A running Prometheus."""

    async def query(self, expression: str, *, at: float | None = None) -> Vector:
        """Ask for an instant vector, or a scalar as a series without labels. `at`: Unix seconds."""
        moment = {} if at is None else {"time": at}
        data = (await self.get("/api/v1/query", query=expression, **moment))["data"]
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        assert data["resultType"] == "vector", data
        return [(series["metric"], float(series["value"][1])) for series in data["result"]]

    async def query_range(
        self, expression: str, *, start: float, end: float, step: float
    ) -> Matrix:
        """Ask as a panel does. Unix seconds."""
        bounds = {"start": start, "end": end, "step": step}
        data = (await self.get("/api/v1/query_range", query=expression, **bounds))["data"]
        return [
            (series["metric"], [(float(at), float(value)) for at, value in series["values"]])
            for series in data["result"]
        ]

    async def until(
        self,
        expression: str,
        wanted: Callable[[Vector], bool] = bool,
        *,
        patience: float = PATIENCE,
    ) -> Vector:
        """Ask again until the answer is what is wanted: by default, until there is any."""
        end = monotonic() + patience
        while not wanted(found := await self.query(expression)):
            assert monotonic() < end, f"{expression}: {found}"
            await asyncio.sleep(0.1)
        return found

    async def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that are pending or firing, with labels, annotations and state."""
        return list((await self.get("/api/v1/alerts"))["data"]["alerts"])

    async def rule_problems(self) -> list[str]:
        """Return what rules of any group failed with, at their last evaluation."""
        groups = (await self.get("/api/v1/rules"))["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule.get("lastError")]


@dataclass(frozen=True, slots=True)
class Alertmanager(Daemon):
    """A running Alertmanager."""

    async def alerts(self) -> list[dict[str, Any]]:
        """Return what it holds."""
        return list(await self.get("/api/v2/alerts"))


def scraping(
    jobs: Mapping[str, Sequence[str]],
    *,
    rules: Sequence[Path] = (),
    alertmanager: str | None = None,
    interval: str = INTERVAL,
) -> dict[str, Any]:
    """Return a configuration: jobs by name with their targets, files of rules, an Alertmanager."""
    return prometheus_config(jobs, rules=rules, alertmanager=alertmanager, interval=interval)


@asynccontextmanager
async def prometheus(
    here: Path, config: Mapping[str, Any], *options: str
) -> AsyncIterator[Prometheus]:
    """Run a Prometheus whose files are in `here`, until it is ready."""
    file = _written(here / "prometheus.yml", config)
    command = [
        program("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={here / 'tsdb'}",
        *options,
    ]
    async with _running(here, command) as (address, http, log):
        yield Prometheus(address, http, log)


@asynccontextmanager
async def alertmanager(
    here: Path, config: Mapping[str, Any], *options: str
) -> AsyncIterator[Alertmanager]:
    """Run an Alertmanager whose files are in `here`, until it is ready."""
    file = _written(here / "alertmanager.yml", config)
    command = [
        program("alertmanager"),
        f"--config.file={file}",
        f"--storage.path={here / 'alertmanager'}",
        "--cluster.listen-address=",
        *options,
    ]
    async with _running(here, command) as (address, http, log):
        yield Alertmanager(address, http, log)


def quick_rules(files: Sequence[Path], here: Path, changes: Mapping[str, str]) -> list[Path]:
    """Write rules as a test wants them: no group waits longer than the rest. Return the files.

    `changes`: what is put for texts.
    """
    written = []
    for file in files:
        text = re.sub(r"^    interval: \w+$\n", "", file.read_text("utf-8"), flags=re.MULTILINE)
        for old, new in changes.items():
            text = text.replace(old, new)
        written.append(here / file.name)
        written[-1].write_text(text, encoding="utf-8")
    return written


def _written(file: Path, config: Mapping[str, Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
    return file


@asynccontextmanager
async def _running(
    here: Path, command: Sequence[str]
) -> AsyncIterator[tuple[str, httpx.AsyncClient, Path]]:
    address = f"127.0.0.1:{free_port()}"
    log = here / f"{Path(command[0]).name}.log"
    async with (
        running(command, address=address, log=log),
        httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=PATIENCE) as http,
    ):
        yield address, http, log
