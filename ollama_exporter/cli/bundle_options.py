# SPDX-License-Identifier: Apache-2.0
"""What `rules` and `dashboards` share: their options, and writing bundled files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ollama_exporter.cli.bundled_files import Kind, bundled, write_all
from ollama_exporter.cli.present.terminal import echo

F = TypeVar("F", bound=Callable[..., Any])
PLACEHOLDER: Final = "https://ollama-exporter.example/runbooks/"  # as the bundled files have it


def with_bundle(links: str) -> Callable[[F], F]:
    """Add DIR, `--runbooks` and `--force`. `links`: what links to the runbooks."""

    def decorate(command: F) -> F:
        command = click.option(
            "--force", is_flag=True, help="Overwrite files that exist and were edited."
        )(command)
        command = click.option(
            "--runbooks",
            metavar="URL",
            help=f"Where you serve the runbooks: {links} link there.  [default: a placeholder]",
        )(command)
        path = click.Path(file_okay=False, path_type=Path)
        return click.argument("folder", metavar="DIR", type=path)(command)

    return decorate


def write_bundle(
    folders: dict[Kind, Path], *, runbooks: str | None, force: bool, next_step: str
) -> None:
    """Write the files of each kind to its folder and print their paths. Raises BundleError."""
    base = PLACEHOLDER if runbooks is None else f"{runbooks.rstrip('/')}/"
    contents = {
        folder / file.name: file.read_bytes().replace(PLACEHOLDER.encode(), base.encode())
        for kind, folder in folders.items()
        for file in bundled(kind)
    }
    for file in write_all(contents, force=force):
        echo(file)
    if runbooks is None:
        echo(f"links to runbooks point to {PLACEHOLDER}: set --runbooks", err=True)
    echo(next_step, err=True)
