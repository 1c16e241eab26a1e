# SPDX-License-Identifier: Apache-2.0
"""Advice from idle gaps, on examples."""

import math
import random

import pytest

from ollama_exporter.advice.idle_histogram import BOUNDS, IdleHistogram
from ollama_exporter.advice.keep_alive_advice import (
    CANDIDATES,
    HOUR,
    PRICE,
    PROVISIONAL_GAPS,
    Advice,
    Confidence,
    CostInputs,
    advise,
    assumed_load,
    break_even,
    surely_saved,
)

GB = 1e9


def advice(gaps: list[float], *, price: float = 2.0, seen: bool = True) -> Advice:
    """Advise on a model of 6 GB that loads in 5 s: it breaks even after 25 minutes."""
    return advise(CostInputs(IdleHistogram.of(gaps), 5.0, 6 * GB, seen=seen), price=price)


def test_the_worked_example_of_the_docs() -> None:
    told = advice([120.0] * 30 + [3000.0] * 10)
    assert told.break_even == 1500.0
    at_five, at_two = told.at(300.0), told.at(120.0)
    assert (at_five.cold_starts, at_two.cold_starts) == (10, 10)
    assert at_five.idle_gb_hours == pytest.approx((30 * 120 + 10 * 300) * 6 / 3600)
    assert at_five.cost == pytest.approx(10 * 5 + 11.0 * 2)
    assert told.keep_alive == 120.0
    assert told.by_data
    costs = {keep: round(told.at(keep).cost) for keep in (0, 120, 300, 1800, 3600)}
    assert costs == {0: 200, 120: 66, 300: 72, 1800: 122, 3600: 112}


@pytest.mark.parametrize(
    ("load", "memory", "price", "minutes"),
    [(5, 6.5, 0.5, 92), (5, 6.5, 2, 23), (13, 21, 2, 19), (18, 43, 2, 13), (74, 43, 6, 17)],
)
def test_break_even_is_load_over_the_rent_of_the_memory(
    load: float, memory: float, price: float, minutes: float
) -> None:
    even = break_even(CostInputs(IdleHistogram(), load, memory * GB), price)
    assert even / 60 == pytest.approx(minutes, rel=0.04)


def test_without_gaps_the_advice_is_the_break_even_time() -> None:
    for gaps in ([], [20_000.0] * 4):
        told = advice(gaps)
        assert (told.keep_alive, told.by_data) == (1800.0, False)
        assert told.confidence is Confidence.RULE_OF_THUMB


def test_rare_single_requests_are_not_worth_any_memory() -> None:
    assert advice([7200.0] * 30).keep_alive == 0.0


def test_where_requests_are_not_seen_bursts_between_polls_are_bridged() -> None:
    assert advice([7200.0] * 30, seen=False).keep_alive == 15.0


def test_a_value_that_saves_nothing_is_not_advised() -> None:
    assert advice([100.0] * 60).keep_alive == 1800.0  # 2m would do, at the same cost


def test_memory_for_free_pins_and_a_load_for_free_unloads() -> None:
    assert advice([], price=0.0).keep_alive == math.inf
    assert advise(CostInputs(IdleHistogram.of([50.0] * 30), 0.0, GB)).keep_alive == 0.0


def test_gaps_of_days_are_worth_a_pin_only_where_a_load_is_dear() -> None:
    days = [2 * 86400.0] * 30
    assert advise(CostInputs(IdleHistogram.of(days), 6.0, GB), price=0.5).keep_alive == 0.0
    assert advise(CostInputs(IdleHistogram.of(days), 600.0, GB), price=1.0).keep_alive == math.inf


def test_a_few_gaps_do_not_outweigh_chance() -> None:
    mixed = [60.0, 1400.0, 100.0, 9000.0, 1000.0, 2000.0]
    assert not advice(mixed).by_data
    assert advice(mixed * 20).keep_alive == 120.0


def test_confidence_needs_gaps_and_a_week() -> None:
    told = [advice([gap] * n).confidence for n, gap in ((19, 1e5), (20, 1e5), (50, 60), (50, 1e5))]
    assert told == [
        Confidence.RULE_OF_THUMB,
        Confidence.PROVISIONAL,
        Confidence.PROVISIONAL,
        Confidence.MEASURED,
    ]


def test_between_two_candidates_outcomes_are_in_proportion() -> None:
    told = advice([310.0, 320.0, 400.0, 440.0])
    assert told.at(375.0).cold_starts == 2.0
    assert told.at(375.0).cost == pytest.approx((told.at(300.0).cost + told.at(450.0).cost) / 2)
    assert told.at(math.inf).cold_starts == 0
    assert told.at(100_000.0).idle_gb_hours == told.at(math.inf).idle_gb_hours


def test_what_is_saved_surely_is_less_than_what_is_saved() -> None:
    habits = CostInputs(IdleHistogram.of([400.0] * 30 + [200.0] * 5), 20.0, 6 * GB)
    told = advise(habits)
    saved = (told.at(300.0).cost - told.advised.cost) / 35
    assert 0 < surely_saved(habits, told.keep_alive, 300.0) < saved
    assert surely_saved(CostInputs(IdleHistogram(), 5.0, GB), 60.0, 300.0) == -math.inf


def test_a_load_nobody_measured_is_assumed_from_the_size() -> None:
    assert assumed_load(6 * GB) == pytest.approx(5.5)


def test_gaps_of_other_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="other bounds"):
        IdleHistogram([0.0], [0.0], 0.0)


def test_the_candidates_are_the_bounds_of_the_histogram_nothing_and_for_ever() -> None:
    assert list(CANDIDATES) == [0.0, *BOUNDS, math.inf]
    assert len(BOUNDS) == 20


def changes(seed: int, rate: float, even: float, days: float) -> tuple[int, int]:
    """Return how often the advice changes, and how often what follows it beyond chance does."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible workload, no secret
    gaps = IdleHistogram()
    followed: list[float] = []
    advised: list[float] = []
    while gaps.total < days * 24 * HOUR:
        gaps.add(rng.expovariate(rate / HOUR))
        inputs = CostInputs(gaps, load_seconds=even * PRICE / HOUR, memory_bytes=GB)
        if gaps.samples < PROVISIONAL_GAPS:
            continue
        value = advise(inputs).keep_alive
        if not advised or advised[-1] != value:
            advised.append(value)
        if not followed or (
            followed[-1] != value and surely_saved(inputs, value, followed[-1]) > 0
        ):
            followed.append(value)
    return len(advised) - 1, len(followed) - 1


@pytest.mark.parametrize(
    ("rate", "even", "days"), [(4.0, 900.0, 6.5), (1.0, 3600.0, 25.0), (12.0, 300.0, 5.0)]
)
def test_random_use_is_no_reason_to_change_again_and_again(
    rate: float, even: float, days: float
) -> None:
    advised, followed = zip(*(changes(seed, rate, even, days) for seed in range(4)), strict=True)
    assert sum(advised) > 40
    assert max(followed) <= 2


def test_a_clear_change_of_use_is_followed() -> None:
    gaps = IdleHistogram.of([400.0] * 60)
    inputs = CostInputs(gaps, load_seconds=20.0, memory_bytes=6 * GB)
    then = advise(inputs).keep_alive
    assert surely_saved(inputs, then, 300.0) > 0
