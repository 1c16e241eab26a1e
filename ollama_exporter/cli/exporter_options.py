# SPDX-License-Identifier: Apache-2.0
"""What all commands share that ask an exporter or Prometheus: its URL, files for TLS, a token."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click

from ollama_exporter.bounded_client import Credentials
from ollama_exporter.config.schema import WEB_PORT

# The exporter of this machine, unless its port was changed.
HERE: Final = f"http://127.0.0.1:{WEB_PORT}"
OPTIONS: Final = {  # in the order of the help
    "token-file": "Bearer token for {whom}, if a proxy in front of it requires one.",
    "ca-file": "CA certificates (PEM) to verify {whom}, instead of the system's.",
    "cert-file": "Client certificate (PEM) for {whom}.",
    "key-file": "Private key (PEM) of the client certificate.",
}
Command = Callable[..., Any]


def with_credentials(whom: str, *, prefix: str = "") -> Callable[[Command], Command]:
    """Add the options; the command gets their values as `credentials`.

    `whom`: who is asked, for the help. `prefix`: of the options, where the command talks to an
    Ollama server as well.
    """

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_files(*args: object, **values: Any) -> object:  # noqa: ANN401 - click's
            files: dict[str, Path | None] = {
                name.replace("-", "_"): values.pop(_parameter(name)) for name in OPTIONS
            }
            return command(*args, credentials=Credentials(**files, prefix=prefix), **values)

        decorated: Command = with_files
        for name, text in reversed(OPTIONS.items()):
            decorated = click.option(
                f"--{prefix}{name}",
                _parameter(name),
                type=click.Path(path_type=Path),
                metavar="FILE",
                help=text.format(whom=whom),
            )(decorated)
        return decorated

    return decorate


def _parameter(name: str) -> str:
    return f"exporter_{name.replace('-', '_')}"
