# SPDX-License-Identifier: Apache-2.0
"""What keys do to the board of `top`. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from ollama_exporter.cli.present.board import SORTS, BoardState

INTERRUPT: Final = "\x03"
ENTER: Final = frozenset({"\r", "\n"})
BACKSPACE: Final = frozenset({"\x7f", "\b"})
ESCAPE: Final = "\x1b"
UP: Final = frozenset({"\x1b[A", "\x1bOA", "k"})
DOWN: Final = frozenset({"\x1b[B", "\x1bOB", "j"})
LONGEST_PATTERN: Final = 100


def split_keys(typed: str) -> list[str]:
    """Return the keys in what a terminal sent: characters, and sequences of a cursor key."""
    keys, rest = list[str](), typed
    while rest:
        size = 3 if rest[:2] in {"\x1b[", "\x1bO"} and len(rest) > 2 else 1  # noqa: PLR2004 - the introducer alone
        keys.append(rest[:size])
        rest = rest[size:]
    return keys


def pressed(state: BoardState, key: str, names: Sequence[str]) -> BoardState | None:
    """Return the state after a key; None: the reader wants to leave.

    `names`: of the models, or of the servers, as they are shown.
    """
    if key == INTERRUPT:
        return None
    if state.typing:
        return _typed(state, key)
    if key == "q":
        return None
    if key in UP or key in DOWN:
        return _stepped(state, names, 1 if key in DOWN else -1)
    if key in ENTER and names:
        return _chosen(state, names)
    return _command(state, key)


def _stepped(state: BoardState, names: Sequence[str], step: int) -> BoardState:
    if state.opened:
        return replace(state, chosen=_moved(state.chosen, names, step))
    return replace(state, target=_moved(state.target, names, step))


def _chosen(state: BoardState, names: Sequence[str]) -> BoardState:
    if state.opened:
        chosen = state.chosen if state.chosen in names else names[0]
        return replace(state, view="story", chosen=chosen)
    target = state.target if state.target in names else names[0]
    return replace(state, view="models", target=target, opened=True, chosen="", pattern="")


def _command(state: BoardState, key: str) -> BoardState:
    following = SORTS[(SORTS.index(state.sort) + 1) % len(SORTS)]
    home = "models" if state.opened else "targets"
    commands = {
        "s": replace(state, sort=following),
        "/": replace(state, typing=True, view=home),
        "?": replace(state, view=home if state.view == "help" else "help"),
        ESCAPE: _back(state, home),
    }
    return commands.get(key, state)


def _back(state: BoardState, home: str) -> BoardState:
    if state.view != home:
        return replace(state, view=home)
    if state.pattern or not state.is_fleet:
        return replace(state, pattern="")
    return replace(state, view="targets", opened=False)


def _typed(state: BoardState, key: str) -> BoardState:
    if key in ENTER:
        return replace(state, typing=False)
    if key == ESCAPE:
        return replace(state, typing=False, pattern="")
    if key in BACKSPACE:
        return replace(state, pattern=state.pattern[:-1])
    if key.isprintable():
        return replace(state, pattern=(state.pattern + key)[:LONGEST_PATTERN])
    return state


def _moved(chosen: str, names: Sequence[str], step: int) -> str:
    if not names:
        return ""
    if chosen not in names:
        return names[0]
    return names[min(max(names.index(chosen) + step, 0), len(names) - 1)]
