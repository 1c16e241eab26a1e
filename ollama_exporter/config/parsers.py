# SPDX-License-Identifier: Apache-2.0
"""What each kind of setting accepts. Each parser takes the setting's name and its raw value.

They raise ConfigError: the name, the value, what is accepted.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ollama_exporter.config.target import base_url
from ollama_exporter.errors import ConfigError

DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(GiB|MiB|GB|MB)?", re.IGNORECASE)
SIZES: Final = {"gib": 1 << 30, "mib": 1 << 20, "gb": 10**9, "mb": 10**6}
SHORTEST_INTERVAL: Final = 1.0  # older servers read their list without a lock: poll gently
HIGHEST_PORT: Final = 65535


def url(name: str, value: object) -> str:
    """Accept a base URL."""
    return base_url(text(name, value), field=name)


def text(name: str, value: object) -> str:
    """Accept a text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(name, value, "accepted: a text")
    return value


def path(name: str, value: object) -> Path:
    """Accept the path of a file."""
    return Path(text(name, value))


def duration(name: str, value: object) -> float:
    """Accept a positive duration; return seconds."""
    accepted = "accepted: a positive duration such as 15s, 500ms, 1m"
    match = DURATION.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
    seconds = float(match[1]) * UNITS[match[2]] if match else 0.0
    if seconds <= 0:
        raise ConfigError(name, value, accepted)
    return seconds


def size(name: str, value: object) -> int:
    """Accept a size such as 24GiB or 8192MiB, GiB if no unit is given; return bytes."""
    match = SIZE.fullmatch(str(value).strip())
    unit = SIZES[(match[2] or "GiB").lower()] if match else 0
    found = int(float(match[1]) * unit) if match else 0
    if found <= 0:
        raise ConfigError(name, value, "accepted: a size such as 24GiB or 8192MiB")
    return found


def interval(name: str, value: object) -> float:
    """Accept a duration of at least a second."""
    seconds = duration(name, value)
    if seconds < SHORTEST_INTERVAL:
        raise ConfigError(name, value, "accepted: 1s or more")
    return seconds


def flag(name: str, value: object) -> bool:
    """Accept a truth value."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    known = words.get(str(value).lower())
    if known is None:
        raise ConfigError(name, value, "accepted: true or false")
    return known


def texts(name: str, value: object) -> tuple[str, ...]:
    """Accept a list of texts, or one text split at blanks."""
    items = value.split() if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ConfigError(name, value, "accepted: a list of texts")
    return tuple(text(name, item) for item in items)


def addresses(name: str, value: object) -> tuple[str, ...]:
    """Accept listen addresses."""
    addresses = texts(name, value)
    for address in addresses:
        split_address(address, field=name)
    if not addresses:
        raise ConfigError(name, value, "accepted: at least one HOST:PORT")
    return addresses


def telemetry_path(name: str, value: object) -> str:
    """Accept the path of the metrics."""
    written = text(name, value)
    taken = written == "/sd" or written.startswith("/-/")
    if taken or not re.fullmatch(r"(/[\w\-.~]+)+", written):
        accepted = "accepted: a path that begins with a slash, not /, /sd or /-/…"
        raise ConfigError(name, value, accepted)
    return written


def count(least: int) -> Callable[[str, object], int]:
    """Return what accepts a whole number from `least`."""

    def parse(name: str, value: object) -> int:
        written = str(value)
        if isinstance(value, bool) or not re.fullmatch(r"\d{1,9}", written) or int(written) < least:
            raise ConfigError(name, value, f"accepted: a whole number from {least}")
        return int(written)

    return parse


def choice(*choices: str) -> Callable[[str, object], str]:
    """Return what accepts one of these."""

    def parse(name: str, value: object) -> str:
        if value not in choices:
            raise ConfigError(name, value, f"accepted: {', '.join(choices)}")
        return str(value)

    return parse


def log_source(name: str, value: object) -> str:
    """Accept the path of a file, `journal`, or `journal:UNIT`."""
    written = text(name, value)
    kind, colon, unit = written.partition(":")
    if kind == "journal" and colon and not re.fullmatch(r"[\w@.\\][\w@.:\\-]*", unit):
        raise ConfigError(name, value, "accepted: FILE, journal, or journal:UNIT")
    return written


def split_address(address: str, *, field: str = "web.listen-address") -> tuple[str, int]:
    """Return host and port of a listen address; an empty host means all interfaces.

    Raises ConfigError.
    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    bare = ":" in host and not address.startswith("[")
    if not colon or bare or not re.fullmatch(r"\d{1,5}", port) or int(port) > HIGHEST_PORT:
        raise ConfigError(field, address, "accepted: HOST:PORT, :PORT or [IPv6]:PORT")
    return host, int(port)
