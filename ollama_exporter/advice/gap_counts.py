# SPDX-License-Identifier: Apache-2.0
"""Counts the idle gaps of all models, whether requests or polls showed them. Pure."""

from collections.abc import Iterator

from msgspec import Struct, field

from ollama_exporter.advice.idle_histogram import IdleHistogram


class ModelGaps(Struct):
    """The idle gaps of one model."""

    histogram: IdleHistogram = field(default_factory=IdleHistogram)
    inferred: float = 0.0  # gaps among them that polls alone showed


class GapCounts:
    """The idle gaps by label. One thread counts; others may read meanwhile."""

    def __init__(self) -> None:
        self._by_label: dict[str, ModelGaps] = {}

    def expect(self, label: str) -> None:
        """Create the counts of a label at 0."""
        if label not in self._by_label:
            self.restore(label, ModelGaps())

    def restore(self, label: str, gaps: ModelGaps) -> None:
        """Continue counting from these gaps."""
        self._by_label[label] = gaps

    def add(self, label: str, seconds: float, *, inferred: bool) -> None:
        """Count a gap; `inferred`: polls alone showed it."""
        self.expect(label)
        gaps = self._by_label[label]
        gaps.histogram.add(seconds)
        gaps.inferred += inferred

    def of(self, label: str) -> ModelGaps:
        """Return a copy of the gaps of a label."""
        gaps = self._by_label.get(label) or ModelGaps()
        return ModelGaps(gaps.histogram.copy(), gaps.inferred)

    def samples(self, label: str) -> float:
        """Return the number of gaps of a label."""
        gaps = self._by_label.get(label)
        return 0.0 if gaps is None else gaps.histogram.samples

    def items(self) -> Iterator[tuple[str, ModelGaps]]:
        """Yield each label with a copy of its gaps."""
        return ((label, self.of(label)) for label in list(self._by_label))
