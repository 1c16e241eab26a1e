# SPDX-License-Identifier: Apache-2.0
"""Counters and histograms without locks: each request updates about thirty of them.

The client library takes a lock for each child and each bucket, which costs more than all other work
for a request. Here the caller holds one lock for all updates. `collect` needs no lock: an update
during a scrape shows in this scrape or in the next.
"""

from bisect import bisect_left

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

from ollama_exporter.metrics.catalog.all_families import FAMILIES
from ollama_exporter.metrics.from_catalog import constant, empty

Labels = tuple[str, ...]


class FastCounter:
    """A counter family of the catalog."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._values: dict[Labels, float] = {}

    def add(self, *labels: str, amount: float = 1.0) -> None:
        """Add to a child; create it if it does not exist."""
        self._values[labels] = self._values.get(labels, 0.0) + amount

    def create(self, *labels: str) -> None:
        """Create a child at 0: `increase()` does not see a counter that begins at 1."""
        self._values.setdefault(labels, 0.0)

    def collect(self) -> Metric:
        """Return the family."""
        return constant(self._name, list(self._values.items()))


class _Child:
    __slots__ = ("counts", "exemplars", "total")

    def __init__(self, bounds: int) -> None:
        self.counts = [0] * (bounds + 1)  # not cumulative; the last is above all bounds
        self.exemplars: dict[int, Exemplar] = {}  # by bucket
        self.total = 0.0


class FastHistogram:
    """A histogram family of the catalog."""

    def __init__(self, name: str) -> None:
        family = FAMILIES[name]
        self._name, self._names, self._bounds = name, family.labels, family.buckets
        self._le = (*map(_as_written, family.buckets), "+Inf")
        self._children: dict[Labels, _Child] = {}

    def observe(self, *labels: str, value: float, exemplar: Exemplar | None = None) -> None:
        """Count a value. Its bucket keeps the latest exemplar."""
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = _Child(len(self._bounds))
        bucket = bisect_left(self._bounds, value)
        child.counts[bucket] += 1
        child.total += value
        if exemplar is not None:
            child.exemplars[bucket] = exemplar

    def totals(self) -> dict[Labels, tuple[float, int]]:
        """Return sum and number of the values of each child."""
        return {x: (child.total, sum(child.counts)) for x, child in list(self._children.items())}

    def collect(self) -> Metric:
        """Return the family."""
        metric = empty(self._name)
        for labels, child in list(self._children.items()):
            metric.samples += self._samples(dict(zip(self._names, labels, strict=True)), child)
        return metric

    def _samples(self, labels: dict[str, str], child: _Child) -> list[Sample]:
        total, counts, below = child.total, list(child.counts), 0
        samples: list[Sample] = []
        for bucket, count in enumerate(counts):
            below += count
            exemplar = child.exemplars.get(bucket)
            le = {**labels, "le": self._le[bucket]}
            samples.append(Sample(f"{self._name}_bucket", le, below, None, exemplar))
        return [
            *samples,
            Sample(f"{self._name}_count", labels, below),
            Sample(f"{self._name}_sum", labels, total),
        ]


def _as_written(bound: float) -> str:
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call] # the library has no types there
