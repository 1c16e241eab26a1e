# SPDX-License-Identifier: Apache-2.0
"""A rendered pod without a cluster: what kubelet and the Prometheus Operator make of manifests."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

Manifest = Mapping[str, Any]
SNAKE: Final = {"sourceLabels": "source_labels", "targetLabel": "target_label"}


def mounted(found: Sequence[Manifest], pod: Manifest, folder: Path) -> dict[str, Path]:
    """Write the volumes of a pod as kubelet does, each file behind two links; return them by name.

    `found`: the manifests, among them the ConfigMaps and Secrets.
    """
    objects = {(each["kind"], each["metadata"]["name"]): each for each in found}
    folders = {}
    for volume in pod.get("volumes", ()):
        here = folder / volume["name"]
        (here / "..2026").mkdir(parents=True)
        (here / "..data").symlink_to("..2026")
        if "configMap" in volume:
            data = objects["ConfigMap", volume["configMap"]["name"]]["data"]
        else:
            data = objects["Secret", volume["secret"]["secretName"]]["stringData"]
        for name, text in data.items():
            (here / "..2026" / name).write_text(text, "utf-8")
            (here / name).symlink_to(f"..data/{name}")
        folders[volume["name"]] = here
    return folders


def podman_options(
    pod: Manifest, *, fields: Mapping[str, str], volumes: Mapping[str, Path]
) -> tuple[tuple[str, ...], list[str]]:
    """Return the options of `podman run` that stand for a pod's only container, and its arguments.

    `fields`: what the cluster knows of the pod, by path.
    """
    (container,) = pod["containers"]
    rights = pod["securityContext"] | container["securityContext"]
    environment: dict[str, str] = {}
    for each in container["env"]:
        source = each.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        value = each.get("value", "") if source is None else fields[source]
        environment[each["name"]] = re.sub(r"\$\((\w+)\)", lambda name: environment[name[1]], value)
    options = [f"--user={rights['runAsUser']}:{rights['runAsGroup']}"]
    options += [f"--env={name}={value}" for name, value in environment.items()]
    options += ["--pid=host"] if pod.get("hostPID") else []
    options += [
        f"--volume={volumes[mount['name']]}:{mount['mountPath']}:ro"
        for mount in container.get("volumeMounts", ())
    ]
    return tuple(options), list(container.get("args", ()))


def scrape_job(monitor: Manifest, *, address: str, target: Mapping[str, str]) -> dict[str, Any]:
    """Return the job that the Operator makes of a ServiceMonitor, for one known pod.

    `target`: what the discovery of Kubernetes would say of the pod, without `__meta_kubernetes_`.
    """
    (endpoint,) = monitor["spec"]["endpoints"]
    meta = {f"__meta_kubernetes_{name}": value for name, value in target.items()}
    added = {
        "job": target["service_name"],
        "namespace": target["namespace"],
        "service": target["service_name"],
        "pod": target["pod_name"],
        "container": "ollama-exporter",
        "endpoint": endpoint["port"],
    }
    return {
        "job_name": f"serviceMonitor/{target['namespace']}/{monitor['metadata']['name']}/0",
        "metrics_path": endpoint.get("path", "/metrics"),
        "static_configs": [{"targets": [address], "labels": meta | added}],
        "relabel_configs": [
            {SNAKE.get(key, key): value for key, value in each.items()}
            for each in endpoint.get("relabelings", ())
        ],
    }


def rule_file(rule: Manifest, file: Path, shorter: Mapping[str, str]) -> Path:
    """Write the groups of a PrometheusRule as the Operator does. `shorter`: texts to replace."""
    text = yaml.safe_dump({"groups": rule["spec"]["groups"]}, width=1 << 20)
    for old, new in shorter.items():
        assert old in text, old
        text = text.replace(old, new)
    file.write_text(text, "utf-8")
    return file
