# SPDX-License-Identifier: Apache-2.0
"""Several busy servers behind one address: no deadline is ever repeated."""

import random
from collections.abc import Callable, Iterator
from itertools import chain, cycle, repeat
from pathlib import Path
from typing import Final

import pytest

from ollama_exporter.endpoint.address_signs import ClockTurns, VersionTurns
from ollama_exporter.endpoint.shared_address import SharedAddress
from ollama_exporter.protocol.wire import InstalledModel, RunningModel
from ollama_exporter.recordings.read_recording import read_recording
from ollama_exporter.residency.events import Restarted
from ollama_exporter.residency.facts import Snapshot, VersionAnswered
from tests.support.paths import DATA
from tests.support.story import GIB, START, Story, model

Server = Callable[[float], tuple[RunningModel, ...]]
RECORDINGS: Final = sorted((DATA / "polls").glob("*.jsonl.gz"))


def busy(number: int, *, replica: bool = False) -> Server:
    """Return a server whose model is used all the time. A replica has another context."""
    name, context = ("a", 4096 << number) if replica else ("abcde"[number], 4096)

    def listing(at: float) -> tuple[RunningModel, ...]:
        ended = at - (at * 7.3 + number * 3) % 11  # of the latest request
        return (model(name, ended + 300 + number / 9, context=context),)

    return listing


def idle(at: float) -> tuple[RunningModel, ...]:
    """Return nothing."""
    del at
    return ()


def servers(count: int, kind: str) -> list[Server]:
    """Return so many servers; of kind `idle`, the last one has nothing loaded."""
    found = [busy(number, replica=kind == "replicas") for number in range(count)]
    return [*found[:-1], idle] if kind == "idle" else found


def shared_after(
    story: Story, answering: Iterator[tuple[Server, bool]], *, polls: int, step: float
) -> int | None:
    """Poll, and return after how many polls several servers were known; None: never.

    From then on nothing is unloaded.
    """
    found, counted = None, 0
    for number in range(polls):
        server, new = next(answering)
        story.poll(number * step, *server(number * step), new_connection=new)
        if found is None and story.tracker.view().shared:
            found, counted = number + 1, len(story.unloads)
    story.said += story.tracker.finish(START + polls * step + 400)
    if found is not None:
        assert len(story.unloads) == counted
    return found


@pytest.mark.parametrize("kind", ["busy", "replicas", "idle"])
@pytest.mark.parametrize("step", [1.0, 5.0, 15.0])
@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_servers_that_answer_in_turn_are_known_at_once(count: int, step: float, kind: str) -> None:
    story = Story()
    answering = ((server, False) for server in cycle(servers(count, kind)))
    assert shared_after(story, answering, polls=30, step=step) in range(1, 14)
    assert len(story.unloads) <= max(2, count)
    assert not any(isinstance(event, Restarted) for event in story.said)


@pytest.mark.parametrize("kind", ["busy", "replicas", "idle"])
@pytest.mark.parametrize("step", [5.0, 15.0])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_servers_that_answer_at_random_are_known_soon(
    seed: int, count: int, step: float, kind: str
) -> None:
    dice, found = random.Random(seed), servers(count, kind)  # noqa: S311 - the same each time
    answering = iter(lambda: (dice.choice(found), False), None)
    after = shared_after(Story(), answering, polls=60, step=step)
    assert after is not None


def test_servers_behind_sticky_connections_are_known_when_these_change() -> None:
    def answering() -> Iterator[tuple[Server, bool]]:
        for server in cycle(servers(2, "busy")):
            yield from chain([(server, True)], repeat((server, False), 9))

    story = Story()
    assert shared_after(story, answering(), polls=80, step=15.0) is not None


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.name.split(".")[0])
def test_no_recorded_server_is_taken_for_several(recording: Path) -> None:
    polls = [poll for poll in read_recording(recording).polls if isinstance(poll, Snapshot)]
    assert len(polls) > 800
    for interval in (0.0, 2.0, 5.0, 10.0, 15.0, 30.0):
        for phase in range(2):
            address, due = SharedAddress(), polls[0].started + phase * interval / 2
            for poll in polls:
                if poll.started >= due:
                    address.on_poll(
                        poll.models,
                        started=poll.started,
                        ended=poll.ended,
                        date=poll.date,
                        new_connection=poll.new_connection,
                        explained=lambda key: False,  # noqa: ARG005 - nothing but polls is seen
                    )
                    due = poll.started + interval
                    assert not address.is_shared, (interval, phase, poll.started)
            if not interval:
                break


