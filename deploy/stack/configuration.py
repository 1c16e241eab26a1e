# SPDX-License-Identifier: Apache-2.0
"""The configurations of Prometheus and Alertmanager, as values that are written as YAML."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml


def prometheus_config(
    jobs: Mapping[str, Sequence[str]],
    *,
    discovered: Mapping[str, str] | None = None,
    rules: Sequence[Path],
    alertmanager: str | None,
    interval: str,
) -> dict[str, Any]:
    """Return a configuration of Prometheus.

    `jobs`: targets by job. `discovered`: further jobs, with the URL of their service discovery.
    """
    config: dict[str, Any] = {
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "evaluation_interval": interval,
        },
        "rule_files": [str(file.resolve()) for file in rules],
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": list(targets)}]}
            for name, targets in jobs.items()
        ]
        + [
            {"job_name": name, "http_sd_configs": [{"url": url}]}
            for name, url in (discovered or {}).items()
        ],
    }
    if alertmanager is not None:
        static = {"static_configs": [{"targets": [alertmanager]}]}
        config["alerting"] = {"alertmanagers": [static]}
    return config


SHIPPED: Final = Path(__file__).parents[1] / "prometheus" / "alertmanager.yml"


def alertmanager_config(url: str) -> dict[str, Any]:
    """Return a configuration of Alertmanager that sends each alert to a webhook at once.

    Its inhibitions are those of the shipped example.
    """
    shipped = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    return {
        "route": {
            "receiver": "webhook",
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "1s",
        },
        "receivers": [{"name": "webhook", "webhook_configs": [{"url": url}]}],
        "inhibit_rules": shipped["inhibit_rules"],
    }
