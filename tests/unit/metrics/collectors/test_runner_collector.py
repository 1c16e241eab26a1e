# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterable

from ollama_exporter.host.runner.runner_command import RunnerCommand
from ollama_exporter.host.runner.runner_counters import RunnerCounters
from ollama_exporter.host.runner.slot_usage import ModelTotals, RunnerSight, SlotsNow
from ollama_exporter.metrics.catalog.runner_families import RUNNER_FAMILIES
from ollama_exporter.metrics.collectors.machine_collector import Blind
from ollama_exporter.metrics.collectors.runner_collector import RunnerCollector
from ollama_exporter.metrics.labels import OTHER, ModelLabels

COMMAND = RunnerCommand(1, 2, 8192, flash_attention="auto", batch="1024", context_shift=True)
Found = dict[tuple[str, ...], float]


class Seen(Blind):
    """What the slots of some runners show."""

    def __init__(self, sights: list[RunnerSight], totals: dict[str, ModelTotals]) -> None:
        self._sights, self._totals = sights, totals

    def runners(self) -> Iterable[RunnerSight]:
        return self._sights

    def runner_totals(self) -> Iterable[tuple[str, ModelTotals]]:
        return self._totals.items()


def collected(
    sights: list[RunnerSight], totals: dict[str, ModelTotals], *, limit: int = 10
) -> dict[str, Found]:
    collector = RunnerCollector(Seen(sights, totals), ModelLabels(limit))
    return {
        family.name: {tuple(s.labels.values()): s.value for s in family.samples}
        for family in collector.collect()
    }


def test_without_looks_every_family_is_there_and_empty() -> None:
    found = collected([], {})
    assert set(found) == {family.base for family in RUNNER_FAMILIES}
    assert not any(found.values())


def test_two_runners_of_one_model_are_taken_together() -> None:
    sights = [
        RunnerSight("m", COMMAND, "b1", SlotsNow(2, 1, 4096, 900, 3000, 50)),
        RunnerSight("m", COMMAND, "b1", SlotsNow(1, 1, 2048, 1000, 1000, 0)),
        RunnerSight("n", COMMAND, "", None),  # does not answer
    ]
    found = collected(sights, {})
    values = {name: family.get(("m",)) for name, family in found.items()}
    assert values["ollama_model_slots"] == 3
    assert values["ollama_model_slots_busy"] == 2
    assert values["ollama_model_slot_context_tokens"] == 2048
    assert values["ollama_model_context_used_tokens"] == 1000
    assert values["ollama_model_context_used_max_tokens"] == 3000
    assert values["ollama_model_prompt_cache_tokens"] == 50
    info = ("m", "f16", "auto", "1024", "", "true", "false", "b1")
    assert found["ollama_model_runner_info"] == {info: 1.0}


def test_totals_of_models_that_share_a_label_are_added() -> None:
    exact = RunnerCounters(prompt_tokens=5, generated_tokens=7)
    totals = {
        "a": ModelTotals(1.0, 1.5, 0.5, 10, 1, counters=exact),
        "b": ModelTotals(2.0, 2.0, 4.0, 20, 0, counters=exact),
        "c": ModelTotals(4.0, 4.0, 0.0, 40, 0),
    }
    found = collected([], totals, limit=1)
    assert found["ollama_model_busy_seconds"] == {("a",): 1.0, (OTHER,): 6.0}
    assert found["ollama_model_slot_seconds"][OTHER, "idle"] == 4.0
    assert found["ollama_model_observed_generated_tokens"] == {("a",): 10, (OTHER,): 60}
    assert found["ollama_runner_generated_tokens"] == {("a",): 7, (OTHER,): 7}


def test_exact_counters_are_absent_where_no_runner_serves_them() -> None:
    found = collected([], {"m": ModelTotals(1.0, 1.0, 1.0, 10, 0)})
    assert found["ollama_model_observed_generated_tokens"] == {("m",): 10}
    assert found["ollama_runner_generated_tokens"] == {}
