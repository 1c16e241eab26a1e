# SPDX-License-Identifier: Apache-2.0
"""Lines whose keys a collector has sorted or added to. Pure."""

import re
from typing import Final

PAIR: Final = re.compile(r'([A-Za-z_][\w.@/-]{0,63})=("(?:[^"\\]|\\.)*+"|[^\s"]*+)(?: ++|$)')
MOST_PAIRS: Final = 64
NAMES: Final = (("time", "ts"), ("level", "lvl"), ("source", "caller"), ("msg",))  # as Ollama's


def in_order(text: str) -> str:
    """Return a line that is nothing but keys and values in Ollama's order; others as they are.

    Only if it has a time, a level, a source and a message, as each line of the server has.
    """
    text = text.rstrip()
    pairs: dict[str, str] = {}
    at = 0
    while at < len(text) and len(pairs) < MOST_PAIRS:
        found = PAIR.match(text, at)
        if found is None:
            return text
        pairs.setdefault(found[1], found[2])
        at = found.end()
    ordered = []
    for names in NAMES:
        name = next((each for each in names if each in pairs), None)
        if name is None:
            return text
        ordered.append(f"{names[0]}={pairs.pop(name)}")
    return " ".join([*ordered, *(f"{name}={value}" for name, value in pairs.items())])
