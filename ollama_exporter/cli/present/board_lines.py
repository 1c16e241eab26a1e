# SPDX-License-Identifier: Apache-2.0
"""What the boards of `top` are made of: styles, words, and lines that fit. Pure."""

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
