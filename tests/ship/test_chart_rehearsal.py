# SPDX-License-Identifier: Apache-2.0
"""The tutorial for Kubernetes, done without a cluster, from its values.yaml to the pager.

helm renders, podman starts the pod as kubelet would, Prometheus and Alertmanager get what the
Operator would make of the monitor and the rules.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.containers import Images, build
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.support.programs import program
from tests.support.prometheus import Alertmanager, alertmanager, prometheus, scraping
from tests.support.rehearsed_pod import mounted, podman_options, rule_file, scrape_job
from tests.support.scraping import fetch, scrape_until

CHART: Final = ROOT / "deploy/helm/ollama-exporter"
TUTORIAL: Final = ROOT / "docs/tutorials/sre.md"
NODE: Final = {"status.hostIP": "127.0.0.1"}
TARGET: Final = {
    "namespace": "ollama-exporter",
    "service_name": "ollama-exporter",
    "pod_name": "ollama-exporter-x7k2p",
    "pod_node_name": "gpu-1",
}
SHORTER: Final = {"for: 2m\n": "for: 2s\n"}


@pytest.fixture(scope="session")
def images() -> Images:
    return build()


def tutorial_values() -> dict[str, Any]:
    """Return the values.yaml that the tutorial shows."""
    blocks = TUTORIAL.read_text("utf-8").split("```yaml\n")[1:]
    (values,) = (block.partition("```")[0] for block in blocks if "prometheusRule:" in block)
    return dict(yaml.safe_load(values))


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [
            *(program("helm"), "template", "ollama-exporter", str(CHART)),
            *("--namespace=ollama-exporter", "--kube-version=1.33.0", "--values", "-"),
        ],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


@contextmanager
def simulated(port: int) -> Iterator[None]:
    """Run a server with room for one model, whose processes are those of this node."""
    options = ("--processes", "--memory=7GiB", "--load-speed=200", f"--listen=127.0.0.1:{port}")
    command = [sys.executable, "-m", "ollama_exporter", "simulate", *options]
    with subprocess.Popen(command) as server:
        try:
            fetch(f"http://127.0.0.1:{port}/api/version")
            yield
        finally:
            server.terminate()


async def fired(alerts: Alertmanager, name: str) -> dict[str, Any]:
    """Return an alert as soon as Alertmanager has it."""
    end = time.monotonic() + PATIENCE
    while True:
        for each in await alerts.alerts():
            if each["labels"]["alertname"] == name:
                return dict(each)
        assert time.monotonic() < end, await alerts.alerts()
        await asyncio.sleep(0.2)


def test_from_the_tutorials_values_to_the_pager(images: Images, tmp_path: Path) -> None:
    ollama, exporter = free_port(), free_port()
    values = tutorial_values()
    values["ollama"]["url"] = values["ollama"]["url"].replace("11434", str(ollama))
    values |= {
        "extraArgs": [f"--web.listen-address=127.0.0.1:{exporter}"],
        "config": {"poll.interval": "1s"},
    }
    found = rendered(values)
    kinds = {each["kind"]: each for each in found}
    pod = kinds["DaemonSet"]["spec"]["template"]["spec"]
    options, arguments = podman_options(
        pod, fields=NODE, volumes=mounted(found, pod, tmp_path / "volumes")
    )
    job = scrape_job(kinds["ServiceMonitor"], address=f"127.0.0.1:{exporter}", target=TARGET)
    rules = rule_file(kinds["PrometheusRule"], tmp_path / "rules.yaml", SHORTER)
    assert "https://wiki.example/ollama/OllamaDown.md" in rules.read_text("utf-8")

    async def main() -> None:
        shipped = yaml.safe_load((ROOT / "deploy/prometheus/alertmanager.yml").read_text("utf-8"))
        async with alertmanager(tmp_path, shipped) as alerts:
            config = scraping({}, rules=[rules], alertmanager=alerts.address)
            config["scrape_configs"] = [job]
            async with prometheus(tmp_path, config) as prom:
                with simulated(ollama):
                    await prom.until('ollama_up{instance="gpu-1",namespace="ollama-exporter"} == 1')
                    for model in ("mistral:latest", "qwen2.5:7b"):
                        asked = json.dumps({"model": model, "prompt": "hi", "stream": False})
                        url = f"http://127.0.0.1:{ollama}/api/generate"
                        await asyncio.to_thread(fetch, url, asked.encode())
                        loaded = f'ollama_model_runner_up{{model="{model}"}} == 1'
                        await prom.until(loaded)  # the node's processes are seen
                    evicted = await fired(alerts, "OllamaUnexpectedUnload")
                down = await fired(alerts, "OllamaDown")
                assert await prom.rule_problems() == []
        assert evicted["labels"]["reason"] == "evicted"
        assert "mistral:latest was evicted by qwen2.5:7b" in evicted["annotations"]["description"]
        assert "on gpu-1" in evicted["annotations"]["description"]
        assert [each["name"] for each in evicted["receivers"]] == ["chat"]
        assert [each["name"] for each in down["receivers"]] == ["pager"]
        assert "Ollama behind gpu-1 has not answered" in down["annotations"]["description"]

    with images.running("ship-rehearsal", *arguments, options=options):
        for probe in ("livenessProbe", "readinessProbe"):
            path = pod["containers"][0][probe]["httpGet"]["path"]
            fetch(f"http://127.0.0.1:{exporter}{path}")
        scrape_until(exporter, "ollama_up 0.0")  # it serves before Ollama does
        asyncio.run(main())
