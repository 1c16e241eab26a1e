# SPDX-License-Identifier: Apache-2.0
"""Parsers for the sections of the configuration file."""

import difflib
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ollama_exporter.config import parsers
from ollama_exporter.errors import ConfigError
from ollama_exporter.protocol.keepalive import KeepAliveError, parse

Parser = Callable[[str, object], Any]
KEEP_ALIVE: Final = "accepted: a duration such as 10m or 1h30m, seconds as a number, -1 forever"
NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")
MOST_MODELS: Final = 1000


def section(name: str, value: object, keys: Mapping[str, Parser]) -> dict[str, Any]:
    """Parse a mapping with known keys; missing ones are left out. Raises ConfigError."""
    parsed = {}
    for key, item in entries(name, value).items():
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            hint = f"did you mean {near[0]}?" if near else f"accepted: {', '.join(keys)}"
            raise ConfigError(name, key, f"unknown key; {hint}")
        parsed[key.replace("-", "_")] = keys[key](f"{name}.{key}", item)
    return parsed


def entries(name: str, value: object, *, most: int = MOST_MODELS) -> dict[str, Any]:
    """Accept a mapping with texts as keys; nothing is an empty mapping. Raises ConfigError."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(name, value, "accepted: a mapping")
    if len(value) > most:
        raise ConfigError(name, f"{len(value)} entries", f"accepted: at most {most}")
    for key in value:
        if not isinstance(key, str) or not key.strip():
            raise ConfigError(name, key, "accepted: a text, as all keys are")
    return value


def keep_alive(name: str, value: object) -> float:
    """Accept what the server accepts as keep_alive, and a number of seconds as a text.

    Return seconds, inf for forever. Raises ConfigError.
    """
    plain = isinstance(value, str) and NUMBER.fullmatch(value.strip())
    try:
        seconds = parse(float(str(value)) if plain else value)
    except KeepAliveError as err:
        raise ConfigError(name, value, f"{KEEP_ALIVE} ({err})") from err
    is_odd = isinstance(value, float) and not math.isfinite(value)  # .inf and .nan of YAML
    if seconds is None or is_odd:
        raise ConfigError(name, value, KEEP_ALIVE)
    return seconds


def positive_keep_alive(name: str, value: object) -> float:
    """Accept a keep_alive above zero, which would unload the model. Raises ConfigError."""
    seconds = keep_alive(name, value)
    if seconds <= 0:
        raise ConfigError(name, value, f"{KEEP_ALIVE}; more than 0")
    return seconds


def context(name: str, value: object) -> int:
    """Accept a num_ctx. Raises ConfigError."""
    return parsers.count(1)(name, value)
