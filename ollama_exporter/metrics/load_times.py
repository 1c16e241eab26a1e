# SPDX-License-Identifier: Apache-2.0
"""Load times. A load counts once, though its process and a waiting request may both show it."""

from typing import Final

from msgspec import Struct
from prometheus_client.metrics_core import Metric

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.metrics.fast_instruments import FastHistogram
from ollama_exporter.metrics.from_catalog import Families, empty

LOAD: Final = "ollama_model_load_seconds"
MOST_MODELS: Final = 1024  # the last load of so many models is remembered


class Span(Struct, frozen=True):
    """Begin and end of a load on the timeline."""

    began: float
    ended: float

    def overlaps(self, other: "Span | None") -> bool:
        """Return whether both are the same load: two loads of one model never overlap."""
        return other is not None and self.began <= other.ended and other.began <= self.ended


class LoadTimes:
    """The histogram, and the loads that it already counts."""

    def __init__(self) -> None:
        self._histogram = FastHistogram(LOAD)
        # The last load of each model, as its process or the log showed it, and as a request did.
        self._by_process = BoundedDict[str, Span](MOST_MODELS)
        self._by_request = BoundedDict[str, Span](MOST_MODELS)

    def on_process_load(self, model: str, label: str, seconds: float, *, ended: float) -> None:
        """Count a load that a process or the log showed; it ended by `ended`."""
        span = Span(ended - seconds, ended)
        if not span.overlaps(self._by_request.get(model)):
            self._histogram.observe(label, value=seconds)
        self._by_process[model] = span

    def on_request_load(self, model: str, label: str, seconds: float, span: Span) -> None:
        """Count a load that a waiting request measured."""
        if not span.overlaps(self._by_process.get(model)):
            self._histogram.observe(label, value=seconds)
        self._by_request[model] = span

    def totals(self) -> dict[str, tuple[float, int]]:
        """Return by label the seconds of all measured loads, and their number."""
        return {label: each for (label,), each in self._histogram.totals().items()}

    def collect(self) -> Families:
        """Yield the family."""
        yield self._histogram.collect()

    def describe(self) -> list[Metric]:
        """Return the family without samples."""
        return [empty(LOAD)]
