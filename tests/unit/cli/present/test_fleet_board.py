# SPDX-License-Identifier: Apache-2.0
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from ollama_exporter.cli.present.board import BoardState
from ollama_exporter.cli.present.board_keys import ESCAPE, pressed
from ollama_exporter.cli.present.board_lines import LEAST_WIDTH, window
from ollama_exporter.cli.present.fleet_board import fleet_board, fleet_table, shown_targets
from ollama_exporter.story.fleet_document import FleetDocument, TargetModel, TargetNow

NOW: Final = 1_795_800_000.0
GB: Final = 10**9
DOCUMENT: Final = FleetDocument(
    now=NOW,
    targets=(
        TargetNow(name="gpu-2", up=False),
        TargetNow(
            name="gpu-1",
            up=True,
            version="0.33.0",
            models=(
                TargetModel(name="busy:1b", size=GB, deadline=NOW - 5),
                TargetModel(name="mistral:latest", size=5 * GB, deadline=NOW + 92),
                TargetModel(name="qwen2.5:7b", size=5 * GB, pinned=True),
                TargetModel(name="new:1b", size=GB),
            ),
        ),
    ),
)
LIST: Final = BoardState(view="targets", opened=False, is_fleet=True)
BOARD: Final = """\
1 of 2 servers answer
! cut off

  SERVER ANSWERS   MEMORY  IN MEMORY
> gpu-2  NO
  gpu-1  yes      12.0 GB  busy:1b in use, mistral:latest 1:32, qwen2.5:7b fore…



q quit  / filter  up/down choose  Enter models  ? help"""


def test_what_it_says_in_80_columns() -> None:
    chosen = pressed(LIST, "j", ["gpu-2", "gpu-1"])
    assert chosen is not None
    lines = fleet_board(DOCUMENT, chosen, now=NOW, width=80, height=10, problem="cut off")
    assert "\n".join(line.plain.rstrip() for line in lines) == BOARD


def test_a_pipe_gets_values_of_servers() -> None:
    assert [line.split("\t") for line in fleet_table(DOCUMENT, now=NOW)][1:] == [
        ["gpu-2", "0", "", "0", "0", "", ""],
        ["gpu-1", "1", "0.33.0", str(12 * GB), "4", "busy:1b", "0"],
    ]


def test_keys_open_a_server_and_lead_back_to_the_list() -> None:
    state: BoardState | None = LIST
    seen = []
    for key in ("/", "1", "\r", "\r", "\r", "?", "?", ESCAPE, "?", ESCAPE):
        assert state is not None
        names = [target.name for target in shown_targets(DOCUMENT, state)]
        state = pressed(state, key, ["mistral:latest"] if state.opened else names)
        assert state is not None
        seen.append((state.view, state.opened, state.target))
    assert seen == [
        *[("targets", False, "")] * 3,
        ("models", True, "gpu-1"),
        ("story", True, "gpu-1"),
        ("help", True, "gpu-1"),
        ("models", True, "gpu-1"),
        ("targets", False, "gpu-1"),
        ("help", False, "gpu-1"),
        ("targets", False, "gpu-1"),
    ]


NAMES: Final = st.text(min_size=1, max_size=120).filter(lambda name: name.isprintable())


@given(
    names=st.lists(NAMES, max_size=60, unique=True),
    width=st.integers(1, 250),
    height=st.integers(1, 80),
    at=st.integers(0, 59),
)
def test_it_always_fits_and_shows_the_chosen_one(
    names: list[str], width: int, height: int, at: int
) -> None:
    models = (TargetModel(name="m" * 200, deadline=NOW + 5),)
    targets = tuple(TargetNow(name=name, up=True, models=models) for name in names)
    chosen = names[at] if at < len(names) else ""
    state = BoardState(view="targets", opened=False, is_fleet=True, target=chosen)
    document = FleetDocument(now=NOW, targets=targets)
    lines = fleet_board(document, state, now=NOW, width=width, height=height)
    assert len(lines) == height
    assert all(line.cell_len <= max(width, LEAST_WIDTH) for line in lines)
    assert not chosen or height < 6 or any(line.plain.startswith("> ") for line in lines)


@given(length=st.integers(0, 100), chosen=st.integers(0, 99), most=st.integers(1, 50))
def test_a_window_is_as_large_as_it_may_be_and_holds_the_chosen_one(
    length: int, chosen: int, most: int
) -> None:
    begin, end = window(length, min(chosen, max(0, length - 1)), most)
    assert end - begin == min(length, most)
    assert not length or begin <= min(chosen, length - 1) < end
