# SPDX-License-Identifier: Apache-2.0
"""The settings as click options: the flags of `serve`, `check-config` and their like."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from ollama_exporter.config.load import Settings, default_of, load
from ollama_exporter.config.schema import TABLE, Setting

F = TypeVar("F", bound=Callable[..., Any])
CONFIG_FILE = "config_file"


def with_settings(*, only: Iterable[str] = ()) -> Callable[[F], F]:
    """Give a command the flags of all settings, or of some, and `--config.file`."""
    names = set(only)

    def decorate(command: F) -> F:
        for setting in reversed([s for s in TABLE if not names or s.name in names]):
            command = _option(setting)(command)
        return click.option(
            "--config.file",
            CONFIG_FILE,
            type=click.Path(path_type=Path),
            envvar="OLLAMA_EXPORTER_CONFIG_FILE",
            show_envvar=True,
            metavar="FILE",
            help="YAML file with settings, each under the name of its flag.",
        )(command)

    return decorate


def settings_from(values: dict[str, Any]) -> Settings:
    """Put the settings together from a command's parameters. Raises ConfigError."""
    flags = {
        setting.name: values[setting.field]
        for setting in TABLE
        if values.get(setting.field) not in (None, ())
    }
    return load(flags, file=values.get(CONFIG_FILE))


def _option(setting: Setting) -> Callable[[F], F]:
    flag = f"--{setting.name}"
    help_ = f"{setting.help}{_default(setting)}"
    if setting.is_switch:
        both = f"{flag}/--no-{setting.name}" if setting.negatable else flag
        return click.option(
            both,
            setting.field,
            is_flag=True,
            default=None,
            envvar=setting.variable,
            show_envvar=True,
            help=help_,
        )
    return click.option(
        flag,
        setting.field,
        multiple=setting.repeatable,
        envvar=setting.variable,
        show_envvar=True,
        metavar=setting.metavar,
        help=help_,
    )


def _default(setting: Setting) -> str:
    value = default_text(setting)
    return f"  [default: {value}]" if value else ""


def default_text(setting: Setting) -> str:
    """Return a default as one writes it; empty: none."""
    match default_of(setting):
        case None | () | "":
            return ""
        case bool(value):
            return "on" if value else "off"
        case tuple(values):
            return " ".join(values)
        case float(seconds):
            return f"{seconds:g}s"
        case value:
            return str(value)
