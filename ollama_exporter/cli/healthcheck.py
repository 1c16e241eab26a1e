# SPDX-License-Identifier: Apache-2.0
"""`healthcheck`: for containers, which have no curl."""

import http.client
import ssl
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import click

from ollama_exporter.cli.present.terminal import echo
from ollama_exporter.cli.settings_options import settings_from, with_settings
from ollama_exporter.config.parsers import split_address
from ollama_exporter.web.locks.web_config import read_web_config

TIMEOUT: Final = 3.0
PATH: Final = "/-/healthy"
WILDCARDS: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


@click.command()
@with_settings(only=("web.listen-address", "web.config.file"))
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> None:  # noqa: ANN401 - the flags of the table
    """Check whether a running exporter is healthy: exit 0 or 1.

    Uses the first listen address of the same configuration. Its certificate is not verified: it
    names the exporter for others. Where clients need a certificate, the check fails.
    """
    settings = settings_from(values)
    host, port = split_address(settings.listen_addresses[0])
    connection = _connection(WILDCARDS.get(host, host), port, settings.web_config_file)
    try:
        connection.request("GET", PATH)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as err:
        echo(f"unhealthy: {err}")
        ctx.exit(1)
    finally:
        connection.close()
    if status != HTTPStatus.OK:
        echo(f"unhealthy: HTTP status {status}")
        ctx.exit(1)
    echo("healthy")


def _connection(host: str, port: int, file: Path | None) -> http.client.HTTPConnection:
    if file is None or read_web_config(file).tls is None:
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=context)
