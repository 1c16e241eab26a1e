# SPDX-License-Identifier: Apache-2.0
"""`healthcheck`: for containers, which have no curl."""

import http.client
from http import HTTPStatus
from typing import Any, Final

import click

from ollama_exporter.cli.present.terminal import echo
from ollama_exporter.cli.settings_options import settings_from, with_settings
from ollama_exporter.config.parsers import split_address

TIMEOUT: Final = 3.0
PATH: Final = "/-/healthy"
WILDCARDS: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


@click.command()
@with_settings(only=("web.listen-address",))
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> None:  # noqa: ANN401 - the flags of the table
    """Check whether a running exporter is healthy: exit 0 or 1.

    Uses the first listen address of the same configuration.
    """
    host, port = split_address(settings_from(values).listen_addresses[0])
    connection = http.client.HTTPConnection(WILDCARDS.get(host, host), port, timeout=TIMEOUT)
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
