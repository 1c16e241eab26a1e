# SPDX-License-Identifier: Apache-2.0
"""Counters, gauges and histograms without locks: each request updates about thirty of them.

The client library takes a lock for each child and each bucket, in each update and in each scrape.
That costs more than all other work for a request, and half of the time of a scrape. Here all
updates come from one thread, or their caller holds one lock for all of them. `collect` needs no
lock: an update during a scrape shows in this scrape or in the next.
"""

from bisect import bisect_left

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from ollama_exporter.metrics.catalog.all_families import FAMILIES
from ollama_exporter.metrics.catalog_metric import CatalogHistogram, Labels
from ollama_exporter.metrics.from_catalog import constant


class FastCounter:
    """A counter family of the catalog."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._values: dict[Labels, float] = {}

    def add(self, *labels: str, amount: float = 1.0) -> None:
        """Add to a child; create it if it does not exist."""
        self._values[labels] = self._values.get(labels, 0.0) + amount

    def add_at(self, labels: Labels, amount: float = 1.0) -> None:
        """Do the same with labels that the caller keeps, in half of the time."""
        values = self._values
        values[labels] = values.get(labels, 0.0) + amount

    def create(self, *labels: str) -> None:
        """Create a child at 0: `increase()` does not see a counter that begins at 1."""
        self._values.setdefault(labels, 0.0)

    def collect(self) -> Metric:
        """Return the family."""
        return constant(self._name, list(self._values.items()))


class FastGauge:
    """A gauge family of the catalog."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._values: dict[Labels, float] = {}

    def set(self, *labels: str, value: float) -> None:
        """Set a child; create it if it does not exist."""
        self._values[labels] = value

    def collect(self) -> Metric:
        """Return the family."""
        return constant(self._name, list(self._values.items()))


class _Child:
    __slots__ = ("counts", "exemplars", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets  # not cumulative; the last is above all bounds
        self.exemplars: dict[int, Exemplar] = {}  # by bucket
        self.total = 0.0


class FastHistogram:
    """A histogram family of the catalog."""

    def __init__(self, name: str) -> None:
        self._family = family = FAMILIES[name]
        self._bounds = family.buckets
        self._le = (*map(_as_written, family.buckets), "+Inf")
        self._children: dict[Labels, _Child] = {}

    def create(self, *labels: str) -> None:
        """Create a child without a value."""
        self._child(labels)

    def observe(self, *labels: str, value: float, exemplar: Exemplar | None = None) -> None:
        """Count a value. Its bucket keeps the latest exemplar."""
        self.observe_at(labels, value, exemplar)

    def observe_at(self, labels: Labels, value: float, exemplar: Exemplar | None = None) -> None:
        """Do the same with labels that the caller keeps."""
        child = self._children.get(labels) or self._child(labels)
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
        values = [
            (labels, tuple(child.counts), child.total, child.exemplars.copy())
            for labels, child in list(self._children.items())
        ]
        return CatalogHistogram(self._family, self._le, values)

    def _child(self, labels: Labels) -> _Child:
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = _Child(len(self._le))
        return child


def _as_written(bound: float) -> str:
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call] # the library has no types there
