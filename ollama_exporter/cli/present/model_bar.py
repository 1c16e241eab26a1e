# SPDX-License-Identifier: Apache-2.0
"""The bar of a model in `top`: its last ten minutes in a row of cells. Pure."""

import itertools
import math
from collections.abc import Iterator
from typing import Final

from rich.text import Text

from ollama_exporter.cli.present.board_lines import BAD, DIM, GOOD, WARN
from ollama_exporter.story.document import StatusDocument

SPAN: Final = 600.0  # seconds that a bar shows
LEGEND: Final = "█ in memory ▒ loading ░ changed x dead ? unknown · absent"
# What a cell of a bar shows, and how: of two things in its time, the later of this list.
Sign = tuple[int, str, str]
ABSENT: Final[Sign] = (0, "·", DIM)
NOT_KNOWN: Final[Sign] = (1, "?", DIM)
IN_MEMORY: Final[Sign] = (2, "█", GOOD)
UNSURE: Final[Sign] = (3, "░", GOOD)
LOADING: Final[Sign] = (4, "▒", WARN)
DEAD: Final[Sign] = (5, "x", BAD)


def model_bar(name: str, document: StatusDocument, *, now: float, cells: int) -> Text:
    """Return the last SPAN seconds of a model. A cell shows the rarest thing in its time."""
    begin, step = now - SPAN, SPAN / cells
    signs = [ABSENT] * cells
    for low, high, sign in _stretches(name, document, now):
        if high > begin and low < now:
            first = max(0, int((low - begin) / step))
            last = min(cells, math.ceil((min(high, now) - begin) / step))
            for cell in range(first, last):
                signs[cell] = max(signs[cell], sign)
    line = Text()
    for (_, drawn, style), run in itertools.groupby(signs):
        line.append(drawn * sum(1 for _ in run), style=style)
    return line


def _stretches(
    name: str, document: StatusDocument, now: float
) -> Iterator[tuple[float, float, Sign]]:
    for outage in document.past.outages:
        yield outage.start, outage.end or now, NOT_KNOWN
    for stay in document.past.stays:
        if stay.model == name:
            end = now if stay.end is None else stay.end
            if stay.loading is not None:
                yield stay.loading, stay.start, LOADING
            if stay.low is not None:
                yield stay.low, stay.start, UNSURE
            if stay.end_low is not None:
                yield stay.end_low, end, UNSURE
            yield stay.start, stay.end_low or end, DEAD if stay.dead else IN_MEMORY
    for model in document.status.models:
        if model.name == name and not model.resident and model.loading_since is not None:
            yield model.loading_since, now, LOADING
