# SPDX-License-Identifier: Apache-2.0
"""Idle gaps as families."""

from typing import Final

from prometheus_client.metrics_core import Metric

from ollama_exporter.advice.gap_counts import GapCounts
from ollama_exporter.advice.idle_histogram import BOUNDS
from ollama_exporter.metrics.catalog.all_families import FAMILIES
from ollama_exporter.metrics.catalog_metric import CatalogHistogram, HistogramValues
from ollama_exporter.metrics.from_catalog import Families, constant, empty

GAP: Final = "ollama_model_idle_gap_seconds"
TRUNCATED: Final = "ollama_model_idle_gap_truncated_seconds_total"
INFERRED: Final = "ollama_model_idle_gaps_inferred_total"
# As the library writes `le` of a histogram, and as Prometheus stores it: queries join on it.
LE: Final = tuple(f"{bound:.1f}" for bound in BOUNDS)


class IdleGapCollector:
    """Reads the counts. Nothing is kept: an exporter of a thousand servers would keep 15 MB."""

    name = "idle"

    def __init__(self, counts: GapCounts) -> None:
        self._counts = counts

    def collect(self) -> Families:
        """Yield the families."""
        found = [((label,), gaps.histogram, gaps.inferred) for label, gaps in self._counts.items()]
        histograms: list[HistogramValues] = [
            (key, tuple(x.counts), x.total, {}) for key, x, _ in found
        ]
        yield CatalogHistogram(FAMILIES[GAP], (*LE, "+Inf"), histograms)
        truncated = [
            ((label, le), seconds)
            for (label,), histogram, _ in found
            for le, seconds in zip(LE, histogram.truncated, strict=True)
        ]
        yield constant(TRUNCATED, truncated)
        yield constant(INFERRED, [(key, inferred) for key, _, inferred in found])

    def describe(self) -> list[Metric]:
        """Return the families without samples."""
        return [empty(name) for name in (GAP, TRUNCATED, INFERRED)]
