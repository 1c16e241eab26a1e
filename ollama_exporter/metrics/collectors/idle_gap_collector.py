# SPDX-License-Identifier: Apache-2.0
"""Idle gaps as families: rendered again only when a gap was counted."""

from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from ollama_exporter.advice.gap_counts import GapCounts, ModelGaps
from ollama_exporter.advice.idle_histogram import BOUNDS
from ollama_exporter.metrics.exposition import Unchanging
from ollama_exporter.metrics.from_catalog import Families, empty

GAP: Final = "ollama_model_idle_gap_seconds"
TRUNCATED: Final = "ollama_model_idle_gap_truncated_seconds_total"
INFERRED: Final = "ollama_model_idle_gaps_inferred_total"
# As the library writes `le` of a histogram, and as Prometheus stores it: queries join on it.
LE: Final = tuple(f"{bound:.1f}" for bound in BOUNDS)


class IdleGapCollector:
    """Reads the counts, and keeps the families until a count changes.

    Kept, five models take 66 KB. An exporter of a thousand servers makes them again each time.
    """

    name = "idle"

    def __init__(self, counts: GapCounts, *, keeps: bool = True) -> None:
        self._counts, self._keeps = counts, keeps
        self._kept: tuple[int, list[Metric]] = (-1, [])

    def collect(self) -> Families:
        """Yield the families."""
        if not self._keeps:
            yield from self._families()
            return
        changes = self._counts.changes
        if self._kept[0] != changes:
            self._kept = changes, self._families()
        yield from self._kept[1]

    def _families(self) -> list[Metric]:
        histogram, truncated, inferred = families = self.describe()
        for label, gaps in self._counts.items():
            buckets, sums = _samples(label, gaps)
            histogram.samples += buckets
            truncated.samples += sums
            inferred.samples.append(Sample(INFERRED, {"model": label}, gaps.inferred))
        return families

    def describe(self) -> list[Metric]:
        """Return the families without samples."""
        families = [empty(name) for name in (GAP, TRUNCATED, INFERRED)]
        return [Unchanging(family) for family in families] if self._keeps else families


def _samples(label: str, gaps: ModelGaps) -> tuple[list[Sample], list[Sample]]:
    model, below, histogram = {"model": label}, 0.0, gaps.histogram
    buckets: list[Sample] = []
    for le, count in zip((*LE, "+Inf"), histogram.counts, strict=True):
        below += count
        buckets.append(Sample(f"{GAP}_bucket", {**model, "le": le}, below))
    buckets += [Sample(f"{GAP}_count", model, below), Sample(f"{GAP}_sum", model, histogram.total)]
    truncated = [
        Sample(TRUNCATED, {**model, "le": le}, value)
        for le, value in zip(LE, histogram.truncated, strict=True)
    ]
    return buckets, truncated
