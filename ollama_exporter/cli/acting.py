# SPDX-License-Identifier: Apache-2.0
"""What `warm` and `measure` share: whom they ask, and how they write numbers."""

import math
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from ollama_exporter import accept
from ollama_exporter.acting.warmup import Missing
from ollama_exporter.cli.options import settings_from, with_settings
from ollama_exporter.errors import ConfigError
from ollama_exporter.protocol.acting import ActingClient
from ollama_exporter.protocol.keepalive import render

F = TypeVar("F", bound=Callable[..., Any])
FLAGS: Final = ("ollama.url", "ollama.ca-file", "ollama.token-file", "ollama.timeout")
SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(GiB|MiB|GB|MB)?", re.IGNORECASE)
UNITS: Final = {"gib": 1 << 30, "mib": 1 << 20, "gb": 10**9, "mb": 10**6}
GIB: Final = 1 << 30


def with_server(command: F) -> F:
    """Give a command the flags that say which server is meant."""
    command = with_settings(only=FLAGS)(command)
    return click.option("--host", metavar="URL", help="Short for --ollama.url.")(command)


def client_of(values: dict[str, Any]) -> ActingClient:
    """Make the client by a command's flags. Raises ConfigError."""
    host = values.pop("host")
    if host is not None:
        values["ollama_url"] = host
    settings = settings_from(values)
    return ActingClient(settings.target, timeout=settings.ollama_timeout)


def duration(_ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read a duration's option."""
    return None if value is None else accept.duration(f"--{param.name}".replace("_", "-"), value)


def memory_size(_ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Read a size's option: 24GiB, 8192MiB; GiB if no unit is given."""
    if value is None:
        return None
    match = SIZE.fullmatch(value.strip())
    size = 0 if match is None else int(float(match[1]) * UNITS[(match[2] or "GiB").lower()])
    if size <= 0:
        raise ConfigError(f"--{param.name}", value, "accepted: a size such as 24GiB or 8192MiB")
    return size


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
    return render(round(seconds)) if seconds > 0 else "in use"
