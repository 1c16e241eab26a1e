# SPDX-License-Identifier: Apache-2.0
"""What keys do."""

from hypothesis import given
from hypothesis import strategies as st

from ollama_exporter.cli.present.board import BoardState
from ollama_exporter.cli.present.board_keys import LONGEST_PATTERN, pressed, split_keys

NAMES = ["a", "b", "c"]


def after(*keys: str, names: list[str] = NAMES) -> BoardState | None:
    state: BoardState | None = BoardState()
    for key in keys:
        assert state is not None
        state = pressed(state, key, names)
    return state


def test_quit() -> None:
    assert after("q") is None
    assert after("\x03") is None
    assert after("/", "\x03") is None
    assert after("/", "q") == BoardState(typing=True, pattern="q")


def test_choosing_stops_at_the_ends() -> None:
    down, up = "\x1b[B", "\x1b[A"
    assert after(down) == BoardState(chosen="a")
    assert after(down, "j", down, down, down) == BoardState(chosen="c")
    assert after(down, down, "k", up, up) == BoardState(chosen="a")
    assert after(down, names=[]) == BoardState()


def test_a_story_and_back() -> None:
    assert after("j", "j", "\r") == BoardState(chosen="b", view="story")
    assert after("\n") == BoardState(chosen="a", view="story")
    assert after("\n", "\x1b") == BoardState(chosen="a")
    assert after("\n", names=[]) == BoardState()
    assert after("?", "?") == BoardState()


def test_a_filter_is_typed_kept_and_dropped() -> None:
    assert after("/", "l", "x", "\x7f", "\r") == BoardState(pattern="l")
    assert after("/", "l", "\x1b") == BoardState()
    assert after("/", "l", "\r", "\x1b") == BoardState()
    assert after("/", "\x00") == BoardState(typing=True)


def test_sorting_goes_round() -> None:
    assert after("s") == BoardState(sort="name")
    assert after("s", "s", "s", "s") == BoardState()


@given(st.text(max_size=300))
def test_whatever_is_typed_or_pasted(typed: str) -> None:
    keys = split_keys(typed)
    assert "".join(keys) == typed
    state = BoardState()
    for key in keys:
        following = pressed(state, key, NAMES)
        if following is None:
            return
        state = following
        assert len(state.pattern) <= LONGEST_PATTERN
