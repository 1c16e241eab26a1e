# SPDX-License-Identifier: Apache-2.0
"""Replaces model names in families that are about to be rendered.

All families of a scrape pass here, so a new one cannot forget it.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final

from prometheus_client.metrics_core import Metric

from ollama_exporter.metrics.catalog_metric import CatalogHistogram, CatalogMetric, Labels
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

    def hide(self, families: Iterable[Metric]) -> Iterator[Metric]:
        """Yield families without names of models."""
        for family in families:
            if isinstance(family, CatalogMetric | CatalogHistogram):
                names = family.label_names
                if NAMES.isdisjoint(names):
                    yield family
                else:
                    yield family.relabelled(partial(self._hidden, family.name, names))
            else:
                yield self._of_library(family)

    def _of_library(self, family: Metric) -> Metric:
        new = Metric(family.name, family.documentation, family.type)
        new.unit = family.unit
        for sample in family.samples:
            if not NAMES.isdisjoint(sample.labels):
                names = tuple(sample.labels)
                hidden = self._hidden(family.name, names, tuple(sample.labels.values()))
                sample = sample._replace(labels=dict(zip(names, hidden, strict=True)))  # noqa: PLW2901 - the same one
            new.samples.append(sample)
        return new

    def _hidden(self, family: str, names: Labels, values: Labels) -> Labels:
        pairs = zip(names, values, strict=True)
        return tuple(self._value(family, name, value) for name, value in pairs)

    def _value(self, family: str, name: str, value: str) -> str:
        if name in NAMES or (name == "by" and family == EVICTIONS):
            return self._names(value)
        if name == DIGEST:
            return self._names.digest(value)
        return "" if name in DETAILS else value
