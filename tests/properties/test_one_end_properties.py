# SPDX-License-Identifier: Apache-2.0
"""An incarnation ends once, in whatever order births, exits, listings and names become known.

A true history of loads and unloads is made first. Then it is decided when each part of it is
noticed: births by late scans, exits at once or late, names at any time, polls now and then.
"""

from dataclasses import dataclass
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.recordings.format import moment_of
from ollama_exporter.residency.events import Event, Found, Loaded, Reason, Restarted, Unloaded
from ollama_exporter.residency.facts import (
    Fact,
    ProcessesScanned,
    ProcessesSeen,
    ProcessExited,
    ProcessStarted,
    Snapshot,
    WeightsNamed,
)
from ollama_exporter.residency.tracker import Tracker
from tests.support.story import START

NAMES: Final = ("a", "b")
SERVER: Final = 9
REMOVAL: Final = st.sampled_from([0.0, 0.001, 0.04])  # from a kill to the removal of the entry


@dataclass(frozen=True, slots=True)
class Life:
    """One true incarnation: born, listed, killed, removed."""

    name: str
    pid: int
    born: float
    listed: float
    killed: float
    removed: float

    def entry(self) -> RunningModel:
        """What `/api/ps` has of it."""
        expires = START + self.listed + 3600.123 + self.pid / 1000
        return RunningModel(f"{self.name}:latest", self.name * 64, expires, 2**30, 2**30, 4096)


@st.composite
def lives(draw: st.DrawFn) -> list[Life]:
    """Loads one after the other, each model at most once at a time."""
    now, made, free = 0.0, list[Life](), dict.fromkeys(NAMES, 0.0)
    for pid in range(10, 10 + draw(st.integers(2, 8))):
        name = draw(st.sampled_from(NAMES))
        born = max(now, free[name]) + draw(st.sampled_from([0.01, 0.3, 5.0, 40.0]))
        listed = born + draw(st.sampled_from([0.2, 0.4, 2.0]))
        killed = listed + draw(st.sampled_from([0.05, 0.5, 3.0, 8.0, 90.0]))
        removed = killed + draw(REMOVAL)
        made.append(Life(name, pid, born, listed, killed, removed))
        now, free[name] = listed, removed
    return made


@st.composite
def told(draw: st.DrawFn, true: list[Life]) -> list[Fact]:
    """The facts in the order in which they are noticed."""
    end = max(life.removed for life in true) + 30.0
    facts: list[Fact] = [
        ProcessesSeen(START - 3, seen=True),
        ProcessStarted(START - 3, START - 900, SERVER, None),
    ]
    scan_every = draw(st.sampled_from([0.25, 1.0, 4.0]))
    scans = [number * scan_every for number in range(int(end / scan_every) + 1)]
    for at in scans:
        began = at - draw(st.sampled_from([0.0, 0.0, 0.2]))
        facts.append(ProcessesScanned(START + at + 0.002, START + began))
    for life in true:
        noticed = next((at for at in scans if at > life.born + 0.2), end)
        late = draw(st.sampled_from([0.001, 0.001, 0.02, 0.09]))
        if noticed < life.killed:
            born = START + life.born
            facts.append(ProcessStarted(START + noticed, born, life.pid, f"sha256-{life.name}"))
            facts.append(ProcessExited(START + life.killed + late, life.pid))
    for name in NAMES:
        named = draw(st.sampled_from([0.0, *(life.removed + 1 for life in true)]))
        facts.append(WeightsNamed(START + named, f"{name}:latest", f"sha256-{name}"))
    now = draw(st.floats(-2, 1))
    while now < end:
        took = draw(st.sampled_from([0.002, 0.002, 0.05, 0.3]))
        moment = now + took * draw(st.sampled_from([0.0, 0.5, 1.0]))  # when the answer is made
        models = tuple(life.entry() for life in true if life.listed <= moment < life.removed)
        facts.append(Snapshot(START + now, START + now + took, models))
        now += took + draw(st.sampled_from([0.1, 0.4, 1.0, 5.0, 15.0]))
    return sorted(facts, key=moment_of)


@given(st.data())
@settings(max_examples=100)  # a history is long: 40 ms each
def test_each_incarnation_ends_once_and_none_crashes(data: st.DataObject) -> None:
    true = data.draw(lives())
    facts = data.draw(told(true))
    tracker = Tracker(window=60.0)
    events: list[Event] = [event for fact in facts for event in tracker.observe(fact)]
    events += tracker.finish(max(moment_of(fact) for fact in facts) + 1)
    unloads = [event for event in events if isinstance(event, Unloaded)]
    assert not any(isinstance(event, Restarted) for event in events)
    assert [unload for unload in unloads if unload.reason is Reason.CRASHED] == []
    for name in NAMES:
        mine = [unload for unload in unloads if unload.model.name == f"{name}:latest"]
        begun = [
            event
            for event in events
            if isinstance(event, Found | Loaded) and event.model.name == f"{name}:latest"
        ]
        ends = [life for life in true if life.name == name]
        assert len(mine) <= len(ends)
        assert len(begun) <= len(ends)
        assert len(mine) == len(begun)
        free = list(ends)
        for unload in mine:  # and each of these is an end of its own
            fitting = [
                life
                for life in free
                if unload.not_before - 0.15 <= START + life.killed
                and START + life.killed <= unload.not_after + 0.15
            ]
            assert fitting, unload
            free.remove(min(fitting, key=lambda life: life.killed))
