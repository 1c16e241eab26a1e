# SPDX-License-Identifier: Apache-2.0
from ollama_exporter.host.log.flood import BURST, CALM, RATE, LineBudget


def test_a_burst_is_read_and_a_flood_at_its_rate() -> None:
    budget = LineBudget()
    assert budget.grant(int(BURST), 100.0)
    assert not budget.grant(1, 100.0)
    granted = sum(budget.grant(100, 100.0 + n / 100) for n in range(1000)) * 100
    assert granted <= RATE * 10.0 + 100
    assert granted >= RATE * 9.0


def test_a_flood_is_over_after_some_seconds_without_a_skipped_line() -> None:
    budget = LineBudget()
    assert not budget.is_flooded(0.0)
    budget.grant(int(2 * BURST), 0.0)
    assert not budget.is_flooded(0.0)
    assert not budget.grant(1, 1.0)
    assert budget.is_flooded(1.0 + CALM / 2)
    assert not budget.is_flooded(1.0 + CALM)


def test_a_clock_that_goes_back_grants_nothing() -> None:
    budget = LineBudget()
    budget.grant(int(BURST), 100.0)
    assert not budget.grant(1, 50.0)
