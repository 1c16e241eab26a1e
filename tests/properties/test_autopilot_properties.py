# SPDX-License-Identifier: Apache-2.0
"""The autopilot against noise: how often a model whose use does not change gets another keep-alive.

`AUTOPILOT_HISTORIES=1000 make test ARGS=tests/properties/test_autopilot_properties.py` plays more.
"""

import math
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from ollama_exporter.actions.autopilot import AutopilotRunner
from ollama_exporter.actions.defaults.defaults_section import LEAST_GAPS, Autopilot
from ollama_exporter.advice.idle_histogram import IdleHistogram
from ollama_exporter.advice.keep_alive_advice import CostInputs, advise
from ollama_exporter.advice.live import LabelAdvice
from ollama_exporter.metrics.action_metrics import ActionMetrics
from ollama_exporter.metrics.labels import ModelLabels
from ollama_exporter.reporter import Reporter

HISTORIES: Final = int(os.environ.get("AUTOPILOT_HISTORIES", "200"))
GAPS: Final = 140  # in each history
LOOK_EACH: Final = 4  # gaps: there may be several in the minute between two looks
MODEL: Final = "mistral:latest"
Dice = random.Random


@dataclass(frozen=True, slots=True)
class WithoutDoubt:
    """An advice of which each change counts as better: what the autopilot must not trust."""

    keep_alive: float
    samples: float

    def is_surely_better(self, then: float, now: float) -> bool:
        return then != now


def gaps_of(dice: Dice) -> Callable[[], float]:
    """Return what draws the idle gaps of one kind of use: the same kind for ever."""
    mean = math.exp(dice.uniform(math.log(60), math.log(4 * 3600)))  # seconds
    match dice.choice(["random", "skewed", "regular", "bursts"]):
        case "random":
            return lambda: dice.expovariate(1 / mean)
        case "skewed":
            spread = dice.uniform(0.5, 2)
            return lambda: mean * math.exp(dice.gauss(0, spread))
        case "regular":
            return lambda: max(1.0, dice.gauss(mean, mean / 20))
        case _:
            return lambda: dice.expovariate(1 / 20 if dice.random() < 0.8 else 0.2 / mean)


@cache
def changes(seed: int) -> tuple[int, int]:
    """Return how often the keep-alive of one history changes, and how often without doubt.

    The first value is no change.
    """
    dice = Dice(seed)
    draw, gaps = gaps_of(dice), IdleHistogram()
    load = math.exp(dice.uniform(math.log(2), math.log(120)))  # seconds
    memory = math.exp(dice.uniform(math.log(1e9), math.log(50e9)))  # bytes
    inputs = CostInputs(gaps, load, memory)
    current: list[LabelAdvice] = []

    def blindly() -> Iterator[tuple[str, WithoutDoubt]]:
        for each in current:
            yield MODEL, WithoutDoubt(each.keep_alive, each.samples)

    careful = AutopilotRunner(
        ActionMetrics(ModelLabels(1)), lambda: ((MODEL, each) for each in current), Reporter()
    )
    blind = AutopilotRunner(ActionMetrics(ModelLabels(1)), blindly, Reporter())
    pilots = (careful, blind)
    given: tuple[list[float | None], list[float | None]] = ([], [])
    for pilot in pilots:
        pilot.apply_settings(Autopilot())
    for number in range(1, GAPS + 1):
        gaps.add(draw())
        if number >= LEAST_GAPS and number % LOOK_EACH == 0:
            current[:] = [LabelAdvice(MODEL, inputs, advise(inputs))]
            for pilot, values in zip(pilots, given, strict=True):
                pilot.follow_advice()
                if not values or values[-1] != pilot.value(MODEL):
                    values.append(pilot.value(MODEL))
    first, second = (len(values) - 1 for values in given)
    return first, second


def test_use_that_stays_the_same_changes_no_keep_alive_again_and_again() -> None:
    counted = [changes(seed)[0] for seed in range(HISTORIES)]
    assert max(counted) <= 4
    assert sum(counted) <= 0.4 * HISTORIES
    assert sum(each == 0 for each in counted) >= 0.7 * HISTORIES


def test_without_the_rule_against_chance_it_would() -> None:
    both = [changes(seed) for seed in range(HISTORIES)]
    assert 0 < 2 * sum(careful for careful, _ in both) <= sum(blind for _, blind in both)
    assert max(blind for _, blind in both) > 4


def test_another_use_is_followed() -> None:
    gaps, current = IdleHistogram(), list[LabelAdvice]()
    inputs = CostInputs(gaps, load_seconds=10.0, memory_bytes=8e9)
    pilot = AutopilotRunner(
        ActionMetrics(ModelLabels(1)), lambda: ((MODEL, each) for each in current), Reporter()
    )
    pilot.apply_settings(Autopilot())
    values = list[float | None]()
    for gap in [14_400.0] * 20 + [590.0] * 60:
        gaps.add(gap)
        current[:] = [LabelAdvice(MODEL, inputs, advise(inputs))]
        pilot.follow_advice()
        values.append(pilot.value(MODEL))
    assert values[19] == 60.0  # hours apart: not worth its memory
    assert (values[-1] or 0.0) >= 600.0
