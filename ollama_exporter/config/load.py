# SPDX-License-Identifier: Apache-2.0
"""Puts the settings together from flags, environment and file.

A flag beats a variable, a variable beats the file, the file beats the default. This is the only
place that reads the environment.
"""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ollama_exporter.config import parsers
from ollama_exporter.config.schema import ROWS, TABLE, Settings
from ollama_exporter.config.setting import variable
from ollama_exporter.config.target import HIDDEN
from ollama_exporter.config.yaml_file import read_yaml
from ollama_exporter.errors import ConfigError, ConfigFileError

OLLAMA_HOST: Final = "OLLAMA_HOST"  # Ollama's own variable says where its clients look
CONFIG_FILE: Final = "config.file"
ONE_SERVER: Final = ("ollama.", "proxy.", "collector.")
ONE_SERVER_SECTIONS: Final = frozenset({"defaults", "autopilot"})


def load(
    flags: Mapping[str, object],
    *,
    environment: Mapping[str, str] = os.environ,
    file: Path | None = None,
) -> Settings:
    """Put the settings together. `flags`: by name of the setting, only those given.

    `file`: the configuration file (default: the one that the environment names).

    Raises ConfigError.
    """
    named = environment.get(variable(CONFIG_FILE))
    if file is None and named:
        file = Path(named)
    sources: dict[str, tuple[str, object]] = {}  # name -> place of the value, value
    if file is not None:
        sources |= {name: (name, value) for name, value in read_file(file).items()}
    for row in TABLE:
        if text := environment.get(row.variable):
            sources[row.name] = row.variable, text
    sources |= {name: (ROWS[name].flag, value) for name, value in flags.items()}
    values: dict[str, Any] = {
        ROWS[name].field: ROWS[name].parse(place, value) for name, (place, value) in sources.items()
    }
    for name in ("targets", "targets-dir"):
        if name in sources:
            _check_alone(name, sources)
    if host := environment.get(OLLAMA_HOST):
        values.setdefault("ollama_url", parsers.url(OLLAMA_HOST, host))
    return Settings(**values)


def is_of_one_server(name: str) -> bool:
    """Return whether a setting makes no sense where several servers are watched."""
    if name == "ollama.timeout":
        return False
    return name.startswith(ONE_SERVER) or name in ONE_SERVER_SECTIONS


def _check_alone(fleet: str, sources: Mapping[str, tuple[str, object]]) -> None:
    """Raise ConfigError if a setting of the only server is given beside those of a fleet."""
    for name in sources:
        if is_of_one_server(name):
            accepted = f"it is for one server, and {fleet} names several; leave one of them out"
            if name in ("ollama.url", "ollama.token-file", "ollama.ca-file"):
                accepted += "; a target has its own url, bearer-token-file, tls and others"
            raise ConfigError(sources[name][0], HIDDEN, accepted)


def read_file(file: Path) -> dict[str, object]:
    """Return the values in a configuration file, by name of the setting. Raises ConfigError."""
    loaded = read_yaml(file)
    for key, value in loaded.items():
        if key not in ROWS:
            raise ConfigFileError(file, f"unknown key {str(key)[:200]!r}; {_hint(str(key), value)}")
    return {str(key): value for key, value in loaded.items()}


def _hint(key: str, value: object) -> str:
    """Return what to write instead of an unknown key."""
    if isinstance(value, dict):
        nested = next((f"{key}.{inner}" for inner in value if f"{key}.{inner}" in ROWS), None)
        if nested is not None:
            return f"keys are flat: write {nested}: {str(value[nested[len(key) + 1 :]])[:50]}"
    near = difflib.get_close_matches(key[:200], ROWS, n=1)
    return f"did you mean {near[0]}?" if near else "docs/configuration.md lists all keys"
