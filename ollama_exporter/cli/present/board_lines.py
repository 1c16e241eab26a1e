# SPDX-License-Identifier: Apache-2.0
"""What the boards of `top` are made of: styles, words, and lines that fit. Pure."""

import math
from typing import Final

from rich.text import Text

LEAST_WIDTH: Final = 60
DIM: Final = "dim"
BOLD: Final = "bold"
BAD: Final = "red"
GOOD: Final = "green"
WARN: Final = "yellow"


def fitted(
    head: list[Text], body: list[Text], foot: Text, *, width: int, height: int
) -> list[Text]:
    """Return exactly `height` lines of at most `width` cells; `foot` is the last one."""
    room = max(0, height - len(head) - 1)
    body = body[:room] + [Text()] * max(0, room - len(body))
    lines = [*head, *body, foot]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        line.no_wrap = True
    return lines[:height]


def window(length: int, chosen: int, most: int) -> tuple[int, int]:
    """Return which part of a list is shown, at most `most` of it: the chosen one is in it."""
    begin = min(max(0, chosen - most + 1), max(0, length - most))
    return begin, min(length, begin + most)


def countdown(seconds: float) -> str:
    """Write what is left, to the second: 1:32."""
    left = max(0, math.ceil(seconds))
    if left >= 3600:  # noqa: PLR2004 - an hour
        return f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
    return f"{left // 60}:{left % 60:02d}"


def ago(seconds: float) -> str:
    """Write how long ago something was."""
    seconds = max(0.0, seconds)
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.0f} s"
    if seconds < 3600:  # noqa: PLR2004 - an hour
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def gigabytes(size: float) -> str:
    """Write bytes for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"  # noqa: PLR2004 - 0.1 GB
