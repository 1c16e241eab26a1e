# SPDX-License-Identifier: Apache-2.0
"""Whatever the polls and requests: events balance, reasons settle once, pieces equal the whole."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_exporter.errors import FailureReason
from ollama_exporter.poller.poll_schedule import Cadence, next_poll
from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.events import Event, Found, Loaded, Reason, Unloaded
from ollama_exporter.residency.facts import (
    Fact,
    PollFailed,
    RequestAnswered,
    RequestEnded,
    RequestStarted,
    Snapshot,
)
from ollama_exporter.residency.saved_state import from_builtins, to_builtins
from ollama_exporter.residency.tracker import Tracker

NAMES = st.sampled_from(["a:latest", "b:latest", "c:7b"])
GAPS = st.floats(min_value=0.05, max_value=90)
EXPIRIES = st.one_of(st.floats(min_value=-60, max_value=400), st.just(math.inf), st.just(0.0))


@st.composite
def models(draw: st.DrawFn, now: float) -> tuple[RunningModel, ...]:
    listed: dict[tuple[str, str], RunningModel] = {}
    for _ in range(draw(st.integers(0, 4))):
        model = RunningModel(
            draw(NAMES),
            draw(st.sampled_from(["d1", "d2"])),
            now + draw(EXPIRIES),
            draw(st.sampled_from([0, 2**30, 9 * 2**30])),
            context=draw(st.sampled_from([None, 2048, 4096])),
        )
        listed[model.key] = model
    return tuple(listed.values())


@st.composite
def histories(draw: st.DrawFn) -> list[Fact]:
    now, facts = 1_800_000_000.0, list[Fact]()
    for number in range(draw(st.integers(1, 25))):
        now += draw(GAPS)
        kind = draw(st.sampled_from(["poll", "poll", "poll", "failed", "request"]))
        if kind == "poll":
            date = draw(st.one_of(st.none(), st.just(math.floor(now) + 0.0)))
            facts.append(Snapshot(now, now + 0.01, draw(models(now)), date, draw(st.booleans())))
        elif kind == "failed":
            facts.append(PollFailed(now, now + 0.01, draw(st.sampled_from(FailureReason))))
        else:
            keep_alive = draw(st.sampled_from([None, 0.0, 60.0, math.inf]))
            stop = keep_alive == 0 and draw(st.booleans())
            facts.append(
                RequestStarted(
                    now, number, draw(NAMES), keep_alive, draw(st.sampled_from([None, 2048])), stop
                )
            )
            if draw(st.booleans()):
                facts.append(RequestAnswered(now + 0.02, number))
            if draw(st.booleans()):
                failure = draw(st.one_of(st.none(), st.sampled_from(Failure)))
                facts.append(RequestEnded(now + 0.03, number, failure))
    return facts


def run(tracker: Tracker, facts: list[Fact]) -> list[Event]:
    return [event for fact in facts for event in tracker.observe(fact)]


def end_of(facts: list[Fact]) -> float:
    last = facts[-1]
    return last.ended if isinstance(last, Snapshot | PollFailed) else last.at


@given(histories())
def test_events_balance_and_each_reason_is_settled_once(facts: list[Fact]) -> None:
    tracker, said, shared = Tracker(window=60.0), list[Event](), False
    for fact in facts:
        said += tracker.observe(fact)
        shared = shared or tracker.view().shared
    view = tracker.view()
    said += tracker.finish(end_of(facts))
    appeared = sum(isinstance(event, Found | Loaded) for event in said)
    unloads = [event for event in said if isinstance(event, Unloaded)]
    resident = sum(len(model.resident) for model in view.models)
    left = appeared - len(unloads)
    # While several servers seem to answer, no unload is counted, and what they list is forgotten.
    assert left >= resident if shared else left == resident
    assert tracker.view().pending == 0
    for event in unloads:
        assert event.not_before <= event.not_after <= event.settled_at
        assert event.reason in Reason
        assert event.evidence


@given(histories())
def test_a_model_loads_before_it_unloads_and_never_twice(facts: list[Fact]) -> None:
    tracker = Tracker(window=60.0)
    begun: dict[tuple[str, str], int] = {}
    for event in [*run(tracker, facts), *tracker.finish(end_of(facts))]:
        if isinstance(event, Found | Loaded):
            begun[event.model.key] = begun.get(event.model.key, 0) + 1
        elif isinstance(event, Unloaded):
            begun[event.model.key] = begun.get(event.model.key, 0) - 1
            assert begun[event.model.key] >= 0


@given(histories(), st.data())
def test_in_pieces_it_says_the_same_as_at_once(facts: list[Fact], data: st.DataObject) -> None:
    whole, pieces = Tracker(window=60.0), Tracker(window=60.0)
    cut = data.draw(st.integers(0, len(facts)))
    said = run(whole, facts)
    in_pieces = run(pieces, facts[:cut])
    pieces.view()  # looking changes nothing
    pieces.dump()
    assert [*in_pieces, *run(pieces, facts[cut:])] == said


@given(histories())
def test_what_is_saved_comes_back(facts: list[Fact]) -> None:
    tracker = Tracker(window=60.0)
    run(tracker, facts)
    saved = tracker.dump()
    assert from_builtins(to_builtins(saved)) == saved
    restored = Tracker(window=60.0)
    restored.restore(saved)
    assert restored.dump() == saved


@given(histories(), st.floats(min_value=1, max_value=300), st.booleans())
@settings(max_examples=50)
def test_the_next_poll_is_after_the_last_and_within_the_interval(
    facts: list[Fact],
    interval: float,
    aligned: bool,  # noqa: FBT001 - hypothesis gives it
) -> None:
    tracker = Tracker(window=60.0)
    run(tracker, facts)
    now = end_of(facts)
    due = next_poll(Cadence(interval, aligned), tracker.view(), last_started=now, failures=0)
    assert now < due <= now + interval
