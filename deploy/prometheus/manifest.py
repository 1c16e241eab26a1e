# SPDX-License-Identifier: Apache-2.0
"""The rules as one PrometheusRule: `make docs` writes prometheusrule.yaml."""

from typing import Any, Final

import yaml

from ollama_exporter.cli.bundled_files import bundled

HEAD: Final = "# Generated from dashboards/rules by `make docs`, for a Prometheus Operator.\n"


class _Plain(yaml.SafeDumper):
    """Writes no YAML aliases, which some readers of manifests do not support."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - the library's signature
        """Return True: write every value in full."""
        return True


def manifest() -> str:
    """Return the manifest."""
    groups = []
    for file in bundled("rules"):
        groups += yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    labels = {"app.kubernetes.io/name": "ollama-exporter"}
    content = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "ollama-exporter", "labels": labels},
        "spec": {"groups": groups},
    }
    return HEAD + yaml.dump(content, Dumper=_Plain, sort_keys=False, width=100)
