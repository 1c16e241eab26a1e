# SPDX-License-Identifier: Apache-2.0
"""Counts loads, unloads and restarts as the tracker reports them."""

from collections.abc import Iterator
from typing import Final

from prometheus_client.metrics_core import Metric

from ollama_exporter.clock import Timeline
from ollama_exporter.metrics.fast_instruments import FastCounter, FastGauge, FastHistogram
from ollama_exporter.metrics.from_catalog import constant
from ollama_exporter.metrics.labels import OTHER, ModelLabels
from ollama_exporter.metrics.load_times import LoadTimes
from ollama_exporter.residency.events import (
    Event,
    Found,
    Loaded,
    Reason,
    Restarted,
    Source,
    Unloaded,
)

UNEXPECTED: Final = (Reason.EVICTED, Reason.CRASHED, Reason.OUT_OF_MEMORY)
SURE_ENOUGH: Final = 0.8  # what is less sure wakes no one


class LoadUnloadMetrics:
    """Section Lifecycle, except for the pending unloads and the idle gaps.

    Counters start at 0 with the exporter, as Prometheus expects of a restarted process.
    """

    name = "lifecycle"

    def __init__(self, timeline: Timeline, labels: ModelLabels, loads: LoadTimes) -> None:
        self._timeline, self._load_times = timeline, loads
        self._labels = labels
        self._loads = FastCounter("ollama_model_loads_total")
        self._unloads = FastCounter("ollama_model_unloads_total")
        self._unexpected = FastCounter("ollama_model_unexpected_unloads_total")
        self._witnessed = FastCounter("ollama_model_loads_witnessed_total")
        self._evictions = FastCounter("ollama_model_evictions_total")
        self._restarts = FastCounter("ollama_restarts_total")
        self._overflow = FastCounter("ollama_exporter_label_overflow_total")
        self._last = FastGauge("ollama_model_last_unload_timestamp_seconds")
        self._residency = FastHistogram("ollama_model_residency_seconds")
        self._latest: dict[tuple[str, str], float] = {}  # the moment in `_last`, on the timeline
        self._early: dict[tuple[str, str], float | None] = {}  # of the same unloads
        self._restarts.create()
        self._overflow.create("model")
        for source in Source:
            self._witnessed.create(source.value)

    def on_event(self, event: Event) -> None:
        """Count one event."""
        match event:
            case Found():
                self._arrived(event.model.name)
            case Loaded():
                label = self._arrived(event.model.name)
                self._loads.add(label)
                if (took := event.load_seconds) is not None:
                    name, ended = event.model.name, event.not_after
                    self._load_times.on_process_load(name, label, took, ended=ended)
                for source in event.witnessed:
                    self._witnessed.add(source.value)
            case Unloaded():
                self._unloaded(event)
            case Restarted():
                self._restarts.add()

    def on_load_time(self, model: str, seconds: float, *, ended: float) -> None:
        """Count the duration of a load that was counted before."""
        self._load_times.on_process_load(model, self.expect(model), seconds, ended=ended)

    def _unloaded(self, event: Unloaded) -> None:
        label, reason = self.expect(event.model.name), event.reason.value
        self._unloads.add(label, reason)
        if event.reason in UNEXPECTED and event.sure >= SURE_ENOUGH:
            self._unexpected.add(label, reason)
        # Reasons settle in any order, so an earlier unload may be reported after a later one.
        if event.not_after >= self._latest.get((label, reason), event.not_after):
            self._latest[label, reason] = event.not_after
            self._last.set(label, reason, value=self._timeline.wall(event.not_after))
            self._early[label, reason] = event.early
        resident = max(0.0, event.not_after - event.resident_since)
        self._residency.observe(label, value=resident)
        if event.reason is Reason.EVICTED and event.by is not None:
            self._evictions.add(label, self._labels.label(event.by))

    def _arrived(self, name: str) -> str:
        """Return the label of a model that is resident now; count it if the label is `other`."""
        label = self.expect(name)
        if label == OTHER:
            self._overflow.add("model")
        return label

    def expect(self, name: str) -> str:
        """Create a model's counters at 0, before they count, and return its label.

        `increase()` does not see a counter that begins at 1.
        """
        label = self._labels.label(name)
        self._loads.create(label)
        self._residency.create(label)
        for reason in Reason:
            self._unloads.create(label, reason.value)
        for reason in UNEXPECTED:
            self._unexpected.create(label, reason.value)
        return label

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        yield from self._load_times.collect()
        early = [(key, value) for key, value in list(self._early.items()) if value is not None]
        yield constant("ollama_model_last_unload_early_seconds", early)
        for instrument in (
            self._loads,
            self._unloads,
            self._unexpected,
            self._witnessed,
            self._last,
            self._evictions,
            self._residency,
            self._restarts,
            self._overflow,
        ):
            yield instrument.collect()
