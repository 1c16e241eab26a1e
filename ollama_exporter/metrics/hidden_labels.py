# SPDX-License-Identifier: Apache-2.0
"""Replaces model names in families that are about to be rendered.

All families of a scrape pass here, so a new one cannot forget it.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client.metrics_core import Metric

from ollama_exporter.metrics.exposition import Unchanging
from ollama_exporter.metrics.hidden_names import HiddenNames

NAMES: Final = frozenset({"model", "victim"})
EVICTIONS: Final = "ollama_model_evictions"  # its `by` is a model; elsewhere it is a feature
DIGEST: Final = "digest"
# Together they name a public model almost as well as its name does.
DETAILS: Final = frozenset({"family", "parameter_size", "quantization"})


class HiddenLabels:
    """Hides the names in the families of one registry."""

    def __init__(self, names: HiddenNames) -> None:
        self._names = names
        self._kept: dict[str, tuple[Metric, Metric]] = {}  # unchanging ones: as collected, hidden

    def hide(self, families: Iterable[Metric]) -> Iterator[Metric]:
        """Yield families without names of models."""
        for family in families:
            if not isinstance(family, Unchanging):
                yield self._hidden(family, Metric(family.name, family.documentation, family.type))
                continue
            collected, hidden = self._kept.get(family.name, (None, None))
            if hidden is None or collected is not family:
                hidden = self._hidden(family, Unchanging(family))
                self._kept[family.name] = family, hidden
            yield hidden

    def _hidden(self, family: Metric, new: Metric) -> Metric:
        new.unit = family.unit
        for sample in family.samples:
            if NAMES.isdisjoint(sample.labels):
                new.samples.append(sample)
            else:
                labels = {x: self._value(family.name, x, y) for x, y in sample.labels.items()}
                new.samples.append(sample._replace(labels=labels))
        return new

    def _value(self, family: str, name: str, value: str) -> str:
        if name in NAMES or (name == "by" and family == EVICTIONS):
            return self._names(value)
        if name == DIGEST:
            return self._names.digest(value)
        return "" if name in DETAILS else value
