# SPDX-License-Identifier: Apache-2.0
"""What holds of advice whatever the gaps."""

import math
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_exporter.advice.idle_histogram import BOUNDS, IdleHistogram
from ollama_exporter.advice.keep_alive_advice import (
    CANDIDATES,
    GB,
    HOUR,
    CostInputs,
    advise,
    nearest,
)

SLOWLY: Final = settings(deadline=None)  # other tests run beside
GAPS: Final = st.lists(
    st.one_of(st.floats(0.001, 2e5), st.sampled_from([float(b) for b in BOUNDS])), max_size=60
)
LOAD: Final = st.floats(0.1, 300.0)
MEMORY: Final = st.floats(1e8, 2e11)
PRICE: Final = st.floats(0.0, 50.0)


@SLOWLY
@given(GAPS, LOAD, MEMORY, PRICE)
def test_outcomes_are_exact(gaps: list[float], load: float, memory: float, price: float) -> None:
    told = advise(CostInputs(IdleHistogram.of(gaps), load, memory), price=price)
    for keep, outcome in zip(CANDIDATES, told.outcomes, strict=True):
        cold = sum(gap > keep for gap in gaps)
        idle = sum(min(gap, keep) for gap in gaps) / HOUR * memory / GB
        assert outcome.cold_starts == cold
        assert outcome.idle_gb_hours == pytest.approx(idle, rel=1e-6, abs=1e-6)
        assert outcome.cost == pytest.approx(cold * load + idle * price, rel=1e-6, abs=1e-6)


@SLOWLY
@given(GAPS, LOAD, MEMORY, PRICE)
def test_a_longer_keep_alive_has_fewer_cold_starts_and_more_idle_hours(
    gaps: list[float], load: float, memory: float, price: float
) -> None:
    outcomes = advise(CostInputs(IdleHistogram.of(gaps), load, memory), price=price).outcomes
    for shorter, longer in pairwise(outcomes):
        assert longer.cold_starts <= shorter.cold_starts
        assert longer.idle_gb_hours >= shorter.idle_gb_hours - 1e-9


@SLOWLY
@given(GAPS, LOAD, MEMORY, PRICE)
def test_the_advice_never_did_worse_than_the_break_even_time(
    gaps: list[float], load: float, memory: float, price: float
) -> None:
    told = advise(CostInputs(IdleHistogram.of(gaps), load, memory), price=price)
    start = CANDIDATES[nearest(told.break_even)]
    assert told.advised.cost <= told.at(start).cost * (1 + 1e-9)
    assert told.by_data == (told.keep_alive != start)


@SLOWLY
@given(GAPS, st.sampled_from([float(b) for b in BOUNDS]))
def test_the_break_even_time_costs_at_most_twice_what_a_clairvoyant_pays(
    gaps: list[float], even: float
) -> None:
    habits = CostInputs(IdleHistogram.of(gaps), load_seconds=even * 2.0 / HOUR, memory_bytes=GB)
    told = advise(habits, price=2.0)
    assert told.break_even == pytest.approx(even)
    ideal = sum(min(1.0, gap / even) for gap in gaps) * habits.load_seconds
    assert told.at(even).cost <= 2 * ideal + 1e-6


@SLOWLY
@given(GAPS, LOAD, MEMORY, PRICE, st.floats(0.0, 2e5))
def test_any_keep_alive_lies_between_its_neighbours(
    gaps: list[float], load: float, memory: float, price: float, keep: float
) -> None:
    told = advise(CostInputs(IdleHistogram.of(gaps), load, memory), price=price)
    between = told.at(keep)
    assert told.at(math.inf).cold_starts <= between.cold_starts <= told.at(0.0).cold_starts
    assert between.idle_gb_hours <= told.at(math.inf).idle_gb_hours + 1e-9


@SLOWLY
@given(GAPS, LOAD, MEMORY, PRICE)
def test_the_order_of_the_gaps_does_not_matter(
    gaps: list[float], load: float, memory: float, price: float
) -> None:
    there, back = (
        advise(CostInputs(IdleHistogram.of(order), load, memory), price=price)
        for order in (gaps, reversed(gaps))
    )
    assert there.samples == back.samples
    assert there.advised.cost == pytest.approx(back.advised.cost, rel=1e-6, abs=1e-6)


@SLOWLY
@given(GAPS)
def test_means_lie_within_their_buckets_and_add_up(gaps: list[float]) -> None:
    counted = IdleHistogram.of(gaps)
    means = counted.means()
    for mean, low, high in zip(means, (0, *BOUNDS), (*BOUNDS, math.inf), strict=True):
        assert low <= mean <= high
    assert sum(n * m for n, m in zip(counted.counts, means, strict=True)) == pytest.approx(
        sum(gaps), rel=1e-6, abs=1e-6
    )
