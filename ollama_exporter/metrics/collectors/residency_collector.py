# SPDX-License-Identifier: Apache-2.0
"""Section Residency: the published state as families, rebuilt for each scrape.

Nothing is kept between scrapes. So a model that left memory has no stale series, and no model looks
loaded while the server is down.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

from prometheus_client.metrics_core import Metric

from ollama_exporter.clock import Timeline
from ollama_exporter.metrics.catalog_metric import LabelledValue
from ollama_exporter.metrics.collectors.machine_collector import Sight
from ollama_exporter.metrics.from_catalog import constant
from ollama_exporter.metrics.labels import OTHER, ModelLabels
from ollama_exporter.poller.published import Published
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.events import ModelState

DIGEST_CHARACTERS: Final = 12
LONGEST_DETAIL: Final = 64


class ResidencyCollector:
    """All families of the section, and the pending unloads."""

    name = "residency"

    def __init__(
        self,
        timeline: Timeline,
        labels: ModelLabels,
        expected: Callable[[], Sequence[str]],
        sight: Sight,
        ranks: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._timeline, self._labels, self._expected = timeline, labels, expected
        self._sight, self._ranks = sight, ranks

    def collect_published(self, published: Published) -> Iterator[Metric]:
        """Yield the families."""
        view = published.view
        groups = self._grouped(view.models) if published.is_listed else []
        resident = [(label, states) for label, states in groups if _running(states)]
        yield constant("ollama_model_loaded", self._loaded(groups))
        yield constant("ollama_model_info", _info(resident))
        yield constant(
            "ollama_model_memory_bytes", _sums(resident, lambda model: model.size or None)
        )
        yield constant("ollama_model_vram_bytes", _sums(resident, lambda model: model.size_vram))
        yield constant("ollama_model_context_tokens", _latest(resident, _context))
        yield constant("ollama_model_expires_timestamp_seconds", _latest(resident, _expiry))
        yield constant("ollama_model_keep_alive_seconds", _latest(resident, _keep_alive))
        since = _latest(resident, lambda state: state.since)
        yield constant("ollama_model_loaded_timestamp_seconds", self._on_the_wall(since))
        at_slots = {name: totals.last_use for name, totals in self._sight.runner_totals()}
        use = _latest(
            resident,
            lambda state: max(
                (at for at in (state.last_use, at_slots.get(state.name)) if at is not None),
                default=None,
            ),
        )
        yield constant("ollama_model_last_use_timestamp_seconds", self._on_the_wall(use))
        yield constant("ollama_model_eviction_rank", self._ranked())
        yield constant(
            "ollama_model_expected",
            [
                ((label,), 1.0)
                for label in sorted({self._labels.label(x) for x in self._expected()})
            ],
        )
        yield constant("ollama_model_unloads_pending", [((), float(view.pending))])

    def _grouped(self, states: Iterable[ModelState]) -> list[tuple[str, list[ModelState]]]:
        labelled = sorted(((self._labels.label(s.name), s) for s in states), key=lambda x: x[0])
        return [
            (label, [state for _, state in group])
            for label, group in groupby(labelled, key=lambda pair: pair[0])
        ]

    def _loaded(self, groups: Iterable[tuple[str, list[ModelState]]]) -> list[LabelledValue]:
        values = {self._labels.label(name): 0.0 for name in self._expected()}
        values |= {label: float(bool(_running(states))) for label, states in groups}
        return [((label,), value) for label, value in sorted(values.items())]

    def _ranked(self) -> list[LabelledValue]:
        """Return the first rank of each label."""
        first: dict[str, int] = {}
        for name, rank in self._ranks().items():
            label = self._labels.label(name)
            first[label] = min(rank, first.get(label, rank))
        return [((label,), float(rank)) for label, rank in sorted(first.items())]

    def _on_the_wall(self, samples: list[LabelledValue]) -> list[LabelledValue]:
        return [(labels, self._timeline.wall(moment)) for labels, moment in samples]


Groups = Iterable[tuple[str, list[ModelState]]]


def _running(states: Iterable[ModelState]) -> list[RunningModel]:
    return [model for state in states for model in state.resident]


def _info(groups: Groups) -> list[LabelledValue]:
    """Return a series for each digest. Models that share the label `other` have none."""
    series = {
        (
            label,
            model.digest[:DIGEST_CHARACTERS],
            model.family[:LONGEST_DETAIL],
            model.format[:LONGEST_DETAIL],
            model.parameter_size[:LONGEST_DETAIL],
            model.quantization[:LONGEST_DETAIL],
        ): 1.0
        for label, states in groups
        if label != OTHER
        for model in _running(states)
    }
    return list(series.items())


def _sums(groups: Groups, size: Callable[[RunningModel], int | None]) -> list[LabelledValue]:
    """Return the sum of each label's known sizes; a label without one has no sample."""
    samples: list[LabelledValue] = []
    for label, states in groups:
        known = [value for model in _running(states) if (value := size(model)) is not None]
        if known:
            samples.append(((label,), float(sum(known))))
    return samples


def _latest(groups: Groups, read: Callable[[ModelState], float | None]) -> list[LabelledValue]:
    """Return the largest known value of each label."""
    samples: list[LabelledValue] = []
    for label, states in groups:
        known = [value for state in states if (value := read(state)) is not None]
        if known:
            samples.append(((label,), max(known)))
    return samples


def _context(state: ModelState) -> float | None:
    return max((m.context for m in state.resident if m.context is not None), default=None)


def _expiry(state: ModelState) -> float | None:
    # 0.0 means that the server announces no deadline; as a time it would be 1970.
    return max((m.expires_at for m in state.resident if m.expires_at > 0), default=None)


def _keep_alive(state: ModelState) -> float | None:
    known = state.keep_alive
    return None if known is None or math.isnan(known) else max(0.0, known)
