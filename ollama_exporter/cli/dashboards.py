# SPDX-License-Identifier: Apache-2.0
"""`dashboards`: the dashboards for Grafana, written to a folder."""

from pathlib import Path

import click

from ollama_exporter.cli.bundle_options import with_bundle, write_bundle


@click.command(epilog="Example: ollama-exporter dashboards /var/lib/grafana/dashboards")
@with_bundle(links="panels")
def command(folder: Path, runbooks: str | None, *, force: bool) -> None:
    """Write the dashboards for Grafana to DIR.

    Import the files in Grafana, or point a dashboard provider at DIR. Each dashboard lets you
    choose the data source. `ollama-exporter rules` writes the runbooks. If a file in DIR was
    edited, nothing is written without --force.
    """
    write_bundle(
        {"grafana": folder},
        runbooks=runbooks,
        force=force,
        next_step=f"next: import them in Grafana, or name {folder} in a dashboard provider",
    )
