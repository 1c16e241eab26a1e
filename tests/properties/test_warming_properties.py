# SPDX-License-Identifier: Apache-2.0
"""Keep-warm against a machine that is too small, clients that come and go, and operators."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_exporter.actions.keep_warm.decide import (
    KeepWarmPlanner,
    ResidentModel,
    Situation,
)
from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm, WarmModel
from ollama_exporter.actions.keep_warm.model_history import HOUR
from ollama_exporter.actions.renewal_outcome import RenewalOutcome
from ollama_exporter.residency.events import Reason

STEP = 15.0
MODELS = ("a:latest", "b:latest", "c:latest")
# What the world does in a step: a client asks for a model, somebody stops one, a runner dies,
# nothing. Index of the model.
DEEDS = st.lists(
    st.tuples(st.sampled_from(["ask", "stop", "crash", "rest", "rest", "rest"]), st.integers(0, 2)),
    min_size=20,
    max_size=400,
)


class Machine:
    """Room for so many models; who is loaded longest goes first. Time passes in steps."""

    def __init__(self, keeper: KeepWarmPlanner, room: int) -> None:
        self.keeper, self.room = keeper, room
        self.now = 0.0
        self.resident: dict[str, float] = {}  # model -> deadline
        self.loads: list[tuple[float, str]] = []
        self.stops: dict[str, float] = {}
        self.asked: dict[str, list[float]] = {}
        self.evictions_by_us = 0

    def load(self, model: str, *, ours: bool) -> None:
        while model not in self.resident and len(self.resident) >= self.room:
            victim = next(iter(self.resident))
            self.lose(victim, Reason.EVICTED, by=model)
            self.evictions_by_us += ours
        self.resident[model] = self.now + 600.0

    def lose(self, model: str, reason: Reason, by: str | None = None) -> None:
        if self.resident.pop(model, None) is not None:
            there = list(self.resident)
            self.keeper.on_unloaded(
                model, reason, since=self.now, at=self.now, by=by, resident=there
            )

    def step(self, deed: str, model: str) -> None:
        self.now += STEP
        for name in [n for n, deadline in self.resident.items() if deadline <= self.now]:
            self.lose(name, Reason.EXPIRED)
        match deed:
            case "ask":
                self.asked.setdefault(model, []).append(self.now)
                self.load(model, ours=False)
            case "stop":
                if model in self.resident:
                    self.stops[model] = self.now
                self.lose(model, Reason.STOPPED)
            case "crash":
                self.lose(model, Reason.CRASHED)
            case _:
                pass
        there = {
            name: ResidentModel(deadline - self.now) for name, deadline in self.resident.items()
        }
        decision = self.keeper.decide(Situation(self.now, self.now, there))
        for load in decision.loads[:1]:
            assert load.warm.model not in self.resident
            self.loads.append((self.now, load.warm.model))
            self.keeper.on_load_start(load, at=self.now)
            self.load(load.warm.model, ours=True)
        for renewal in decision.renewals:
            if renewal.warm.model not in self.resident:  # the load drove it out
                continue
            deadline = self.now + renewal.warm.keep_alive
            assert deadline > self.resident[renewal.warm.model]
            self.resident[renewal.warm.model] = deadline
            left = renewal.warm.keep_alive
            self.keeper.on_renewal(renewal, RenewalOutcome.SET, left=left, at=self.now)


def section(expected: int, most: int) -> KeepWarm:
    warm = tuple(WarmModel(name, keep_alive=600.0) for name in MODELS[:expected])
    return KeepWarm(warm, grace=900.0, most_per_hour=most)


def played(deeds: Sequence[tuple[str, int]], expected: int, room: int, most: int) -> Machine:
    machine = Machine(KeepWarmPlanner(section(expected, most)), room)
    for deed, index in deeds:
        before = len(machine.loads)
        machine.step(deed, MODELS[index])
        assert len(machine.loads) - before <= 1
        for at, model in machine.loads[before:]:
            stopped = machine.stops.get(model)
            assert stopped is None or at >= stopped + 900.0 or _came_back(machine, model, stopped)
    return machine


def _came_back(machine: Machine, model: str, stopped: float) -> bool:
    """Tell whether a client had loaded it since the stop."""
    return any(at > stopped for at in machine.asked.get(model, ()))


@settings(max_examples=150, deadline=None)
@given(DEEDS, st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_loads_are_bounded_and_no_stop_is_undone(
    deeds: list[tuple[str, int]], expected: int, room: int, most: int
) -> None:
    machine = played(deeds, expected, room, most)
    for model in MODELS:
        mine = [at for at, name in machine.loads if name == model]
        for index, at in enumerate(mine):
            assert sum(at <= other < at + HOUR for other in mine[index:]) <= most


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 3), st.integers(1, 2), st.integers(1, 6))
def test_models_that_do_not_fit_are_not_driven_round(expected: int, room: int, most: int) -> None:
    """A day without clients: each pair is tried once in six hours at the most."""
    machine = played([("rest", 0)] * int(24 * HOUR / STEP), expected, room, most)
    if expected <= room:
        assert machine.evictions_by_us == 0
        assert len(machine.loads) == expected
    else:
        pairs = expected * (expected - 1) // 2
        assert machine.evictions_by_us <= pairs * 5
        assert len(machine.resident) == room


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6))
def test_pressure_by_clients_is_given_way_to(most: int) -> None:
    """A client uses another model each minute: whoever it drives out stays out."""
    deeds = [("ask" if step % 4 == 0 else "rest", 2) for step in range(int(12 * HOUR / STEP))]
    machine = played(deeds, 1, 1, most)
    assert machine.evictions_by_us <= 3
