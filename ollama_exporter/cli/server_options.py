# SPDX-License-Identifier: Apache-2.0
"""What `warm` and `measure` share: the options that name the server, its client, how a run ends."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import click

from ollama_exporter.bounded_client import Credentials
from ollama_exporter.cli.announce import Announcer
from ollama_exporter.cli.durations import duration
from ollama_exporter.cli.ending_signals import ending_signals
from ollama_exporter.cli.settings_options import settings_from, with_settings
from ollama_exporter.config.schema import Settings
from ollama_exporter.errors import FailureReason, ServerError, TargetError
from ollama_exporter.protocol.control_client import ControlClient

F = TypeVar("F", bound=Callable[..., Any])
SERVER_SETTINGS: Final = (
    "ollama.url",
    "ollama.timeout",
    "ollama.token-file",
    "ollama.basic-auth-user",
    "ollama.basic-auth-password-file",
    "ollama.header",
    "ollama.header-file",
    "ollama.ca-file",
    "ollama.tls-cert-file",
    "ollama.tls-key-file",
    "ollama.tls-server-name",
    "ollama.tls-insecure-skip-verify",
)
NO_CONNECTION: Final = frozenset({FailureReason.REFUSED, FailureReason.UNREACHABLE})
SIGNAL_BASE: Final = 128  # a shell's exit code of a signal, less its number


def with_server(*more: str) -> Callable[[F], F]:
    """Add the options that name the server and bound each request. `more`: further settings."""

    def decorate(command: F) -> F:
        command = with_settings(only=(*SERVER_SETTINGS, *more))(command)
        command = click.option("--host", metavar="URL", help="Short for --ollama.url.")(command)
        return click.option(
            "--timeout",
            default="10m",
            show_default=True,
            callback=duration,
            metavar="DURATION",
            help="Time limit of each load or call.",
        )(command)

    return decorate


def server_settings(values: dict[str, Any]) -> Settings:
    """Return the settings of the command's options. Raises ConfigError."""
    host = values.pop("host")
    if host is not None:
        values["ollama_url"] = host
    return settings_from(values)


@contextmanager
def named_server(settings: Settings) -> Iterator[None]:
    """Raise ServerError, which names the server and what to do, in place of TargetError."""
    try:
        yield
    except TargetError as err:
        url = settings.ollama_url
        if err.reason not in NO_CONNECTION:
            raise ServerError(f"Ollama at {url}: {err}") from err
        hint = "is it running? --ollama.url or OLLAMA_HOST names another server"
        raise ServerError(f"cannot reach Ollama at {url} ({err.detail}); {hint}") from err


def control_client(settings: Settings, *, exporter: str, credentials: Credentials) -> ControlClient:
    """Return a client of the server, which announces its requests. Raises ConfigError."""
    announcer = Announcer(exporter, settings.ollama_url, credentials)
    timeout = settings.ollama_timeout
    return ControlClient(settings.target, timeout=timeout, announced=announcer.announced)


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run a command; return its exit code. SIGINT, SIGTERM and SIGHUP cancel it.

    It may then restore what it changed. A second signal ends it at once.
    """
    return asyncio.run(_cancellable(main))


async def _cancellable(main: Coroutine[Any, Any, int]) -> int:
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(main)
    received: list[signal.Signals] = []
    ending = ending_signals()

    def on_signal(number: signal.Signals) -> None:
        received.append(number)
        for each in ending:
            loop.remove_signal_handler(each)
        task.cancel()

    # Windows has no signal handlers on the loop, and only the main thread may set them.
    with suppress(NotImplementedError, ValueError, RuntimeError):
        for each in ending:
            loop.add_signal_handler(each, on_signal, each)
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
        return SIGNAL_BASE + received[0]
