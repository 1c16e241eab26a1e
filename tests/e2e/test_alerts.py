# SPDX-License-Identifier: Apache-2.0
"""From an event at a model to a notification: real Prometheus, real Alertmanager."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Final

import httpx
import pytest

from deploy.stack.__main__ import serving
from deploy.stack.configuration import alertmanager_config
from deploy.stack.receiver import Alert
from ollama_exporter.residency.events import Unloaded
from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host
from tests.support.exporting import Running, exporting
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.prometheus import (
    Alertmanager,
    Prometheus,
    alertmanager,
    prometheus,
    quick_rules,
    scraping,
)

RULES: Final = sorted((ROOT / "dashboards" / "rules").glob("*.yaml"))
STAGE: Final = Config(
    host=Host(memory=7 * GIB, recovery=0.2, convergence=0.2),  # one model at a time
    catalogue=default_catalogue().compressed(20.0),
)
# The rules' own durations, in the seconds of this test: what is not named stays as it is.
SHORTER: Final = {
    "[10m]": "[6s]",
    "offset 10m": "offset 6s",
    "seconds < 300": "seconds < 2",
    "for: 5m": "for: 2s",
}


@dataclass(slots=True)
class Received:
    """The notifications at the webhook, in order."""

    alerts: list[Alert] = field(default_factory=list)

    async def until(self, name: str, status: str, **labels: str) -> Alert:
        """Wait for an alert in a state, newer than the last one that was waited for."""
        end = monotonic() + PATIENCE
        while True:
            for index, alert in enumerate(self.alerts):
                if (alert.name, alert.status) == (name, status) and labels.items() <= dict(
                    alert.labels
                ).items():
                    del self.alerts[: index + 1]
                    return alert
            assert monotonic() < end, f"{name} {status} {labels} not among {self.alerts}"
            await asyncio.sleep(0.05)


@dataclass(frozen=True, slots=True)
class Scene:
    """All parts, running."""

    exporter: Running
    prom: Prometheus
    alerts: Alertmanager
    client: httpx.AsyncClient
    received: Received

    async def ask(self, model: str, **more: Any) -> None:
        """Ask a model through the proxy, to the end."""
        body = {"model": model, "prompt": "hi [[n=3 ttft=0.01 tps=100]]", **more}
        answer = await self.client.post("/api/generate", json=body)
        assert answer.status_code == 200, answer.text


# A storm counts the evictions of a minute here, which even a busy machine fills.
STORM: Final = {"[20m]": "[60s]", "[10m]": "[60s]", "offset 10m": "offset 60s"}


@asynccontextmanager
async def scene(
    here: Path, *expected: str, shorter: Mapping[str, str] = SHORTER
) -> AsyncIterator[Scene]:
    received = Received()
    async with (
        Simulator(STAGE) as sim,
        exporting(
            sim.url,
            proxy_addresses=("127.0.0.1:0",),
            expected_models=expected,
        ) as exporter,
        serving(received.alerts.append) as url,
    ):
        proxied = next(r for r in exporter.log.records if r.getMessage() == "Proxy listening on")
        proxy = f"http://{vars(proxied)['address']}"
        async with alertmanager(here, alertmanager_config(url)) as alerts:
            config = scraping(
                {"ollama": [exporter.address]},
                rules=quick_rules(RULES, here, shorter),
                alertmanager=alerts.address,
            )
            async with (
                prometheus(here, config) as prom,
                httpx.AsyncClient(base_url=proxy, trust_env=False, timeout=PATIENCE) as client,
            ):
                await prom.until("ollama_up == 1")
                yield Scene(exporter, prom, alerts, client, received)
                assert await prom.rule_problems() == []


@pytest.mark.slow(seconds=30)
def test_an_alert_names_its_cause_and_resolves_when_it_is_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path, "mistral") as it:
            await an_expected_model_is_absent_until_it_is_loaded(it)
            await an_eviction_names_its_evictor(it)
            await a_stuck_load_fires_until_it_is_freed(it)

    asyncio.run(main())


async def an_expected_model_is_absent_until_it_is_loaded(it: Scene) -> None:
    name, labels = "OllamaExpectedModelAbsent", {"model": "mistral:latest"}
    alert = await it.received.until(name, "firing", **labels)
    assert alert.labels["severity"] == "critical"
    assert alert.text == (
        f"mistral:latest is expected on {it.exporter.address} but is not loaded. It has not been "
        "loaded since the exporter started. The next request waits for a load."
    )
    await it.ask("mistral")
    await it.received.until(name, "resolved", **labels)


async def an_eviction_names_its_evictor(it: Scene) -> None:
    """The first unload of that model ever, and the first eviction of that pair."""
    counter = 'ollama_model_unloads_total{model="mistral:latest",reason="evicted"}'
    await it.prom.until(f"{counter} == 0")
    await it.ask("qwen2.5:7b")
    alert = await it.received.until("OllamaUnexpectedUnload", "firing", model="mistral:latest")
    assert {**alert.labels} == {
        "alertname": "OllamaUnexpectedUnload",
        "severity": "warning",
        "job": "ollama",
        "instance": it.exporter.address,
        "model": "mistral:latest",
        "reason": "evicted",
        "by": "qwen2.5:7b",
    }
    (early,) = (each.early for each in it.exporter.events if isinstance(each, Unloaded))
    assert early is not None
    assert alert.text == (
        f"mistral:latest was evicted by qwen2.5:7b on {it.exporter.address}, "
        f"{early / 60:.0f} min before its deadline."
    )
    assert alert.annotations["runbook_url"].endswith("/OllamaUnexpectedUnload.md")
    await it.received.until(
        "OllamaUnexpectedUnload", "resolved", model="mistral:latest", by="qwen2.5:7b"
    )


async def a_stuck_load_fires_until_it_is_freed(it: Scene) -> None:
    """A busy model is to be evicted; a request with a keep-alive reaches it: loads stand still."""
    async with asyncio.TaskGroup() as tasks:
        long = {"prompt": "hi [[n=1000000 ttft=0.01 tps=100]]"}
        asking = tasks.create_task(it.ask("qwen2.5:7b", **long))
        await it.prom.until('ollama_requests_in_flight{route="/api/generate"} == 1')
        tasks.create_task(it.ask("llama3.2"))
        await it.prom.until('ollama_requests_waiting_for_load{model="llama3.2:latest"} == 1')
        tasks.create_task(it.ask("qwen2.5:7b", keep_alive="10m"))
        await it.prom.until('ollama_requests_in_flight{route="/api/generate"} == 3')
        asking.cancel()  # the other one has reached it, and gets its turn
        alert = await it.received.until("OllamaLoadStuck", "firing", model="llama3.2:latest")
        assert alert.labels["severity"] == "critical"
        assert re.fullmatch(
            rf"1 request has been waiting for llama3\.2:latest on {it.exporter.address}, the "
            r"oldest for [\dhms. ]+\. No model has been loaded for five minutes, although "
            r"Ollama answers polls\. All other loads queue behind this one\. "
            r"Resident: qwen2\.5:7b\.",
            alert.text,
        )
        await it.ask("qwen2.5:7b", prompt="", keep_alive=0)  # as the runbook says: ollama stop
        await it.received.until("OllamaLoadStuck", "resolved", model="llama3.2:latest")


@pytest.mark.slow(seconds=30)
def test_under_pressure_one_alert_stands_for_all_evictions_of_a_server(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path, shorter=STORM) as it, asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(models_evict_each_other(it))
            storm = await it.received.until("OllamaUnloadStorm", "firing", reason="evicted")
            assert_it_is_of_the_whole_server(it, storm)
            await it_says_how_many_which_and_what_it_cost(it)
            await only_the_storm_is_active(it)
            asking.cancel()

    asyncio.run(main())


async def models_evict_each_other(it: Scene) -> None:
    """Three models that do not fit together are asked in turn, so that two pairs form."""
    while True:
        for model in ("mistral", "qwen2.5:7b", "llama3.2", "qwen2.5:7b"):
            await it.ask(model)


def assert_it_is_of_the_whole_server(it: Scene, storm: Alert) -> None:
    assert {**storm.labels} == {
        "alertname": "OllamaUnloadStorm",
        "severity": "warning",
        "job": "ollama",
        "instance": it.exporter.address,
        "reason": "evicted",
    }


async def it_says_how_many_which_and_what_it_cost(it: Scene) -> None:
    """Its sentences come one by one, as what they tell of does."""
    text = re.compile(
        rf"\d+ evictions in 20 minutes on {it.exporter.address}: memory is short\. "
        r"Most often: (\S+ \(\d+ times\)(, )?){3}\. "
        r"\d+ requests waited [\dhms. ]+ in total for loads\."
    )
    end = monotonic() + PATIENCE
    while True:
        storms = [
            a for a in await it.prom.alerts() if a["labels"]["alertname"] == "OllamaUnloadStorm"
        ]
        said = [storm["annotations"]["description"] for storm in storms]
        if any(text.fullmatch(each) for each in said):
            return
        assert monotonic() < end, said
        await asyncio.sleep(0.2)


async def only_the_storm_is_active(it: Scene) -> None:
    """Single evictions are no alerts any more; pairs are, and Alertmanager silences them."""
    end = monotonic() + PATIENCE
    while True:
        found = [alert for alert in await it.alerts.alerts() if "instance" in alert["labels"]]
        active = {a["labels"]["alertname"] for a in found if a["status"]["state"] == "active"}
        silent = {a["labels"]["alertname"] for a in found if a["status"]["inhibitedBy"]}
        if active == {"OllamaUnloadStorm"} and "OllamaEvictionPingPong" in silent:
            return
        assert monotonic() < end, (active, silent)
        await asyncio.sleep(0.2)
