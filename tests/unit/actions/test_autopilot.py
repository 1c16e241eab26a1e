# SPDX-License-Identifier: Apache-2.0
import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from ollama_exporter.actions.autopilot import INTERVAL, AutopilotRunner
from ollama_exporter.actions.defaults.defaults_section import Autopilot
from ollama_exporter.metrics.action_metrics import ActionMetrics
from ollama_exporter.metrics.labels import ModelLabels
from ollama_exporter.reporter import Reporter
from tests.support.exporting import Samples, parsed
from tests.support.virtual import run_virtually


@dataclass(frozen=True, slots=True)
class Given:
    """An advice."""

    keep_alive: float
    samples: float
    better: bool = True

    def is_surely_better(self, then: float, now: float) -> bool:
        assert then != now
        return self.better


class Cockpit:
    """An autopilot, the advice that it gets, and its metrics."""

    def __init__(self, section: Autopilot | None) -> None:
        self.advice: dict[str, Given] = {}
        acts, self._registry = ActionMetrics(ModelLabels(10)), CollectorRegistry()
        self._registry.register(acts)
        self.pilot = AutopilotRunner(acts, self._current, Reporter())
        self.pilot.apply_settings(section)

    def _current(self) -> Iterator[tuple[str, Given]]:
        yield from self.advice.items()

    def samples(self) -> Samples:
        return parsed(generate_latest(self._registry).decode())


@pytest.mark.parametrize(
    ("advised", "given"),
    [(600.0, 600.0), (0.0, 60.0), (30.0, 60.0), (math.inf, 7200.0), (7200.0, 7200.0)],
)
def test_the_advice_is_followed_within_its_limits(advised: float, given: float) -> None:
    it = Cockpit(Autopilot(min=60.0, max=7200.0))
    it.advice["a:latest"] = Given(advised, 50)
    it.pilot.follow_advice()
    assert it.pilot.value("a:latest") == given
    samples = it.samples()
    assert samples["ollama_autopilot_keep_alive_seconds", "model=a:latest"] == given
    assert samples["ollama_autopilot_changes_total", "model=a:latest"] == 1


def test_it_may_pin_if_the_operator_lets_it() -> None:
    it = Cockpit(Autopilot(max=math.inf))
    it.advice["a:latest"] = Given(math.inf, 50)
    it.pilot.follow_advice()
    assert it.pilot.value("a:latest") == math.inf


def test_each_change_is_said_with_what_was_before(caplog: pytest.LogCaptureFixture) -> None:
    it = Cockpit(Autopilot())
    it.advice["a:latest"] = Given(600.0, 50)
    with caplog.at_level("INFO", "ollama_exporter"):
        for _ in range(3):
            it.pilot.follow_advice()
        it.advice["a:latest"] = Given(1200.0, 60)
        it.pilot.follow_advice()
    values = [vars(record) for record in caplog.records]
    assert [(v["before"], v["keep_alive"], v["gaps"]) for v in values] == [
        ("none", "10m0s", 50),
        ("10m0s", "20m0s", 60),
    ]
    assert it.samples()["ollama_autopilot_changes_total", "model=a:latest"] == 2


def test_thin_advice_and_other_models_are_left() -> None:
    it = Cockpit(Autopilot(models=("a*",), least_gaps=20))
    it.advice = {"a:latest": Given(600.0, 19), "b:latest": Given(600.0, 500)}
    it.pilot.follow_advice()
    assert (it.pilot.value("a:latest"), it.pilot.value("b:latest")) == (None, None)


def test_p14_a_model_that_a_reload_takes_out_has_no_value_any_more() -> None:
    it = Cockpit(Autopilot())
    it.advice = {"a:latest": Given(600.0, 50), "b:latest": Given(600.0, 50)}
    it.pilot.follow_advice()
    it.pilot.apply_settings(Autopilot(models=("b*",)))
    assert (it.pilot.value("a:latest"), it.pilot.value("b:latest")) == (None, 600.0)
    shown = [labels for name, labels in it.samples() if name.endswith("keep_alive_seconds")]
    assert shown == ["model=b:latest"]


def test_off_it_gives_nothing_and_forgets() -> None:
    it = Cockpit(Autopilot())
    it.advice["a:latest"] = Given(600.0, 50)
    it.pilot.follow_advice()
    it.pilot.apply_settings(None)
    it.pilot.follow_advice()
    assert it.pilot.value("a:latest") is None
    assert ("ollama_autopilot_keep_alive_seconds", "model=a:latest") not in it.samples()


def test_a_change_that_may_be_chance_is_not_followed() -> None:
    it = Cockpit(Autopilot(min=60.0, max=7200.0))
    it.advice["a:latest"] = Given(600.0, 50)
    it.pilot.follow_advice()
    it.advice["a:latest"] = Given(900.0, 51, better=False)
    it.pilot.follow_advice()
    assert it.pilot.value("a:latest") == 600.0
    it.advice["a:latest"] = Given(900.0, 90)
    it.pilot.follow_advice()
    assert it.pilot.value("a:latest") == 900.0


def test_a_value_outside_new_limits_is_changed_in_any_case() -> None:
    it = Cockpit(Autopilot(min=60.0, max=7200.0))
    it.advice["a:latest"] = Given(3600.0, 50)
    it.pilot.follow_advice()
    it.pilot.apply_settings(Autopilot(min=60.0, max=1800.0))
    it.advice["a:latest"] = Given(3600.0, 51, better=False)
    it.pilot.follow_advice()
    assert it.pilot.value("a:latest") == 1800.0


def test_an_internal_error_costs_one_turn_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    errors, found = list[int](), [{}, {"a:latest": Given(600.0, 50)}]

    def current() -> Iterator[tuple[str, Given]]:
        now = found.pop(0)
        if not now:
            raise ZeroDivisionError("a defect of ours")
        yield from now.items()

    async def main() -> None:
        reporter = Reporter(error=lambda: errors.append(1))
        pilot = AutopilotRunner(ActionMetrics(ModelLabels(10)), current, reporter)
        pilot.apply_settings(Autopilot(min=60.0, max=7200.0))
        running = asyncio.create_task(pilot.run())
        await asyncio.sleep(2.5 * INTERVAL)
        running.cancel()
        assert pilot.value("a:latest") == 600.0

    run_virtually(main())
    assert (errors, found) == ([1], [])
    assert "Unexpected error in the autopilot" in caplog.text
