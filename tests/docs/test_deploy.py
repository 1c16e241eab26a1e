# SPDX-License-Identifier: Apache-2.0
"""What is there to deploy: valid, with every mounted file there and every alert real."""

import re
import subprocess
from typing import Final

import pytest

from deploy.prometheus.manifest import manifest
from ollama_exporter.cli.bundled_files import bundled
from tests.docs.test_docs import every_flag
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.programs import program
from tests.support.yaml_files import load_yaml

DEPLOY: Final = ROOT / "deploy"
COMPOSE: Final = DEPLOY / "compose" / "compose.yaml"


def test_every_path_that_compose_mounts_or_builds_exists() -> None:
    services = load_yaml(COMPOSE)["services"]
    mounts = [mount for service in services.values() for mount in service.get("volumes", ())]
    paths = [mount.split(":")[0] for mount in mounts if mount.startswith(".")]
    assert len(paths) == 5
    assert [path for path in paths if not (COMPOSE.parent / path).exists()] == []
    named = {mount.split(":")[0] for mount in mounts if not mount.startswith(".")}
    assert named == set(load_yaml(COMPOSE)["volumes"])
    assert (COMPOSE.parent / services["exporter"]["build"]["context"] / "Dockerfile").exists()


def test_compose_publishes_on_this_machine_alone_and_names_versions() -> None:
    for service in load_yaml(COMPOSE)["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert "build" in service or re.search(r":v?\d+\.\d+\.\d+$", service["image"])


def test_the_sidecar_sees_the_processes_of_its_ollama_and_nothing_can_be_written() -> None:
    sidecar = load_yaml(COMPOSE.with_name("sidecar.yaml"))
    services = sidecar["services"]
    exporter, ollama = services["exporter"], services["ollama"]
    assert exporter["pid"] == exporter["network_mode"] == "service:ollama"
    assert (exporter["read_only"], exporter["cap_drop"]) == (True, ["ALL"])
    assert (COMPOSE.parent / exporter["build"]["context"] / "Dockerfile").exists()
    assert all(port.startswith("127.0.0.1:") for port in ollama["ports"])
    assert {mount.split(":")[0] for mount in ollama["volumes"]} == set(sidecar["volumes"])
    assert {word.partition("=")[0] for word in exporter["command"]} <= every_flag()


def test_the_flags_in_compose_are_real() -> None:
    used = {
        word.partition("=")[0] for word in load_yaml(COMPOSE)["services"]["exporter"]["command"]
    }
    assert used <= every_flag()


def test_what_grafana_is_given_stands_where_it_is_mounted() -> None:
    mounts = dict(
        mount.split(":")[:2] for mount in load_yaml(COMPOSE)["services"]["grafana"]["volumes"]
    )
    provisioning = DEPLOY / "grafana" / "provisioning"
    assert mounts["../grafana/provisioning"] == "/etc/grafana/provisioning"
    provider = load_yaml(provisioning / "dashboards" / "ollama.yaml")["providers"][0]
    assert provider["options"]["path"] == mounts["../../dashboards/grafana"]
    home = load_yaml(COMPOSE)["services"]["grafana"]["environment"][
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    ]
    source = load_yaml(provisioning / "datasources" / "prometheus.yaml")["datasources"][0]
    assert source["url"] == "http://prometheus:9090"  # the service's name
    assert home.removeprefix(provider["options"]["path"] + "/") in {
        file.name for file in bundled("grafana")
    }


@pytest.mark.parametrize("file", ["prometheus/prometheus.yml", "compose/prometheus.yml"])
def test_the_configurations_of_prometheus_are_valid(file: str) -> None:
    check(program("promtool"), "check", "config", "--syntax-only", str(DEPLOY / file))


def test_the_routing_of_alertmanager_is_valid_and_names_alerts_that_exist() -> None:
    file = DEPLOY / "prometheus" / "alertmanager.yml"
    check(program("amtool"), "check-config", str(file))
    named = set(re.findall(r"\bOllama[A-Z]\w+", file.read_text(encoding="utf-8")))
    rules = "".join(rule.read_text(encoding="utf-8") for rule in bundled("rules"))
    assert named
    assert [name for name in named if f"alert: {name}\n" not in rules] == []


def check(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_manifest_of_the_rules_is_as_generated() -> None:
    file = DEPLOY / "prometheus" / "prometheusrule.yaml"
    assert file.read_text(encoding="utf-8") == manifest()
    groups = load_yaml(file)["spec"]["groups"]
    assert len({group["name"] for group in groups}) == len(groups)


def test_the_service_monitor_finds_what_the_labels_say() -> None:
    monitor = load_yaml(DEPLOY / "prometheus" / "servicemonitor.yaml")
    assert monitor["kind"] == "ServiceMonitor"
    assert monitor["spec"]["selector"]["matchLabels"] == monitor["metadata"]["labels"]
