# SPDX-License-Identifier: Apache-2.0
"""What `warm` and `measure` share: whom they ask, and how they write numbers."""

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from ollama_exporter.actions.warm.load_models import Missing
from ollama_exporter.cli.settings_options import settings_from, with_settings
from ollama_exporter.config import parsers
from ollama_exporter.config.load import Settings
from ollama_exporter.protocol.control_client import ControlClient
from ollama_exporter.protocol.keepalive import render

F = TypeVar("F", bound=Callable[..., Any])
FLAGS: Final = ("ollama.url", "ollama.ca-file", "ollama.token-file", "ollama.timeout")
GIB: Final = 1 << 30


def with_server(*more: str) -> Callable[[F], F]:
    """Give a command the flags that say which server is meant, and how long one waits for it."""

    def decorate(command: F) -> F:
        command = with_settings(only=(*FLAGS, *more))(command)
        command = click.option("--host", metavar="URL", help="Short for --ollama.url.")(command)
        return click.option(
            "--timeout",
            default="10m",
            show_default=True,
            callback=duration,
            metavar="DURATION",
            help="Longest time for one load, or one call.",
        )(command)

    return decorate


def server_of(values: dict[str, Any]) -> Settings:
    """Return the settings that a command's flags say. Raises ConfigError."""
    host = values.pop("host")
    if host is not None:
        values["ollama_url"] = host
    return settings_from(values)


def client_of(settings: Settings) -> ControlClient:
    """Make the client. Raises ConfigError."""
    return ControlClient(settings.target, timeout=settings.ollama_timeout)


def duration(_ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read a duration's option."""
    return None if value is None else parsers.duration(f"--{param.name}".replace("_", "-"), value)


def memory_size(_ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Read a size's option."""
    return None if value is None else parsers.size(f"--{param.name}", value)


def not_installed(missing: Missing) -> str:
    """Say that a model is not there."""
    if missing.remote:
        return f"{missing.name}: runs on another host, so there is nothing to load here"
    if missing.near:
        return f"{missing.name}: not installed; did you mean {' or '.join(missing.near)}?"
    return f"{missing.name}: not installed"


def gib(size: int) -> str:
    """Write a size."""
    return f"{size / GIB:.1f} GiB"


def left(seconds: float | None) -> str:
    """Write what is left of a keep-alive."""
    if seconds is None:
        return ""
    if math.isinf(seconds):
        return "never"
    return render(math.floor(seconds)) if seconds > 0 else "in use"
