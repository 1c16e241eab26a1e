# SPDX-License-Identifier: Apache-2.0
"""A request taken apart as a bar: what its wait was made of.

Letters carry what colour repeats, so that a monochrome terminal or a log loses nothing.
"""

from dataclasses import dataclass
from typing import Final

from rich.text import Text

from ollama_exporter.shim.observation import Observation, Start

WIDTH: Final = 40  # columns of the longest bar
NARROW: Final = 8  # columns below which a bar says nothing


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a wait."""

    name: str
    letter: str
    style: str
    seconds: float


def parts(seen: Observation) -> list[Part]:
    """Return the parts of a request in order of time. What nothing explains is the rest."""
    read = seen.response
    load, prompt, answer = seen.load_wait or 0.0, read.prompt_eval or 0.0, read.eval or 0.0
    rest = max(0.0, seen.duration - load - prompt - answer)
    return [
        Part("load", "L", "red", load),
        Part("prompt", "P", "yellow", prompt),
        Part("answer", "A", "green", answer),
        Part("rest", "·", "dim", rest),
    ]


def fitting(columns: int, *texts: str) -> int:
    """Return how wide a bar may be, so that it and the texts fit into the columns; 0: no bar."""
    left = min(WIDTH, columns - sum(map(len, texts)) - len("||"))
    return left if left >= NARROW else 0


def bar(seen: Observation, *, longest: float, width: int = WIDTH) -> Text:
    """Draw a request as a bar; `longest`: seconds that fill the whole width."""
    drawn, columns = Text("|"), 0.0
    end = 0
    for part in parts(seen):
        columns += part.seconds / longest * width
        length = max(0, min(width, round(columns)) - end)
        drawn.append(part.letter * length, part.style)
        end += length
    return drawn.append("|")


def words(seen: Observation) -> str:
    """Name its parts that are worth a tenth of a second."""
    named = [f"{p.name} {p.seconds:.1f}" for p in parts(seen) if p.seconds >= 0.05]  # noqa: PLR2004 - rounds to a tenth
    return ", ".join(named) or "nothing worth a tenth of a second"


def beside(seen: list[Observation], *, columns: int) -> list[Text]:
    """Return a cold call beside a warm one whose answer took as long; empty: there is no pair."""
    taken = [s for s in seen if s.response.eval is not None and s.model is not None]
    pairs = [
        (cold, warm)
        for cold in taken
        for warm in taken
        if (cold.start, warm.start) == (Start.COLD, Start.WARM) and cold.model == warm.model
    ]
    if not pairs:
        return []
    pair = min(pairs, key=lambda p: abs((p[0].response.eval or 0) - (p[1].response.eval or 0)))
    longest = max(seen.duration for seen in pair)
    lines = [Text(f"A cold and a warm request to {pair[0].model}:")]
    heads = [f"  {each.start.value:<5}{each.duration:5.1f} s " for each in pair]
    tails = [f"  {words(each)}" for each in pair]
    width = min(fitting(columns, head, tail) for head, tail in zip(heads, tails, strict=True))
    for each, head, tail in zip(pair, heads, tails, strict=True):
        line = Text(head)
        line.append_text(bar(each, longest=longest, width=width))
        lines.append(line.append(tail))
    return lines
