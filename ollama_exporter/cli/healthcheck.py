# SPDX-License-Identifier: Apache-2.0
"""`healthcheck`: for containers, which have no curl."""

import http.client
import socket
import ssl
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import click

from ollama_exporter.cli.present.terminal import echo
from ollama_exporter.cli.settings_options import settings_from, with_settings
from ollama_exporter.config.parsers import split_address, unix_path
from ollama_exporter.foreign_text import query
from ollama_exporter.web.locks.web_config import read_web_config

TIMEOUT: Final = 3.0
UP: Final = "ollama_up"
LONGEST: Final = 64 << 10  # bytes that are read of an answer
PATH: Final = "/-/healthy"
WILDCARDS: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


@click.command()
@click.option(
    "--target",
    metavar="NAME",
    help="Check this one of several servers instead. Not a reason to restart the exporter.",
)
@with_settings(only=("web.listen-address", "web.config.file"))
@click.pass_context
def command(ctx: click.Context, /, target: str | None, **values: Any) -> None:  # noqa: ANN401 - the flags of the table
    """Check whether a running exporter is healthy: exit 0 or 1.

    Give it the exporter's own configuration: it connects to the first listen address. It does not
    verify the certificate. It fails if the port requires client certificates, and with --target
    also if it requires a password.
    """
    settings = settings_from(values)
    connection = _connection(settings.listen_addresses[0], settings.web_config_file)
    path = PATH if target is None else f"/probe?{query({'target': target, 'name[]': UP})}"
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        status, said = response.status, response.read(LONGEST)
    except (OSError, http.client.HTTPException) as err:
        echo(f"unhealthy: {err}")
        ctx.exit(1)
    finally:
        connection.close()
    if status != HTTPStatus.OK:
        echo(f"unhealthy: HTTP status {status}")
        ctx.exit(1)
    if target is not None and f"\n{UP} 1.0\n".encode() not in said:
        echo("unhealthy: the server does not answer")
        ctx.exit(1)
    echo("healthy")


def _connection(address: str, file: Path | None) -> http.client.HTTPConnection:
    is_tls = file is not None and read_web_config(file).tls is not None
    path = unix_path(address)
    if path is not None:
        return _UnixConnection(path, is_tls=is_tls)
    host, port = split_address(address)
    host = WILDCARDS.get(host, host)
    if is_tls:
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=_unverified())
    return http.client.HTTPConnection(host, port, timeout=TIMEOUT)


class _UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: Path, *, is_tls: bool) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path, self._is_tls = path, is_tls

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(str(self._path))
        if self._is_tls:
            self.sock = _unverified().wrap_socket(self.sock)


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
