# SPDX-License-Identifier: Apache-2.0
"""`dashboards`: the dashboards for Grafana, written to a folder."""

from pathlib import Path

import click

from ollama_exporter.cli.bundled_files import bundled, write_all
from ollama_exporter.cli.rules import RUNBOOKS


@click.command(epilog="Example: ollama-exporter dashboards /var/lib/grafana/dashboards")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--runbooks",
    metavar="URL",
    help="Where you serve the runbooks: panels link there.  [default: a host that is nobody's]",
)
@click.option("--force", is_flag=True, help="Replace files that are there and were changed.")
def command(folder: Path, runbooks: str | None, *, force: bool) -> None:
    """Write the dashboards for Grafana to DIR.

    Import the files in Grafana, or let it read DIR by provisioning. They ask which data source to
    use. `ollama-exporter rules` writes the runbooks. Nothing is written if a file there was changed
    by hand.
    """
    base = (RUNBOOKS if runbooks is None else runbooks.rstrip("/") + "/").encode()
    contents = {
        folder / file.name: file.read_bytes().replace(RUNBOOKS.encode(), base)
        for file in bundled("grafana")
    }
    for file in write_all(contents, force=force):
        click.echo(file)
