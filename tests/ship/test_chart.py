# SPDX-License-Identifier: Apache-2.0
"""The chart: linted, rendered over a matrix of values, each manifest held against its schema."""

import itertools
import json
import os
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
    "podMonitor": {"enabled": True},
    "probe": {"enabled": True, "targets": ["gpu-1"]},
    "prometheusRule": {"enabled": True},
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
        ({"mode": "sidecar"}, "mode"),
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
