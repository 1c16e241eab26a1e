# SPDX-License-Identifier: Apache-2.0
"""Converts every form of keep_alive that the server accepts to and from seconds.

In a request's JSON a number is seconds and a string is a Go duration, so `"300"` is rejected. Any
negative value means forever, and zero unloads the model after the request.
"""

import math
import re
from typing import Final

from ollama_exporter.errors import OllamaExporterError

# The units of Go's time.ParseDuration, with both of its micro signs.
UNITS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
PART: Final = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]*)")
LARGEST_INT: Final = 2**63
LONGEST: Final = (2**63 - 1) / 1e9  # a Go duration is an int64 of nanoseconds: 292 years
NANOSECOND: Final = 1e-9  # a duration is a whole number of these; Go cuts the rest off
DEFAULT: Final = 300.0
GRAIN: Final = 1e-3  # seconds; differences of Unix times are floats, right to a microsecond
ROUND_UNITS: Final = (3600, 60, 10, 1)  # of the keep-alives that people write
FOR_EVER: Final = -1.0  # JSON has no infinity


class KeepAliveError(OllamaExporterError):
    """A keep_alive that the server rejects with 400. The text is the server's own."""


def parse(value: object) -> float | None:
    """Return the seconds of a request's `keep_alive`: inf forever, None if it has none.

    Raises KeepAliveError, with the server's text, for what the server rejects.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        kind = {bool: "bool", list: "[]interface {}", dict: "map[string]interface {}"}
        raise KeepAliveError(f"Unsupported type: '{kind.get(type(value), type(value).__name__)}'")
    if isinstance(value, str):
        seconds = parse_duration(value)
        return 0.0 if abs(seconds) < NANOSECOND else _seconds(seconds)
    # Beyond int64, Go's conversion gives the lowest int64 on amd64: the runner unloads at once.
    if value > LONGEST or value * 1e9 >= LARGEST_INT:
        return 0.0
    return 0.0 if 0 <= value < NANOSECOND else _seconds(float(value))


def parse_duration(text: str) -> float:
    """Return the seconds of a Go duration such as `1h30m`, `-1s`, `.5m`, `0`.

    Raises KeepAliveError with the text of Go's time.ParseDuration.
    """
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    sign = -1.0 if text.startswith("-") else 1.0
    rest = text[1:] if text.startswith(("-", "+")) else text
    if rest == "0":
        return 0.0
    if not rest:
        raise KeepAliveError(f"time: invalid duration {quoted}")
    total, position = 0.0, 0
    while position < len(rest):
        match = PART.match(rest, position)
        if match is None:
            raise KeepAliveError(f"time: invalid duration {quoted}")
        number, unit = match.groups()
        if not unit:
            raise KeepAliveError(f"time: missing unit in duration {quoted}")
        if unit not in UNITS:
            raise KeepAliveError(f'time: unknown unit "{unit}" in duration {quoted}')
        total += float(number) * UNITS[unit]
        position = match.end()
    if total > LONGEST:
        raise KeepAliveError(f"time: invalid duration {quoted}")
    return sign * total


def render(seconds: float) -> str:
    """Return a duration as Go prints it: `5m0s`, `1.5s`, `250ms`; `-1` for ever."""
    if math.isinf(seconds):
        return "-1"
    if seconds == 0:
        return "0s"
    for unit, size in (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3)):
        if seconds < size * 1000 - 1e-12:
            return f"{_number(seconds / size)}{unit}"
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    head = f"{int(hours)}h{int(minutes)}m" if hours else f"{int(minutes)}m" if minutes else ""
    return f"{head}{_number(rest)}s"


def compact(seconds: float) -> str:
    """Return the shortest text for OLLAMA_KEEP_ALIVE: `10m`, `1h30m`, `0`; `-1` for ever."""
    if math.isinf(seconds):
        return "-1"
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{_number(value)}{unit}" for value, unit in parts if value) or "0"


def literal(seconds: float) -> str:
    """Return the JSON of a request's `keep_alive`: `"10m"`, `0`; `-1` for ever."""
    text = compact(seconds)
    return text if text in ("-1", "0") else f'"{text}"'


def roundest(low: float, high: float) -> float:
    """Return the keep-alive that people write most likely, above `low` and up to `high` seconds.

    Both bounds are right to a millisecond. Whole hours come before whole minutes, tens of seconds
    and seconds. Bounds without a whole second between them, other than 0, give `high`.
    """
    if math.isinf(high):
        return high
    for unit in ROUND_UNITS:
        found = float(math.floor((high + GRAIN) / unit) * unit)
        if found > max(low - GRAIN, 0.0):
            return found
    return high


def as_number(seconds: float) -> float:
    """Return seconds as JSON can carry them: FOR_EVER for infinity."""
    return FOR_EVER if math.isinf(seconds) else seconds


def _number(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".")


def _seconds(value: float) -> float:
    return math.inf if value < 0 else value
