# SPDX-License-Identifier: Apache-2.0
"""Stand-in until protocol/keepalive.py lands."""

import re

from ollama_exporter.simulator.gojson import kind_of
from ollama_exporter.simulator.state import NEVER

_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_keep_alive(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool):
        raise ValueError("Unsupported type: 'bool'")
    if isinstance(value, int | float):
        return NEVER if value < 0 else float(value)
    if not isinstance(value, str):
        raise ValueError(f"Unsupported type: '{kind_of(value)}'")
    if value == "0":
        return 0.0
    sign, rest = (-1, value[1:]) if value.startswith("-") else (1, value)
    if re.fullmatch(r"[0-9.]+", rest):
        raise ValueError(f'time: missing unit in duration "{value}"')
    parts = re.findall(r"([0-9.]+)(ns|us|ms|s|m|h)", rest)
    if not parts:
        raise ValueError(f'time: invalid duration "{value}"')
    total = sign * sum(float(n) * _UNITS[u] for n, u in parts)
    return NEVER if total < 0 else total
