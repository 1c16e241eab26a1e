# SPDX-License-Identifier: Apache-2.0
"""Idle gaps as families: counted on the fixed bounds, written anew only when one was added."""

from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from ollama_exporter.advice.idle_histogram import BOUNDS, IdleGaps
from ollama_exporter.metrics.exposition import Unchanging
from ollama_exporter.metrics.from_catalog import Families, constant, empty

GAP: Final = "ollama_model_idle_gap_seconds"
TRUNCATED: Final = "ollama_model_idle_gap_truncated_seconds_total"
INFERRED: Final = "ollama_model_idle_gaps_inferred_total"
# As the library writes `le`, and as Prometheus stores it: the two are joined on it.
LE: Final = tuple(f"{bound:.1f}" for bound in BOUNDS)


class IdleCollector:
    """Keeps the gaps of each label."""

    name = "idle"

    def __init__(self) -> None:
        self.gaps: dict[str, IdleGaps] = {}
        self.inferred: dict[str, float] = {}  # how many of them polls alone showed
        self._families: tuple[dict[str, float], list[Metric]] = ({}, self.describe())

    def meet(self, label: str) -> None:
        """Create a model's counters at 0 before they count."""
        if label not in self.gaps:
            self.restore(label, IdleGaps(), inferred=0.0)

    def restore(self, label: str, gaps: IdleGaps, *, inferred: float) -> None:
        """Go on counting from these."""
        self.gaps[label], self.inferred[label] = gaps, inferred

    def observe(self, label: str, seconds: float, *, inferred: bool) -> None:
        """Count a gap; `inferred`: polls show it, no request was seen."""
        self.meet(label)
        self.gaps[label].add(seconds)
        self.inferred[label] += inferred

    def collect(self) -> Families:
        """Yield the families."""
        as_of = {label: gaps.samples for label, gaps in list(self.gaps.items())}
        if self._families[0] != as_of:
            self._families = as_of, self._written()
        yield from self._families[1]

    def _written(self) -> list[Metric]:
        histogram, truncated, inferred = families = self.describe()
        for label, gaps in list(self.gaps.items()):
            counts, sums = _samples(label, gaps.copy())
            histogram.samples += counts
            truncated.samples += sums
        inferred.samples = constant(INFERRED, [((x,), n) for x, n in self.inferred.items()]).samples
        return families

    def describe(self) -> list[Metric]:
        """Return the families without samples."""
        return [Unchanging(empty(name)) for name in (GAP, TRUNCATED, INFERRED)]


def _samples(label: str, gaps: IdleGaps) -> tuple[list[Sample], list[Sample]]:
    model, below = {"model": label}, 0.0
    buckets: list[Sample] = []
    for le, count in zip((*LE, "+Inf"), gaps.counts, strict=True):
        below += count
        buckets.append(Sample(f"{GAP}_bucket", {**model, "le": le}, below))
    buckets += [Sample(f"{GAP}_count", model, below), Sample(f"{GAP}_sum", model, gaps.total)]
    truncated = [
        Sample(TRUNCATED, {**model, "le": le}, value)
        for le, value in zip(LE, gaps.truncated, strict=True)
    ]
    return buckets, truncated
