# SPDX-License-Identifier: Apache-2.0
"""`rules`: the alert and recording rules for Prometheus, written to a folder."""

from pathlib import Path
from typing import Final

import click

from ollama_exporter.cli.bundled_files import bundled, write_all

RUNBOOKS: Final = "https://ollama-exporter.example/runbooks/"  # as the files have it: nobody's


@click.command(
    epilog="Example: ollama-exporter rules /etc/prometheus/rules --runbooks https://wiki/ollama"
)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--runbooks",
    metavar="URL",
    help="Where you serve the runbooks: alerts link there.  [default: a host that is nobody's]",
)
@click.option("--force", is_flag=True, help="Replace files that are there and were changed.")
def command(folder: Path, runbooks: str | None, *, force: bool) -> None:
    """Write the alert and recording rules for Prometheus to DIR, their runbooks to DIR/runbooks.

    Name them in prometheus.yml: `rule_files: [DIR/*.yaml]`. The thresholds are in
    ollama-thresholds.yaml. Nothing is written if a file there was changed by hand.
    """
    base = (RUNBOOKS if runbooks is None else runbooks.rstrip("/") + "/").encode()
    contents = {
        folder / file.name: file.read_bytes().replace(RUNBOOKS.encode(), base)
        for file in bundled("rules")
    }
    pages = {folder / "runbooks" / file.name: file.read_bytes() for file in bundled("runbooks")}
    for file in write_all(contents | pages, force=force):
        click.echo(file)
