# SPDX-License-Identifier: Apache-2.0
"""Looks at a runner with known work, and what is made of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_exporter.host.runner.runner_counters import RunnerCounters
from ollama_exporter.host.runner.slot_usage import (
    LONGEST_STEP,
    BriefUse,
    ModelTotals,
    SlotUsage,
    SlotUse,
)
from ollama_exporter.host.runner.slots import Slot

RUNNER = (7, 100.0)
IDLE = Slot(0, 4096, busy=False)


def working(decoded: int, *, prompt: int = 100, task: int = 1, number: int = 0) -> Slot:
    return Slot(number, 4096, busy=True, task=task, held=prompt + decoded, decoded=decoded)


def done(held: int, *, task: int = 1) -> Slot:
    return Slot(0, 4096, busy=False, task=task, held=held)


def totals_of(usage: SlotUsage, model: str = "m") -> ModelTotals:
    return dict(usage.totals())[model]


def test_time_is_counted_busy_idle_and_half() -> None:
    usage = SlotUsage()
    uses = [
        usage.look("m", RUNNER, at, (slot,))
        for at, slot in ((0, IDLE), (2, working(0)), (4, working(90)), (6, done(240)), (8, IDLE))
    ]
    totals = totals_of(usage)
    assert (totals.busy_seconds, totals.slot_idle_seconds) == (4.0, 4.0)
    assert uses == [None, SlotUse("m", 1, busy=True), None, SlotUse("m", 5, busy=False), None]
    assert totals.last_use == 5


def test_a_gap_without_looks_is_not_counted() -> None:
    usage = SlotUsage()
    usage.look("m", RUNNER, 0, (working(0),))
    usage.look("m", RUNNER, LONGEST_STEP + 1, (working(9),))
    assert totals_of(usage).busy_seconds == 0


def test_tokens_are_counted_once_and_to_the_end_of_the_request() -> None:
    """After its end a slot keeps its tokens but the last, which was not decoded any more."""
    usage = SlotUsage()
    for at, slot in ((0, working(0)), (2, working(90)), (4, working(190)), (6, done(299))):
        usage.look("m", RUNNER, at, (slot,))
    assert totals_of(usage).generated_tokens == 199
    usage.look("m", RUNNER, 8, (done(299),))
    assert totals_of(usage).generated_tokens == 199


def test_a_request_between_two_looks_is_a_use() -> None:
    usage = SlotUsage()
    assert usage.look("m", RUNNER, 0, (done(90, task=3),)) is None  # of a time before the looks
    assert totals_of(usage).last_use is None
    assert usage.look("m", RUNNER, 5, (done(90, task=3),)) is None
    assert usage.look("m", RUNNER, 10, (done(120, task=4),)) == BriefUse("m", 5, 10)
    assert totals_of(usage).last_use == 7.5
    assert totals_of(usage).generated_tokens == 0
    assert usage.look("m", RUNNER, 12, (working(9, task=5),)) == SlotUse("m", 11, busy=True)


def test_a_request_before_the_first_look_at_a_new_runner_is_a_use() -> None:
    usage = SlotUsage()
    assert usage.look("m", RUNNER, 10, (done(90, task=0),), born=4) == BriefUse("m", 4, 10)
    assert totals_of(usage).last_use == 7
    assert totals_of(usage).slot_idle_seconds == 0  # nobody looked
    loaded = usage.look("n", (8, 1.0), 100, (Slot(0, 4096, busy=False),), born=40)
    assert (loaded, totals_of(usage, "n").last_use) == (None, None)
    slow = usage.look("o", (9, 1.0), 100, (working(5),), born=40)
    assert slow == SlotUse("o", 100 - LONGEST_STEP / 2, busy=True)


def test_what_a_slot_holds_of_a_request_that_was_not_seen_at_work_may_be_its_prompt() -> None:
    usage = SlotUsage()
    usage.look("m", RUNNER, 0, (IDLE,))
    usage.look("m", RUNNER, 5, (done(4000),))
    assert totals_of(usage).generated_tokens == 0


def test_the_next_request_of_a_slot_is_counted_anew() -> None:
    usage = SlotUsage()
    usage.look("m", RUNNER, 0, (working(50, task=1),))
    usage.look("m", RUNNER, 2, (working(30, task=2),))
    assert totals_of(usage).generated_tokens == 80


def test_a_context_that_shifts_is_counted_and_its_tokens_go_on() -> None:
    usage = SlotUsage()
    usage.look("m", RUNNER, 0, (working(3900),))
    shifted = Slot(0, 4096, busy=True, task=1, held=2100, decoded=3990)
    usage.look("m", RUNNER, 2, (shifted,))
    totals = totals_of(usage)
    assert (totals.context_shifts, totals.generated_tokens) == (1, 3990)


def test_what_is_seen_now() -> None:
    usage = SlotUsage()
    usage.look("m", RUNNER, 0, (IDLE,))
    now = usage.now(RUNNER)
    assert now is not None
    assert (now.context_used, now.context_most) == (0, 0)
    usage.look("m", RUNNER, 2, (working(900), working(100, number=1)))
    before = totals_of(usage).busy_seconds
    usage.look("m", RUNNER, 4, (done(1100), working(180, number=1)))
    assert totals_of(usage).busy_seconds - before == 2.0  # one of them was busy all the time
    now = usage.now(RUNNER)
    assert now is not None
    assert (now.slots, now.busy, now.slot_context) == (2, 1, 4096)
    assert (now.context_used, now.context_most, now.prompt_cache) == (280, 1000, 1100)
    assert usage.exited("m", RUNNER, 5) == SlotUse("m", 5, busy=False)  # it was at work
    assert usage.now(RUNNER) is None
    assert usage.exited("m", RUNNER, 6) is None


def test_counters_go_on_over_a_reload() -> None:
    usage = SlotUsage()
    for runner, tokens in ((RUNNER, 10), (RUNNER, 30), ((8, 200.0), 5), ((8, 200.0), 6)):
        usage.look("m", runner, 0, (IDLE,))
        usage.count("m", runner, RunnerCounters(generated_tokens=tokens))
    counters = totals_of(usage).counters
    assert counters is not None
    assert counters.generated_tokens == 36


SLOTS = st.builds(
    Slot,
    st.integers(0, 2),
    st.just(4096),
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 3)),
    st.integers(0, 5000),
    st.integers(0, 5000),
)


@given(st.lists(st.tuples(st.floats(0, 60), st.lists(SLOTS, max_size=3)), max_size=20))
def test_totals_only_grow_and_time_is_not_counted_twice(
    looks: list[tuple[float, list[Slot]]],
) -> None:
    usage, at = SlotUsage(), 0.0
    before = ModelTotals()
    for step, slots in looks:
        at += step
        usage.look("m", RUNNER, at, tuple({slot.id: slot for slot in slots}.values()))
        now = totals_of(usage)
        assert now.busy_seconds >= before.busy_seconds
        assert now.generated_tokens >= before.generated_tokens
        assert now.busy_seconds <= at + 1e-6
        assert now.slot_busy_seconds + now.slot_idle_seconds <= 3 * at + 1e-6
        before = ModelTotals(now.busy_seconds, generated_tokens=now.generated_tokens)


@pytest.mark.parametrize("late", [0, -5])
def test_looks_out_of_order_count_no_time(late: float) -> None:
    usage = SlotUsage()
    usage.look("m", RUNNER, 10, (working(1),))
    usage.look("m", RUNNER, 10 + late, (working(2),))
    assert totals_of(usage).busy_seconds == 0
