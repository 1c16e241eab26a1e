# SPDX-License-Identifier: Apache-2.0
"""Durations as options: `90s`, `1h30m`, or a number of seconds."""

from collections.abc import Callable

import click

from ollama_exporter.config import parsers
from ollama_exporter.errors import ConfigError

Callback = Callable[[click.Context, click.Parameter, str | None], float | None]


def duration(_ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Parse an option's duration, in seconds. Raises ConfigError."""
    return None if value is None else parsers.duration(param.opts[0], value)


def at_least(shortest: float) -> Callback:
    """Return what parses likewise, and refuses what is shorter than so many seconds."""

    def parse(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
        seconds = duration(ctx, param, value)
        if value is not None and seconds is not None and seconds < shortest:
            raise ConfigError(param.opts[0], value, f"accepted: {shortest:g}s or more")
        return seconds

    return parse
