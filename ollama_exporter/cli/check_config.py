# SPDX-License-Identifier: Apache-2.0
"""`check-config`: what would be in force."""

from typing import Any

import click

from ollama_exporter.cli.options import settings_from, with_settings
from ollama_exporter.protocol.client import read_token, tls_context
from ollama_exporter.proxying import front_of
from ollama_exporter.settings_table import TABLE


@click.command()
@with_settings()
def command(**values: Any) -> None:  # noqa: ANN401 - the flags of the table
    """Check flags, environment and configuration file, then end.

    Prints the settings that would be in force; exit code 2 and one line if something is not
    acceptable. Certificates and the token's file are read, nothing is connected to.
    """
    settings = settings_from(values)
    tls_context(settings.target)
    read_token(settings.ollama_token_file)
    front_of(settings)
    for setting in TABLE:
        value = getattr(settings, setting.field)
        shown = " ".join(value) if isinstance(value, tuple) else value
        click.echo(f"{setting.name}: {'' if shown is None else shown}")
