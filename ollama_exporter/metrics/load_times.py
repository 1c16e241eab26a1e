# SPDX-License-Identifier: Apache-2.0
"""How long loads took, each once: its process shows it, and so does a request that waited."""

from dataclasses import dataclass
from typing import Final

from prometheus_client.metrics_core import Metric

from ollama_exporter.metrics.fast_instruments import FastHistogram
from ollama_exporter.metrics.from_catalog import Families, empty

LOAD: Final = "ollama_model_load_seconds"
MOST_MODELS: Final = 1024  # whose last load is remembered


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when a load was seen, on the timeline."""

    began: float
    ended: float

    def meets(self, other: "Span | None") -> bool:
        """Tell whether both are of one load: those of one model never overlap."""
        return other is not None and self.began <= other.ended and other.began <= self.ended


class LoadTimes:
    """The histogram, and what it holds already."""

    def __init__(self) -> None:
        self._histogram = FastHistogram(LOAD)
        self._processes: dict[str, Span] = {}  # the last load of each model, as its process showed
        self._requests: dict[str, Span] = {}  # likewise, as a request measured it

    def by_process(self, model: str, label: str, seconds: float, *, ended: float) -> None:
        """Take a load whose process was seen, or that the log told of; it was over by `ended`."""
        span = Span(ended - seconds, ended)
        if not span.meets(self._requests.get(model)):
            self._histogram.observe(label, value=seconds)
        _put(self._processes, model, span)

    def by_request(self, model: str, label: str, seconds: float, span: Span) -> None:
        """Take what a request measured that waited for a load."""
        if not span.meets(self._processes.get(model)):
            self._histogram.observe(label, value=seconds)
        _put(self._requests, model, span)

    def totals(self) -> dict[str, tuple[float, int]]:
        """Return the seconds of all loads that were measured, and how many they were, by label."""
        return {label: each for (label,), each in self._histogram.totals().items()}

    def collect(self) -> Families:
        """Yield the family."""
        yield self._histogram.collect()

    def describe(self) -> list[Metric]:
        """Return its name."""
        return [empty(LOAD)]


def _put(spans: dict[str, Span], model: str, span: Span) -> None:
    spans.pop(model, None)
    spans[model] = span
    if len(spans) > MOST_MODELS:
        del spans[next(iter(spans))]
