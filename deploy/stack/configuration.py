# SPDX-License-Identifier: Apache-2.0
"""What Prometheus and Alertmanager are told, as values: they are written as YAML."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def prometheus_config(
    jobs: Mapping[str, Sequence[str]],
    *,
    discovered: Mapping[str, str] | None = None,
    rules: Sequence[Path],
    alertmanager: str | None,
    interval: str,
) -> dict[str, Any]:
    """Return a configuration: jobs by name with their targets, files of rules, an Alertmanager.

    `discovered`: further jobs with the URL of a document of service discovery.
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


def alertmanager_config(url: str) -> dict[str, Any]:
    """Return a configuration: every alert at once, on its own, to a webhook."""
    return {
        "route": {
            "receiver": "webhook",
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "1s",
        },
        "receivers": [{"name": "webhook", "webhook_configs": [{"url": url}]}],
    }
