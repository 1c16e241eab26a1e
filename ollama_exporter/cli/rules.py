# SPDX-License-Identifier: Apache-2.0
"""`rules`: the alert and recording rules for Prometheus, written to a folder."""

from pathlib import Path

import click

from ollama_exporter.cli.bundle_options import with_bundle, write_bundle


@click.command(
    epilog="Example: ollama-exporter rules /etc/prometheus/rules --runbooks https://wiki/ollama"
)
@with_bundle(links="alerts")
def command(folder: Path, runbooks: str | None, *, force: bool) -> None:
    """Write the alert and recording rules for Prometheus to DIR, runbooks to DIR/runbooks.

    Add them to prometheus.yml: `rule_files: [DIR/*.yaml]`. The thresholds are in
    ollama-thresholds.yaml. If a file in DIR was edited, nothing is written without --force.
    """
    write_bundle(
        {"rules": folder, "runbooks": folder / "runbooks"},
        runbooks=runbooks,
        force=force,
        next_step=f"next: add to prometheus.yml: rule_files: [{folder / '*.yaml'}]",
    )
