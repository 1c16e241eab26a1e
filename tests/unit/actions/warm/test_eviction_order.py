# SPDX-License-Identifier: Apache-2.0
import math

import pytest

from ollama_exporter.actions.warm.eviction_order import Occupant, eviction_order, victims

GIB = 1 << 30
SMALL = Occupant("small", 4 * GIB, 300.0, "sha256-b")
PINNED = Occupant("pinned", 4 * GIB, math.inf, "sha256-a")
TWIN = Occupant("twin", 4 * GIB, 300.0, "sha256-a")


def test_the_shortest_keep_alive_goes_first_and_ties_by_weights() -> None:
    assert [m.name for m in eviction_order([PINNED, SMALL, TWIN])] == [
        "twin",
        "small",
        "pinned",
    ]


def test_idle_models_go_before_busy_ones() -> None:
    busy = Occupant("busy", 4 * GIB, 60.0, "sha256-a", busy=True)
    assert [m.name for m in eviction_order([busy, PINNED, SMALL])] == ["small", "pinned", "busy"]


@pytest.mark.parametrize(
    ("need", "names"),
    [(9, []), (10, ["twin"]), (13, ["twin", "small"]), (17, ["twin", "small", "pinned"])],
)
def test_as_many_go_as_are_needed_by_the_rule_of_eighty_percent(
    need: int, names: list[str]
) -> None:
    gone = victims(need * GIB, 24 * GIB, [PINNED, SMALL, TWIN])
    assert gone is not None
    assert [held.name for held in gone] == names


def test_alone_a_model_may_take_all_there_is_and_no_more() -> None:
    assert victims(24 * GIB, 24 * GIB, []) == []
    assert victims(25 * GIB, 24 * GIB, [SMALL]) is None
