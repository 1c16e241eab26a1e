# SPDX-License-Identifier: Apache-2.0
"""Several servers behind one address: a model that is missing there was not unloaded."""

import math
from dataclasses import replace

import pytest

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.events import Loaded, Reason, Restarted, Unloaded
from ollama_exporter.residency.facts import Snapshot
from tests.support.story import START, Story, model

A = (model("a", 4000.123456789),)
B = (model("b", 4100.987654321),)
# keep_alive -1: `expires_at` has the digits of the last use, three centuries later
PINNED_A = (replace(model("a", math.inf), announced="2318-10-01T12:00:00.001234567Z"),)
PINNED_B = (replace(model("b", math.inf), announced="2318-10-02T12:00:00.002469134Z"),)


def alternate(
    story: Story,
    *listings: tuple[RunningModel, ...],
    polls: int = 12,
    start: float = 0.0,
    step: float = 15.0,
    new_connection: bool = False,
) -> float:
    """Poll the servers in turn; return when the next poll is due."""
    for number in range(polls):
        models = listings[number % len(listings)]
        story.poll(start + number * step, *models, new_connection=new_connection)
    return start + polls * step


@pytest.mark.parametrize("new_connection", [False, True])
@pytest.mark.parametrize("step", [1.0, 5.0, 15.0])
@pytest.mark.parametrize(
    "listings",
    [
        (A, B),
        (A, ()),
        (PINNED_A, PINNED_B),
        (PINNED_A, ()),
        ((*A, model("c", 4200)), (*B, model("c", 4300))),
        ((*A, *B), A),
        ((model("a", 4000.5, context=2048),), A),
        ((model("a", math.inf), *A[:0], model("d", 4400.25)), B),
    ],
)
def test_no_unload_and_no_restart_is_counted(
    listings: tuple[tuple[RunningModel, ...], ...], step: float, *, new_connection: bool
) -> None:
    story = Story()
    alternate(story, *listings, step=step, new_connection=new_connection)
    assert story.tracker.view().shared
    assert [event for event in story.said if isinstance(event, Unloaded | Restarted)] == []
    story.said += story.tracker.finish(START + 400)
    assert story.unloads == []


@pytest.mark.parametrize(("step", "least"), [(1.0, 3), (5.0, 0), (15.0, 0)])
def test_three_servers_are_known_after_one_round(step: float, least: int) -> None:
    story = Story()
    alternate(story, A, B, (model("c", 4200.5),), step=step)
    assert story.tracker.view().shared
    assert len(story.unloads) <= least
    known = len(story.unloads)
    alternate(story, A, B, (model("c", 4200.5),), start=12 * step, step=step)
    assert len(story.unloads) == known


def test_the_models_of_all_servers_are_resident() -> None:
    story = Story()
    alternate(story, A, B)
    names = [state.name for state in story.tracker.view().models if state.resident]
    assert names == ["a:latest", "b:latest"]
    assert sum(isinstance(event, Loaded) for event in story.said) == 1  # b; a was found


def test_a_deadline_that_comes_back_once_is_no_shared_address_yet() -> None:
    story = Story()
    for at, models in ((0, A), (15, ()), (30, A), (45, A), (60, A)):
        story.poll(at, *models)
    assert not story.tracker.view().shared
    assert story.unloads == []


def test_it_recovers_when_one_server_is_left() -> None:
    story = Story()
    at = alternate(story, A, B)
    for number in range(14):
        story.poll(at + number * 15, *A)
    assert not story.tracker.view().shared
    assert [state.name for state in story.tracker.view().models if state.resident] == ["a:latest"]
    assert story.unloads == []
    later = at + 14 * 15
    story.poll(later, *A)
    story.poll(later + 15, model("d", later + 315))
    story.poll(later + 30, model("d", later + 330))
    assert story.reasons() == [("a", Reason.EVICTED, "d:latest")]


def test_two_clocks_are_two_servers() -> None:
    story = Story()
    for number in range(8):
        at, skew = START + number * 15.0, 3600.0 if number % 2 else 0.0
        pinned = model("a", math.inf)
        story.tell(Snapshot(at, at + 0.01, (pinned,), date=float(int(at + skew))))
    assert story.tracker.view().shared
    assert story.unloads == []


def test_a_server_whose_clock_is_stepped_once_is_one_server() -> None:
    story = Story()
    for number in range(8):
        at, skew = START + number * 15.0, 3600.0 if number > 3 else 0.0
        story.tell(Snapshot(at, at + 0.01, A, date=float(int(at + skew))))
    assert not story.tracker.view().shared


def test_an_eviction_is_reported_after_a_second_look() -> None:
    story = Story()
    story.poll(0, *A)
    story.poll(15, *B)
    assert story.unloads == []
    story.poll(20, *B)
    assert story.reasons() == [("a", Reason.EVICTED, "b:latest")]


def test_models_without_an_expiry_that_are_loaded_anew_are_no_sign() -> None:
    story = Story()
    for number in range(12):
        digits = f"2318-10-01T12:00:{number:02}.001234567Z"
        listed = (replace(model("a", math.inf), announced=digits),) if number % 2 else ()
        story.poll(15.0 * number, *listed)
    assert not story.tracker.view().shared
