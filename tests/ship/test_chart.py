# SPDX-License-Identifier: Apache-2.0
"""The chart: linted, rendered over a matrix of values, each manifest held against its schema."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, cast

import jsonschema
import kubernetes_validate
import pytest
import yaml

from ollama_exporter.version import __version__
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.programs import program
from tools.kustomize_base import base

CHART: Final = ROOT / "deploy" / "helm" / "ollama-exporter"
KUSTOMIZE: Final = ROOT / "deploy" / "kustomize"
KUBERNETES: Final = ("1.27", "1.33")
VERSION: Final = f"--kube-version={KUBERNETES[-1]}.0"
MONITORING: Final = "monitoring.coreos.com"
LOCKS: Final = {
    "tls_server_config": {"cert_file": "/certs/tls.crt", "key_file": "/certs/tls.key"},
}
ALL: Final[dict[str, Any]] = {
    "commonLabels": {"team": "ml"},
    "image": {"digest": "sha256:" + "0" * 64, "pullSecrets": [{"name": "registry"}]},
    "ollama": {"url": "http://$(NODE_IP):11434", "tokenSecret": {"name": "ollama"}},
    "config": {"poll.interval": "10s", "expected-model": ["llama3.2:3b"]},
    "webConfig": {"content": LOCKS},
    "proxy": {"enabled": True, "tokenSecret": {"name": "clients"}},
    "state": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "podMonitor": {"enabled": True, "relabelings": [{"action": "labeldrop", "regex": "pod"}]},
    "probe": {
        "enabled": True,
        "targets": ["gpu-1"],
        "endpoint": {"tlsConfig": {"insecureSkipVerify": True}},
    },
    "runbooks": "https://wiki.example/ollama/",
    "prometheusRule": {"enabled": True, "thresholds": {"ollama:crashes:threshold": 5}},
    "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Ollama"}},
    "networkPolicy": {
        "enabled": True,
        "metricsFrom": [{"namespaceSelector": {}}],
        "egress": [{"ports": [{"port": 11434}]}],
    },
    "podDisruptionBudget": {"enabled": True},
    "nodeSelector": {"gpu": "yes"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    ],
    "priorityClassName": "system-node-critical",
    "extraArgs": ["--log.format=json"],
    "extraEnv": [{"name": "A", "value": "b"}],
    "extraEnvFrom": [{"secretRef": {"name": "more"}}],
    "extraVolumes": [{"name": "certs", "secret": {"secretName": "tls"}}],
    "extraVolumeMounts": [{"name": "certs", "mountPath": "/certs", "readOnly": True}],
    "extraObjects": [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": '{{ include "ollama-exporter.fullname" . }}-more'},
        }
    ],
}
MATRIX: Final = [
    {"mode": mode, **cast("dict[str, Any]", values)}
    for mode, values in itertools.product(
        ("deployment", "daemonset"),
        (
            {},
            ALL,
            {"hostPID": True, "hostNetwork": True, "service": {"enabled": False}},
            {"webConfig": {"existingSecret": "mine"}, "serviceAccount": {"create": False}},
            {"state": {"enabled": True, "existingClaim": "claim"}, "nameOverride": "x"},
            {"livenessProbe": None, "resources": {}, "fullnameOverride": "y" * 70},
        ),
    )
]
SIDECAR: Final[dict[str, Any]] = {
    **ALL,
    "mode": "sidecar",
    "podMonitor": {
        "enabled": True,
        "namespaces": ["ollama"],
        "selector": {"matchLabels": {"app": "ollama"}},
    },
}
MATRIX.append(SIDECAR)
YAML: Final = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What the pages show of the values: each must render.
EXAMPLES: Final = [
    yaml.safe_load(block)
    for page in (CHART / "README.md", ROOT / "docs" / "tutorials" / "sre.md")
    for block in YAML.findall(page.read_text("utf-8"))
    if re.search(r"^(serviceMonitor|podMonitor|prometheusRule):", block, re.MULTILINE)
]


def helm(*arguments: str, values: dict[str, Any] | None = None) -> str:
    """Run helm; a failure fails the test with what it printed."""
    given = [] if values is None else ["--values", "-"]
    done = subprocess.run(
        [program("helm"), *arguments, *given],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    text = helm("template", "release", str(CHART), "--namespace=ml", VERSION, values=values)
    return [each for each in yaml.safe_load_all(text) if each]


def by_kind(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in rendered(values)}


@pytest.mark.parametrize("values", MATRIX, ids=range(len(MATRIX)))
def test_each_manifest_fits_its_schema(values: dict[str, Any]) -> None:
    helm("lint", "--strict", str(CHART), values=values)
    manifests = rendered(values)
    assert manifests
    for manifest in manifests:
        if MONITORING in manifest["apiVersion"]:
            check_custom(manifest)
        else:
            for version in KUBERNETES:
                kubernetes_validate.validate(manifest, version, strict=True)


def check_custom(manifest: dict[str, Any]) -> None:
    """Hold a manifest against the Operator's CRD, in which unknown keys are errors."""
    folder = Path(program("helm")).parent / "crds"
    kind = manifest["kind"].lower()
    file = folder / f"{MONITORING}_{kind}{'' if kind.endswith('s') else 's'}.yaml"
    crd = yaml.safe_load(file.read_text("utf-8"))
    (schema,) = (
        version["schema"]["openAPIV3Schema"]
        for version in crd["spec"]["versions"]
        if version["name"] == manifest["apiVersion"].partition("/")[2]
    )
    close(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.Draft7Validator(schema).validate(manifest)


def close(schema: object) -> None:
    """Forbid keys that a schema does not name."""
    if isinstance(schema, dict):
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        for each in schema.values():
            close(each)
    elif isinstance(schema, list):
        for each in schema:
            close(each)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"mode": "statefulset"}, "mode"),
        ({"mode": "sidecar", "podMonitor": {"enabled": True}}, "podMonitor.selector"),
        (
            {"prometheusRule": {"enabled": True, "thresholds": {"ollama:crash:threshold": 1}}},
            "ollama:crash:threshold",
        ),
        ({"unknown": 1}, "unknown"),
        ({"image": {"tagg": "x"}}, "tagg"),
        ({"service": {"port": 70000}}, "port"),
        ({"serviceMonitor": {"interval": "soon"}}, "interval"),
        ({"prometheusRule": {"exclude": ["nothing"]}}, "exclude"),
        ({"probe": {"enabled": True}}, "probe.targets"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], named: str) -> None:
    done = subprocess.run(
        [program("helm"), "template", "release", str(CHART), VERSION, "--values", "-"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode != 0
    assert named in done.stderr


def test_the_pod_is_as_restricted_as_pod_security_wants() -> None:
    pod = by_kind({})["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostPID", "hostNetwork"} & set(pod)
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert container["image"] == f"ollama-exporter:{__version__}"


def test_what_the_values_say_reaches_the_exporter() -> None:
    found = by_kind({**ALL, "mode": "daemonset"})
    (container,) = found["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    assert container["args"] == [
        "--config.file=/etc/ollama-exporter/config/config.yaml",
        "--web.config.file=/etc/ollama-exporter/web/web.yml",
        "--ollama.token-file=/etc/ollama-exporter/ollama-token/token",
        "--proxy.listen-address=:11435",
        "--proxy.token-file=/etc/ollama-exporter/proxy-token/token",
        "--state.file=/var/lib/ollama-exporter/state.json",
        "--log.format=json",
    ]
    assert container["image"].endswith("@sha256:" + "0" * 64)
    assert container["livenessProbe"]["httpGet"]["scheme"] == "HTTPS"
    mounted = {each["mountPath"].rpartition("/")[0] or "/" for each in container["volumeMounts"]}
    assert mounted == {"/etc/ollama-exporter", "/var/lib", "/"}
    volumes = found["DaemonSet"]["spec"]["template"]["spec"]["volumes"]
    assert {each["name"] for each in volumes} == {
        each["name"] for each in container["volumeMounts"]
    }
    groups = found["PrometheusRule"]["spec"]["groups"]
    assert {"alert", "record"} & {
        key for group in groups for rule in group["rules"] for key in rule
    }
    assert "{{ $labels.instance }}" in yaml.safe_dump(groups)


@pytest.mark.parametrize("values", EXAMPLES, ids=range(len(EXAMPLES)))
def test_what_the_pages_show_is_accepted(values: dict[str, Any]) -> None:
    assert rendered(values)
    assert len(EXAMPLES) >= 5


def test_beside_ollama_in_one_pod_the_chart_brings_what_scrapes_it_and_no_pod() -> None:
    found = by_kind(SIDECAR)
    assert set(found) == {"PodMonitor", "PrometheusRule", "ConfigMap"}
    assert found["PodMonitor"]["spec"]["selector"] == {"matchLabels": {"app": "ollama"}}
    assert found["PodMonitor"]["spec"]["namespaceSelector"] == {"matchNames": ["ollama"]}


@pytest.mark.parametrize("mode", ["deployment", "daemonset"])
def test_a_series_keeps_its_name_when_the_pod_is_replaced(mode: str) -> None:
    found = by_kind({**ALL, "mode": mode})
    (service,) = found["ServiceMonitor"]["spec"]["endpoints"]
    (pod,) = found["PodMonitor"]["spec"]["podMetricsEndpoints"]
    for first in (service["relabelings"][0], pod["relabelings"][0]):
        assert first["targetLabel"] == "instance"
        assert not {"pod_name", "pod_ip"} & {x[18:] for x in first["sourceLabels"]}
    assert pod["relabelings"][1:] == ALL["podMonitor"]["relabelings"]


def test_alerts_compare_with_the_thresholds_and_link_to_the_runbooks_of_the_values() -> None:
    groups = by_kind(ALL)["PrometheusRule"]["spec"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    values = {rule["record"]: rule["expr"] for rule in rules if "record" in rule}
    assert values["ollama:crashes:threshold"] == "vector(5)"
    assert values["ollama:restarts:threshold"] == "vector(2)"
    links = {rule["annotations"]["runbook_url"] for rule in rules if "alert" in rule}
    assert "https://wiki.example/ollama/OllamaDown.md" in links
    assert all(link.startswith("https://wiki.example/ollama/O") for link in links)
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    excluded = schema["properties"]["prometheusRule"]["properties"]["exclude"]["items"]["enum"]
    assert excluded == sorted(file.stem for file in (CHART / "files/rules").glob("*.yaml"))


def test_the_pod_of_helm_test_is_no_target_and_reaches_the_exporter() -> None:
    values = {**ALL, "mode": "daemonset", "tolerations": [{"operator": "Exists"}]}
    found = {each["kind"]: each for each in rendered(values)}
    labels = found["Pod"]["metadata"]["labels"].items()
    for kind in ("Service", "ServiceMonitor", "PodDisruptionBudget", "NetworkPolicy"):
        spec = found[kind]["spec"]
        selector = spec.get("podSelector") or spec["selector"]
        assert not selector.get("matchLabels", selector).items() <= labels, kind
    assert found["Pod"]["spec"]["nodeSelector"] == ALL["nodeSelector"]
    assert found["Pod"]["spec"]["tolerations"] == values["tolerations"]
    (container,) = found["Pod"]["spec"]["containers"]
    assert "--web.config.file=/etc/ollama-exporter/web/web.yml" in container["args"]


def test_processes_of_the_node_are_watched_although_the_server_is_not_on_loopback() -> None:
    for config, wanted in (({}, True), ({"targets": {"a": "http://a:11434"}}, False)):
        values = {"mode": "daemonset", "hostPID": True, "config": config}
        (container,) = by_kind(values)["DaemonSet"]["spec"]["template"]["spec"]["containers"]
        assert ("--collector.processes=on" in container["args"]) is wanted


def test_the_settings_are_accepted_by_the_exporter(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    maps = [each for each in rendered(ALL) if each["kind"] == "ConfigMap"]
    (config,) = (each for each in maps if "config.yaml" in each.get("data", {}))
    file.write_text(config["data"]["config.yaml"], "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "ollama_exporter", "check-config", f"--config.file={file}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "poll.interval: 10s" in done.stdout


def test_the_dashboards_are_whole() -> None:
    maps = [
        each
        for each in rendered({"dashboards": {"enabled": True}})
        if each["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
    ]
    files = {name: text for each in maps for name, text in each["data"].items()}
    shipped = sorted((ROOT / "dashboards" / "grafana").glob("*.json"))
    assert sorted(files) == [file.name for file in shipped]
    for file in shipped:
        assert json.loads(files[file.name]) == json.loads(file.read_text("utf-8"))


def test_it_is_packaged_with_rules_and_dashboards(tmp_path: Path) -> None:
    helm("package", str(CHART), "--destination", str(tmp_path))
    (package,) = tmp_path.glob("*.tgz")
    parts = "--set=prometheusRule.enabled=true,dashboards.enabled=true"
    text = helm("template", "r", str(package), VERSION, parts)
    kinds = [each["kind"] for each in yaml.safe_load_all(text) if each]
    assert kinds.count("PrometheusRule") == 1
    assert kinds.count("ConfigMap") == len(list((ROOT / "dashboards" / "grafana").glob("*.json")))


def test_the_kustomize_base_is_the_chart_with_its_defaults() -> None:
    text = helm("template", "ollama-exporter", str(CHART), VERSION, "--skip-tests")
    committed = (KUSTOMIZE / "base" / "exporter.yaml").read_text("utf-8")
    assert committed == base(text), "run: make chart-base"
    for manifest in yaml.safe_load_all(committed):
        for version in KUBERNETES:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_kustomize_builds_what_the_base_says_of_itself(tmp_path: Path) -> None:
    lines = (KUSTOMIZE / "base" / "kustomization.yaml").read_text("utf-8").splitlines()
    overlay = "\n".join(line[4:] for line in lines if line.startswith("#   "))
    relative = os.path.relpath(KUSTOMIZE / "base", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(
        overlay.replace("PATH-OR-URL/deploy/kustomize/base", relative), "utf-8"
    )
    done = subprocess.run(
        [program("kustomize"), "build", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    built = {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}
    assert built["Service"]["metadata"]["namespace"] == "monitoring"
    (container,) = built["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"REGISTRY/ollama-exporter:{__version__}"
    assert {"name": "OLLAMA_HOST", "value": "http://ollama.ai:11434"} in container["env"]
    assert any(each["name"] == "NODE_IP" for each in container["env"])