def test_one_server_that_is_restarted_again_and_again_is_one() -> None:
    story = Story()
    for number in range(60):
        at = number * 15.0
        new = number % 5 == 0
        listed = () if new else (model("ab"[number // 5 % 2], at + 300),)
        story.poll(at, *listed, new_connection=new)
        assert not story.tracker.view().shared


def dated(story: Story, at: float, ahead: float, *models: RunningModel) -> None:
    """Poll a server whose clock is so much ahead."""
    began = START + at
    story.tell(Snapshot(began, began + 0.01, models, date=float(int(began + ahead))))


@pytest.mark.parametrize("apart", [2.0, 3600.0, -90.0])
def test_two_clocks_are_known_although_all_else_is_alike(apart: float) -> None:
    story, dice = Story(), random.Random(5)  # noqa: S311 - likewise
    for number in range(24):
        ahead = dice.choice((0.0, apart))
        dated(story, number * 15.0, ahead, model("a", number * 15.0 + 300 + ahead))
    assert story.tracker.view().shared
    assert story.unloads == []


@pytest.mark.parametrize("steps", [(30.0,), (30.0, 0.0), (-5.0, 0.0, 2.0), (0.4, 0.8, 1.2)])
def test_a_clock_that_is_set_is_one_clock(steps: tuple[float, ...]) -> None:
    story = Story()
    for number in range(60):
        ahead = (0.0, *steps)[min(number // 5, len(steps))]
        dated(story, number * 15.0, ahead, model("a", 10_000.0 + ahead))
        assert not story.tracker.view().shared


def test_a_clock_that_drifts_is_one_clock() -> None:
    clock = ClockTurns()
    for number in range(2000):
        at = number * 5.0
        assert not clock.on_poll(float(int(at * 1.0005)), started=at, ended=at + 0.01)


def test_versions_that_take_turns_are_two_servers() -> None:
    story = Story()
    for number in range(8):
        story.poll(number * 15.0, model("a", number * 15.0 + 300))
        version = "0.33.0" if number % 2 else "0.32.4"
        story.tracker.observe(VersionAnswered(START + number * 15.0, version))
    assert story.tracker.view().shared


def test_an_upgrade_that_is_taken_back_is_one_server() -> None:
    versions = VersionTurns()
    said = ["0.32.4", "0.32.4", "0.33.0", "0.33.0", "0.32.4", "0.33.1"]
    assert sum(versions.on_version(version, float(at)) for at, version in enumerate(said)) == 1
    assert not versions.on_version("0.33.0", 10_000.0)  # much later


def test_what_is_back_with_a_deadline_from_before_its_absence_was_never_gone() -> None:
    story = Story()
    for number in range(6):
        at = number * 15.0  # a request runs past its deadline, and another server is empty
        listed = () if number % 2 else (model("a", at - 20.0 + number / 7),)
        dated(story, at, 0.0, *listed)
    assert story.tracker.view().shared


def test_a_model_that_grows_while_it_works_is_one_runner() -> None:
    story = Story()
    for number in range(40):
        at, size = number * 15.0, (5 + number % 2) * GIB
        grown = RunningModel("a:latest", "a" * 64, START + at + 300, size, size, 4096)
        story.poll(at, grown)
        assert not story.tracker.view().shared


def installed(*names: str, at: float) -> tuple[InstalledModel, ...]:
    """Return what a server lists as installed; `at`: when the models were pulled."""
    return tuple(InstalledModel(name, name, 1, remote=False, modified=at) for name in names)


@pytest.mark.parametrize("new_connection", [False, True], ids=["random", "sticky"])
@pytest.mark.parametrize("kind", ["busy", "replicas", "idle"])
@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("seed", range(2))
def test_installed_models_tell_servers_apart_before_unloads_are_counted(
    seed: int, count: int, kind: str, *, new_connection: bool
) -> None:
    dice, story = random.Random(seed), Story()  # noqa: S311 - likewise
    found, number, shared, counted = servers(count, kind), 0, None, 0
    for poll in range(200):
        at = poll * 15.0
        new = not new_connection or poll % 8 == 0
        before, number = number, dice.randrange(count) if new else number
        changed = new_connection and number != before
        story.poll(at, *found[number](at), new_connection=changed)
        if poll == 0 or changed or story.tracker.view().inventory_wanted:
            tags = installed("a", "b", "c", at=1e9 + number / 9)  # the same, pulled one by one
            story.tracker.on_installed(tags, START + at + 0.1)
        if shared is None and story.tracker.view().shared:
            shared, counted = poll, len(story.unloads)
    story.said += story.tracker.finish(START + 200 * 15.0 + 400)
    assert shared is not None
    assert counted == len(story.unloads) <= 3


@pytest.mark.parametrize("change", ["pulled", "removed", "pulled again", "stamped now"])
def test_a_server_whose_models_change_is_one_server(change: str) -> None:
    story = Story()
    for number in range(40):
        at = number * 15.0
        story.poll(at, model("a", at + 300))
        lists = {
            "pulled": installed(*"abcdefghij"[: 1 + number // 4], at=1e9),
            "removed": installed(*"abcdefghij"[number // 4 :], at=1e9),
            "pulled again": installed("a", "b", at=1e9 + number // 5),
            "stamped now": installed("a", "b", at=START + at),
        }
        story.tracker.on_installed(lists[change], START + at + 0.1)
        assert not story.tracker.view().shared


@pytest.mark.parametrize("seen", ["exits", "stops"])
@pytest.mark.parametrize("step", [0.4, 3.0])
def test_a_model_that_is_loaded_and_stopped_again_and_again_is_of_one_server(
    seen: str, step: float
) -> None:
    story = Story()
    if seen == "exits":
        story.server(0, 1)
        story.names("a")
    for number in range(30):
        at = 1 + 2 * step * number
        if seen == "exits":
            story.birth(at + 0.1 * step, 10 + number, "a", noticed=at + 0.2 * step)
        story.poll(at + 0.5 * step, model("a", at + 300))
        if seen == "stops":
            story.request(number, "a", at + 0.7 * step, ended=at + 0.7 * step, stop=True)
        else:
            story.death(at + 0.8 * step, 10 + number)
        story.poll(at + step)
        assert not story.tracker.view().shared, number
        assert not story.tracker.view().suspected, number


def test_the_same_seen_by_polls_alone_is_taken_for_two_servers() -> None:
    story = Story()
    for number in range(30):
        story.poll(6.0 * number, model("a", 6.0 * number + 300))
        story.poll(6.0 * number + 3.0)
    assert story.tracker.view().shared
