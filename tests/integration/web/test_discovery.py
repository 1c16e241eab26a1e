# SPDX-License-Identifier: Apache-2.0
"""Service discovery over HTTP, as Prometheus itself reads it."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from deploy.stack.configuration import prometheus_config
from tests.support.exporting import exporting
from tests.support.patience import PATIENCE
from tests.support.programs import program


def test_prometheus_finds_the_exporter_where_it_asks(tmp_path: Path) -> None:
    async def main() -> tuple[str, list[dict[str, Any]]]:
        async with exporting("http://127.0.0.1:9", telemetry_path="/m") as exporter:
            config = prometheus_config(
                {},
                discovered={"ollama": f"http://{exporter.address}/sd"},
                rules=(),
                alertmanager=None,
                interval="1s",
            )
            file = tmp_path / "prometheus.yml"
            file.write_text(yaml.safe_dump(config), encoding="utf-8")
            return exporter.address, await discovered(file)

    address, (target,) = asyncio.run(main())
    labels = target["labels"]
    assert (labels["instance"], labels["job"]) == (address, "ollama")
    assert (labels["__scheme__"], labels["__metrics_path__"]) == ("http", "/m")


async def discovered(file: Path) -> list[dict[str, Any]]:
    """Return what promtool finds. It waits for a time, not for an answer: it is asked again."""
    command = [program("promtool"), "check", "service-discovery", "--timeout=1s"]
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await asyncio.to_thread(
                subprocess.run,
                [*command, str(file), "ollama"],
                capture_output=True,
                text=True,
                check=True,
                timeout=PATIENCE,
            )
            targets: list[dict[str, Any]] = json.loads(found.stdout)
            if targets:
                return targets


def test_no_path_redirects_to_the_host_of_the_request() -> None:
    async def main() -> None:
        async with exporting("http://127.0.0.1:9") as exporter:
            for path in ("/metrics/", "/sd/", "/-/healthy/", "/nowhere"):
                answer = await exporter.http.get(path, headers={"host": "evil.example"})
                assert answer.status_code == 404
                assert answer.text.endswith("\n")
                assert "evil" not in answer.text + str(answer.headers)

    asyncio.run(main())
