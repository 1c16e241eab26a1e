# SPDX-License-Identifier: Apache-2.0
"""The settings as click options: the flags of `serve`, `check-config` and others."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ollama_exporter.config.load import CONFIG_FILE, load
from ollama_exporter.config.schema import TABLE, Settings
from ollama_exporter.config.setting import Setting, as_word, variable

F = TypeVar("F", bound=Callable[..., Any])
FILE_PARAMETER: Final = "config_file"


def with_settings(*, only: Iterable[str] = ()) -> Callable[[F], F]:
    """Give a command the flags of all settings, or of some, and `--config.file`."""
    names = set(only)

    def decorate(command: F) -> F:
        for setting in reversed([s for s in TABLE if not names or s.name in names]):
            command = _option(setting)(command)
        return click.option(
            f"--{CONFIG_FILE}",
            FILE_PARAMETER,
            type=click.Path(path_type=Path),
            metavar="FILE",
            help=f"YAML file with settings; its keys are the flag names.{_env(CONFIG_FILE)}",
        )(command)

    return decorate


def settings_from(values: dict[str, Any]) -> Settings:
    """Put the settings together from a command's parameters. Raises ConfigError."""
    flags = {
        setting.name: values[setting.field]
        for setting in TABLE
        if values.get(setting.field) not in (None, ())
    }
    return load(flags, file=values.get(FILE_PARAMETER))


def _option(setting: Setting) -> Callable[[F], F]:
    default = as_word(setting.default)
    shown = f"  [default: {default}]" if default else ""
    help_ = f"{setting.help}{_env(setting.name)}{shown}"
    if setting.is_switch:
        both = f"{setting.flag}/--no-{setting.name}"
        return click.option(both, setting.field, is_flag=True, default=None, help=help_)
    return click.option(
        setting.flag,
        setting.field,
        multiple=setting.is_list,
        metavar=setting.metavar,
        help=help_,
    )


def _env(name: str) -> str:
    """Return the variable of a setting as click shows it; `load` reads it, and not click."""
    return f"  [env var: {variable(name)}]"
