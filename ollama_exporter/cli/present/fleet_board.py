# SPDX-License-Identifier: Apache-2.0
"""The board of `top` for several servers: a list to choose from. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from ollama_exporter.cli.present.board import BoardState
from ollama_exporter.cli.present.board_lines import (
    BAD,
    BOLD,
    DIM,
    LEAST_WIDTH,
    WARN,
    fitted,
    window,
)
from ollama_exporter.cli.present.quantities import countdown, gigabytes
from ollama_exporter.foreign_text import clean
from ollama_exporter.story.fleet_document import FleetDocument, TargetModel, TargetNow

REST: Final = 20  # cells of the columns before the models, besides the name
FLEET_HELP: Final = (
    ("q, Ctrl-C", "quit"),
    ("/", "show only servers whose name has a text; Esc drops it"),
    ("up, down, k, j", "choose a server"),
    ("Enter", "its models"),
    ("?", "this help"),
    ("", ""),
    ("IN MEMORY", "models, those first that leave first, and what is left of their keep-alive"),
)


def shown_targets(document: FleetDocument, state: BoardState) -> list[TargetNow]:
    """Return the servers that pass the filter."""
    return [x for x in document.targets if state.pattern.lower() in x.name.lower()]


def fleet_board(
    document: FleetDocument,
    state: BoardState,
    *,
    now: float,
    width: int,
    height: int,
    problem: str = "",
) -> list[Text]:
    """Return exactly `height` lines of at most `width` cells. `now`: Unix seconds."""
    width = max(width, LEAST_WIDTH)
    answering = sum(target.up for target in document.targets)
    head = [
        Text(f"{answering} of {len(document.targets)} servers answer", style=BOLD),
        *([Text(f"! {problem}", style=BAD)] if problem else []),
        Text(),
    ]
    room = max(0, height - len(head) - 1)
    if state.view == "help":
        body = [Text(f"  {key:<16} {text}") for key, text in FLEET_HELP]
    else:
        body = list(_rows(shown_targets(document, state), state, now, width, room))
    keys = "q quit  / filter  up/down choose  Enter models  ? help"
    pattern = f"  /{state.pattern}" if state.pattern else ""
    foot = Text(f"/{state.pattern}_") if state.typing else Text(f"{keys}{pattern}", style=DIM)
    return fitted(head, body, foot, width=width, height=height)


def fleet_table(document: FleetDocument, *, now: float) -> list[str]:
    """Return the servers as lines of tab-separated values, with a head."""
    lines = ["target\tup\tversion\tbytes\tmodels\tnext_unload\tunloads_in_seconds"]
    for target in document.targets:
        first = next((model for model in target.models if model.deadline is not None), None)
        left = None if first is None or first.deadline is None else max(0, first.deadline - now)
        values = (
            *(clean(target.name), int(target.up), target.version or ""),
            *(sum(model.size for model in target.models), len(target.models)),
            *("" if first is None else first.name, "" if left is None else f"{left:.0f}"),
        )
        lines.append("\t".join(map(str, values)))
    return lines


def _rows(
    found: Sequence[TargetNow], state: BoardState, now: float, width: int, room: int
) -> Iterator[Text]:
    names = max([6, *(cell_len(clean(target.name)) for target in found)])
    names = min(names, 20 if width < 100 else 40)  # noqa: PLR2004 - columns
    head = f"  {'SERVER':<{names}} {'ANSWERS':<7} {'MEMORY':>8}  IN MEMORY"
    yield Text(head, style=DIM)
    chosen = next((n for n, x in enumerate(found) if x.name == state.target), 0)
    begin, end = window(len(found), chosen, max(1, room - 2))
    for target in found[begin:end]:
        yield _row(target, target.name == state.target, names, now)
    if end - begin < len(found):
        yield Text(f"  {begin + 1} to {end} of {len(found)}", style=DIM)
    if not found:
        yield Text("  no such server" if state.pattern else "  no servers")


def _row(target: TargetNow, is_chosen: bool, names: int, now: float) -> Text:  # noqa: FBT001 - private
    name = Text(clean(target.name))
    name.truncate(names, overflow="ellipsis", pad=True)
    size = sum(model.size for model in target.models)
    line = Text("> " if is_chosen else "  ").append_text(name)
    line.append(f" {'yes' if target.up else 'NO':<7}", style="" if target.up else BAD)
    line.append(f" {gigabytes(size) if size else '':>8}  ")
    for number, model in enumerate(target.models):
        line.append(f"{', ' if number else ''}{model.name} ")
        word = _left(model, now)
        line.append(word, style=WARN if word == "in use" else DIM)
    if is_chosen:
        line.stylize(BOLD)
    return line


def _left(model: TargetModel, now: float) -> str:
    if model.pinned:
        return "forever"
    if model.deadline is None:
        return "?"
    return countdown(model.deadline - now) if model.deadline > now else "in use"
