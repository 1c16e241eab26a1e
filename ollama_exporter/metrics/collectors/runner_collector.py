# SPDX-License-Identifier: Apache-2.0
"""Section Runners: slots, context and tokens, as the watcher of slots knows them."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client.metrics_core import Metric

from ollama_exporter.host.runner.slot_usage import ModelTotals, RunnerSight, SlotsNow
from ollama_exporter.metrics.collectors.machine_collector import Sight
from ollama_exporter.metrics.from_catalog import Samples, constant
from ollama_exporter.metrics.labels import ModelLabels

GAUGES: Final[tuple[tuple[str, str, Callable[[Iterable[int]], int]], ...]] = (
    ("ollama_model_slots", "slots", sum),
    ("ollama_model_slots_busy", "busy", sum),
    ("ollama_model_slot_context_tokens", "slot_context", min),
    ("ollama_model_context_used_tokens", "context_used", max),
    ("ollama_model_context_used_max_tokens", "context_most", max),
    ("ollama_model_prompt_cache_tokens", "prompt_cache", sum),
)
COUNTED: Final = (
    ("ollama_model_busy_seconds_total", "busy_seconds"),
    ("ollama_model_observed_generated_tokens_total", "generated_tokens"),
    ("ollama_model_context_shifts_total", "context_shifts"),
)
EXACT: Final = (
    ("ollama_runner_prompt_tokens_total", "prompt_tokens"),
    ("ollama_runner_cached_prompt_tokens_total", "cached_prompt_tokens"),
    ("ollama_runner_prompt_seconds_total", "prompt_seconds"),
    ("ollama_runner_generated_tokens_total", "generated_tokens"),
    ("ollama_runner_generated_seconds_total", "generated_seconds"),
    ("ollama_runner_draft_tokens_total", "draft_tokens"),
    ("ollama_runner_accepted_draft_tokens_total", "accepted_draft_tokens"),
)


class RunnerCollector:
    """Families without samples where no runner is looked at."""

    name = "runners"

    def __init__(self, sight: Sight, labels: ModelLabels) -> None:
        self._sight, self._labels = sight, labels

    def collect(self) -> Iterator[Metric]:
        """Yield the families of this moment."""
        sights = list(self._sight.runners())
        yield from self._now(sights)
        yield constant("ollama_model_runner_info", self._info(sights))
        yield from self._counted()

    def _now(self, sights: Iterable[RunnerSight]) -> Iterator[Metric]:
        """Models that share a label, and runners of one model, are taken together."""
        found: dict[str, list[SlotsNow]] = {}
        for sight in sights:
            if sight.now is not None:
                found.setdefault(self._labels.label(sight.model), []).append(sight.now)
        for name, field, together in GAUGES:
            values = [
                ((label,), float(together(getattr(now, field) for now in mine)))
                for label, mine in found.items()
            ]
            yield constant(name, values)

    def _info(self, sights: Iterable[RunnerSight]) -> Samples:
        rows = {
            (
                self._labels.label(sight.model),
                sight.command.kv_cache_type,
                sight.command.flash_attention,
                sight.command.batch,
                sight.command.gpu_layers,
                str(sight.command.context_shift).lower(),
                str(sight.command.speculative).lower(),
                sight.build,
            )
            for sight in sights
            if sight.now is not None
        }
        return [(row, 1.0) for row in sorted(rows)]

    def _counted(self) -> Iterator[Metric]:
        totals: dict[str, list[ModelTotals]] = {}
        for model, mine in self._sight.runner_totals():
            totals.setdefault(self._labels.label(model), []).append(mine)

        def sums(field: str) -> dict[str, float]:
            return {
                label: float(sum(getattr(each, field) for each in mine))
                for label, mine in totals.items()
            }

        for name, field in COUNTED:
            yield constant(name, [((label,), value) for label, value in sums(field).items()])
        states = [
            ((label, state), value)
            for state in ("busy", "idle")
            for label, value in sums(f"slot_{state}_seconds").items()
        ]
        yield constant("ollama_model_slot_seconds_total", states)
        for name, field in EXACT:
            samples = [
                ((label,), float(sum(getattr(each.counters, field) for each in exact)))
                for label, mine in totals.items()
                if (exact := [each for each in mine if each.counters is not None])
            ]
            yield constant(name, samples)
