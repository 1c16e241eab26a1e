# SPDX-License-Identifier: Apache-2.0
"""Every form of keep_alive that the server takes, to and from seconds.

In a request's JSON a number is seconds and a string is a Go duration, so `"300"` is refused; in
OLLAMA_KEEP_ALIVE `300` is seconds. Any negative value means for ever, zero unloads at once.
"""

import math
import re
from typing import Final

from ollama_exporter.errors import OllamaExporterError

# What Go's time.ParseDuration accepts; both spellings of micro are in Go's own table.
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
LONGEST: Final = (2**63 - 1) / 1e9  # a Go duration is an int64 of nanoseconds: about 292 years
DEFAULT: Final = 300.0


class KeepAliveError(OllamaExporterError):
    """A keep_alive that the server refuses with 400; the text is the server's own."""


def parse(value: object) -> float | None:
    """Return the seconds that a request's `keep_alive` asks for: inf for ever, None: not given.

    Raises KeepAliveError with the server's error text for what it refuses.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        kind = {bool: "bool", list: "[]interface {}", dict: "map[string]interface {}"}
        raise KeepAliveError(f"Unsupported type: '{kind.get(type(value), type(value).__name__)}'")
    if isinstance(value, str):
        return _seconds(parse_duration(value))
    # Beyond int64 the conversion wraps to the lowest value on amd64: the runner goes at once.
    if abs(value) > LONGEST and value > 0:
        return 0.0
    return _seconds(float(value))


def parse_duration(text: str) -> float:
    """Return the seconds of a Go duration such as `1h30m`, `-1s`, `.5m`, `0`.

    Raises KeepAliveError in the words of Go's time.ParseDuration.
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


def parse_environment(text: str) -> float:
    """Return the seconds that OLLAMA_KEEP_ALIVE asks for; garbage silently means the default."""
    text = text.strip().strip("\"'")
    try:
        return _seconds(parse_duration(text))
    except KeepAliveError:
        pass
    try:
        return _seconds(float(int(text)))
    except ValueError:
        return DEFAULT


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


def _number(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".")


def _seconds(value: float) -> float:
    return math.inf if value < 0 else value
