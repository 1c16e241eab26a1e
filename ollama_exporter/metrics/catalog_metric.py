# SPDX-License-Identifier: Apache-2.0
"""Families of the catalog that keep their samples as label values and numbers.

The library makes a named tuple and a dict for each sample, and checks the family's name each time:
that was half of the time of a scrape. Our renderer reads `values` and needs neither. Whoever else
asks for `samples` gets them made.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from itertools import accumulate
from typing import Self

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample

from ollama_exporter.metrics.catalog.family import Family

Labels = tuple[str, ...]
LabelledValue = tuple[Labels, float]
Relabel = Callable[[Labels], Labels]
# Label values, counts that are not cumulative, sum, exemplars by bucket.
HistogramValues = tuple[Labels, tuple[float, ...], float, Mapping[int, Exemplar]]


class _FromCatalog(Metric):
    # A scrape makes a hundred of them. Metric.__init__ would check a name that is a constant of
    # ours, and what is rarely needed can be looked up in the catalog's row.
    _family: Family

    @property
    def documentation(self) -> str:  # type: ignore[override]  # an attribute of the library's
        return self._family.help

    @property
    def type(self) -> str:  # type: ignore[override]  # likewise
        return self._family.kind

    @property
    def unit(self) -> str:  # type: ignore[override]  # likewise
        return ""

    @property
    def sample_name(self) -> str:
        """The name of the samples of a counter or a gauge."""
        return self._family.name

    @property
    def label_names(self) -> Labels:
        """The names of the labels, without that of a bucket."""
        return self._family.labels


class CatalogMetric(_FromCatalog):
    """A counter or a gauge."""

    def __init__(self, family: Family, base: str, values: Sequence[LabelledValue]) -> None:
        self._family, self.name, self.values = family, base, values

    def relabelled(self, relabel: Relabel) -> Self:
        """Return the family with other label values."""
        new = copy(self)
        new.values = [(relabel(labels), value) for labels, value in self.values]
        return new

    @property
    def samples(self) -> list[Sample]:  # type: ignore[override]  # an attribute of the library's
        """The samples, made anew at each call."""
        name, names = self.sample_name, self.label_names
        return [
            Sample(name, dict(zip(names, labels, strict=True)), value)
            for labels, value in self.values
        ]


class CatalogHistogram(_FromCatalog):
    """A histogram. `le`: the bounds of its buckets as they are written, +Inf last."""

    def __init__(
        self, family: Family, le: Sequence[str], values: Sequence[HistogramValues]
    ) -> None:
        self._family, self.name, self.le, self.values = family, family.name, le, values

    def relabelled(self, relabel: Relabel) -> Self:
        """Return the family with other label values."""
        new = copy(self)
        new.values = [
            (relabel(labels), counts, total, exemplars)
            for labels, counts, total, exemplars in self.values
        ]
        return new

    @property
    def samples(self) -> list[Sample]:  # type: ignore[override]  # likewise
        """The samples, made anew at each call."""
        samples: list[Sample] = []
        for values, counts, total, exemplars in self.values:
            labels, count = dict(zip(self.label_names, values, strict=True)), 0.0
            for bucket, (bound, count) in enumerate(zip(self.le, accumulate(counts), strict=True)):
                below = {**labels, "le": bound}
                samples.append(
                    Sample(f"{self.name}_bucket", below, count, None, exemplars.get(bucket))
                )
            samples.append(Sample(f"{self.name}_count", labels, count))
            samples.append(Sample(f"{self.name}_sum", labels, total))
        return samples
