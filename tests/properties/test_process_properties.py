# SPDX-License-Identifier: Apache-2.0
"""Whatever processes, lines of the log and polls say together: events balance, each said once."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.recordings.format import moment_of
from ollama_exporter.residency.events import Event, Found, Loaded, Restarted, Unloaded
from ollama_exporter.residency.facts import (
    Fact,
    LogKind,
    LogSaid,
    ProcessesSeen,
    ProcessExited,
    ProcessStarted,
    RequestAnswered,
    RequestEnded,
    RequestStarted,
    Snapshot,
    WeightsNamed,
)
from ollama_exporter.residency.saved_state import from_builtins, to_builtins
from ollama_exporter.residency.tracker import Tracker

NAMES = ("a:latest", "b:latest", "c:7b")
WEIGHTS = ("sha256-1", "sha256-2", "sha256-3", "sha256-4")
PIDS = st.integers(1, 6)  # few: they are used again
GAPS = st.one_of(st.floats(0.001, 0.3), st.floats(0.3, 7), st.just(5.0), st.floats(7, 90))
KINDS = ("poll", "poll", "poll", "birth", "birth", "death", "death", "server", "name", "log",
         "request", "seen")  # fmt: skip


@st.composite
def listings(draw: st.DrawFn, now: float) -> tuple[RunningModel, ...]:
    listed = {}
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=3)):
        model = RunningModel(
            name,
            draw(st.sampled_from(["d1", "d2"])),
            now + draw(st.one_of(st.floats(-9, 90), st.just(0.0), st.just(math.inf))),
            2**30,
            context=draw(st.sampled_from([2048, 4096])),
        )
        listed[model.key] = model
    return tuple(listed.values())


@st.composite
def histories(draw: st.DrawFn) -> list[Fact]:
    now, facts = 1_800_000_000.0, list[Fact]()
    for number in range(draw(st.integers(1, 40))):
        now += draw(GAPS)
        match draw(st.sampled_from(KINDS)):
            case "poll":
                fresh = draw(st.booleans()) and draw(st.booleans())
                facts.append(Snapshot(now, now + 0.002, draw(listings(now)), new_connection=fresh))
            case "birth":
                born = now - draw(st.floats(0, 1))
                facts.append(ProcessStarted(now, born, draw(PIDS), draw(st.sampled_from(WEIGHTS))))
            case "death":
                alive = draw(st.one_of(st.none(), st.just(now - 1.0)))
                facts.append(ProcessExited(now, draw(PIDS), alive))
            case "server":
                facts.append(ProcessStarted(now, now - 0.1, draw(st.integers(90, 92)), None))
            case "name":
                facts.append(
                    WeightsNamed(now, draw(st.sampled_from(NAMES)), draw(st.sampled_from(WEIGHTS)))
                )
            case "log":
                named = draw(st.booleans())
                facts.append(
                    LogSaid(
                        now,
                        draw(st.sampled_from(LogKind)),
                        now - draw(st.floats(0, 1)),
                        model=draw(st.sampled_from(NAMES)) if named else None,
                        weights=draw(st.sampled_from(WEIGHTS)),
                        pid=draw(PIDS) if named else None,
                        seconds=draw(st.sampled_from([None, 2.0, math.inf])),
                    )
                )
            case "request":
                facts.append(RequestStarted(now, number, draw(st.sampled_from(NAMES))))
                if draw(st.booleans()):
                    facts += [RequestAnswered(now, number), RequestEnded(now, number)]
            case _:
                facts.append(ProcessesSeen(now, seen=draw(st.booleans())))
    return facts


def run(tracker: Tracker, facts: list[Fact]) -> list[Event]:
    return [event for fact in facts for event in tracker.observe(fact)]


def end_of(facts: list[Fact]) -> float:
    return moment_of(facts[-1])


@settings(max_examples=60)
@given(histories())
def test_a_model_begins_before_it_ends_and_each_end_is_said_once(facts: list[Fact]) -> None:
    tracker = Tracker(window=60.0)
    alive: dict[tuple[str, str], int] = {}
    for event in [*run(tracker, facts), *tracker.finish(end_of(facts))]:
        if isinstance(event, Found | Loaded):
            alive[event.model.key] = alive.get(event.model.key, 0) + 1
        elif isinstance(event, Unloaded):
            alive[event.model.key] = alive.get(event.model.key, 0) - 1
            assert alive[event.model.key] >= 0
            assert event.not_before <= event.not_after
            assert event.evidence
        elif isinstance(event, Restarted):
            assert event.not_before <= event.not_after
    assert tracker.view().pending == 0
    living = {
        model.key
        for state in tracker.view().models
        if state.runner_up is not False
        for model in state.resident
    }
    for key, count in alive.items():
        assert count in (0, 1)
        assert key not in living or count == 1


@settings(max_examples=40)
@given(histories(), st.data())
def test_looking_and_saving_change_nothing(facts: list[Fact], data: st.DataObject) -> None:
    whole, pieces = Tracker(window=60.0), Tracker(window=60.0)
    cut = data.draw(st.integers(0, len(facts)))
    said = run(whole, facts)
    first = run(pieces, facts[:cut])
    pieces.view()
    saved = pieces.dump()
    assert from_builtins(to_builtins(saved)) == saved
    assert [*first, *run(pieces, facts[cut:])] == said


@settings(max_examples=40)
@given(histories())
def test_a_state_names_only_what_can_be_known(facts: list[Fact]) -> None:
    tracker = Tracker(window=60.0)
    for fact in facts:
        tracker.observe(fact)
        for state in tracker.view().models:
            assert state.runner_up is None or state.resident
            assert not (state.runner_up is True and not state.pids)
            assert state.loading_since is None or state.pids


def test_a_thousand_births_and_deaths_in_a_minute_leave_nothing_behind() -> None:
    tracker, said, now = Tracker(window=60.0), list[Event](), 1_800_000_000.0
    said += tracker.observe(ProcessStarted(now, now - 100, 9, None))
    for number in range(40):
        name = f"m{number}:latest"
        said += tracker.observe(WeightsNamed(now, name, f"sha256-{number}"))
    for number in range(1000):
        now += 0.06
        which = number % 40
        model = RunningModel(f"m{which}:latest", f"d{which}", now + 300.0, 2**30)
        said += tracker.observe(ProcessStarted(now, now - 0.03, 1000 + number, f"sha256-{which}"))
        said += tracker.observe(Snapshot(now + 0.01, now + 0.011, (model,)))
        said += tracker.observe(ProcessExited(now + 0.02, 1000 + number))
    said += tracker.observe(Snapshot(now + 1, now + 1.001, ()))
    said += tracker.finish(now + 2)
    loads = sum(isinstance(event, Loaded | Found) for event in said)
    unloads = sum(isinstance(event, Unloaded) for event in said)
    assert loads == unloads == 1000
    assert not any(isinstance(event, Restarted) for event in said)
    view = tracker.view()
    assert view.pending == 0
    assert not any(state.resident or state.pids for state in view.models)
