# SPDX-License-Identifier: Apache-2.0
"""`check-config`: what would be in force."""

from collections.abc import Iterator
from typing import Any

import click

from ollama_exporter.actions.defaults import defaults_section
from ollama_exporter.actions.keep_warm import keep_warm_section
from ollama_exporter.cli.settings_options import settings_from, with_settings
from ollama_exporter.config.load import Settings
from ollama_exporter.config.schema import TABLE
from ollama_exporter.protocol.client import read_token, tls_context
from ollama_exporter.protocol.keepalive import render
from ollama_exporter.shim.proxy.build import frontend_of


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
    frontend_of(settings)
    for setting in TABLE:
        value = getattr(settings, setting.field)
        shown = " ".join(value) if isinstance(value, tuple) else value
        click.echo(f"{setting.name}: {'' if shown is None else shown}")
    for line in _sections(settings):
        click.echo(line)


def _sections(settings: Settings) -> Iterator[str]:
    """Say what the file's sections would have done."""
    section = settings.keep_warm
    dry = " (dry run)" if section.dry_run else ""
    for warm in section.models:
        when = "always" if warm.schedule is None else warm.schedule.text
        context = "" if warm.num_ctx is None else f", num-ctx {warm.num_ctx}"
        keep = render(warm.keep_alive)
        yield f"{keep_warm_section.KEY}.{warm.model}: {when}, keep-alive {keep}{context}{dry}"
    for rule in settings.defaults:
        parts = (
            ("keep-alive", rule.keep_alive and render(rule.keep_alive)),
            ("num-ctx", rule.num_ctx),
            ("max-keep-alive", rule.max_keep_alive and render(rule.max_keep_alive)),
            ("max-num-ctx", rule.max_num_ctx),
        )
        said = ", ".join(f"{name} {value}" for name, value in parts if value is not None)
        yield f"{defaults_section.DEFAULTS}.{rule.pattern}: {said}"
    pilot = settings.autopilot
    if pilot is not None:
        bounds = f"{render(pilot.min)} to {render(pilot.max)}, from {pilot.least_gaps} gaps on"
        yield f"{defaults_section.AUTOPILOT}: {' '.join(pilot.models)}, {bounds}"
