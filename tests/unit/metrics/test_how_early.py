# SPDX-License-Identifier: Apache-2.0
"""How long before its deadline a model left: what an alert says."""

import math
from collections.abc import Mapping

import pytest

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.events import Unloaded
from ollama_exporter.residency.facts import Snapshot
from ollama_exporter.residency.tracker import Tracker

START = 1_800_000_000.0
SIZE = 5 << 30


def listed(name: str, expires: float) -> RunningModel:
    return RunningModel(f"{name}:latest", name * 8, START + expires, SIZE, SIZE, 4096)


def how_early(expires: float, polls: Mapping[float, tuple[RunningModel, ...]]) -> float | None:
    """Return what is said of the first unload; its model is listed at the start."""
    tracker = Tracker(window=60.0)
    said = list(tracker.observe(Snapshot(START, START, (listed("a", expires),))))
    for at, models in polls.items():
        said += tracker.observe(Snapshot(START + at, START + at, models))
    return next(event.early for event in said if isinstance(event, Unloaded))


@pytest.mark.parametrize(
    ("expires", "early"),
    [(305.0, 300.0), (math.inf, math.inf), (4.0, 0.0), (5.05, pytest.approx(0.05))],
)
def test_it_is_counted_from_the_first_poll_that_did_not_list_it(
    expires: float, early: float
) -> None:
    assert how_early(expires, {5.0: (), 12.0: (listed("c", 312.0),)}) == early


def test_it_is_not_known_of_what_was_condemned_before_it_was_ever_idle() -> None:
    condemned = {at: (listed("a", at),) for at in (5.0, 10.0)}
    polls = condemned | {15.0: (), 90.0: ()}
    assert how_early(0.0, polls) is None
