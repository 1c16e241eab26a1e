# SPDX-License-Identifier: Apache-2.0
"""What was done to the server, counted."""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.metrics_core import Metric

from ollama_exporter.metrics.from_catalog import collected, constant, counter
from ollama_exporter.metrics.labels import ModelLabels

KEEP_WARM: Final = "keep_warm"
DEFAULTS: Final = "defaults"
CHANGES: Final = ("keep_alive_default", "keep_alive_cap", "num_ctx_default", "num_ctx_cap")


class ActionMetrics:
    """The families of what the exporter does. Without any of it they are empty."""

    name = "acting"

    def __init__(self, labels: ModelLabels) -> None:
        self._labels = labels
        self._warmups = counter("ollama_warmups_total")
        self._failures = counter("ollama_warmup_failures_total")
        self._renewals = counter("ollama_keep_alive_renewals_total")
        self._changes = counter("ollama_request_changes_total")
        self._piloted = counter("ollama_autopilot_changes_total")
        self._pilot: dict[str, float] = {}
        self._held: dict[str, str] = {}

    def meet_kept(self, model: str) -> None:
        """Create the counters of a model of keep-warm at 0."""
        label = self._labels.label(model)
        self._warmups.labels(label)
        self._failures.labels(label)
        self._renewals.labels(label, KEEP_WARM)

    def meet_changed(self, model: str) -> None:
        """Create the counters of a model that a rule is for at 0."""
        label = self._labels.label(model)
        self._renewals.labels(label, DEFAULTS)
        for change in CHANGES:
            self._changes.labels(label, change)

    def warmed(self, model: str) -> None:
        """Count a load."""
        self._warmups.labels(self._labels.label(model)).inc()

    def failed(self, model: str) -> None:
        """Count a failure."""
        self._failures.labels(self._labels.label(model)).inc()

    def renewed(self, model: str, by: str) -> None:
        """Count a renewal."""
        self._renewals.labels(self._labels.label(model), by).inc()

    def changed(self, model: str, change: str) -> None:
        """Count a request that was changed."""
        self._changes.labels(self._labels.label(model), change).inc()

    def piloted(self, model: str, keep_alive: float) -> None:
        """Take a decision of the autopilot."""
        label = self._labels.label(model)
        self._pilot[label] = keep_alive
        self._piloted.labels(label).inc()

    def unpiloted(self) -> None:
        """Take that there is no autopilot any more."""
        self._pilot = {}

    def held(self, why: Mapping[str, str]) -> None:
        """Take who is held back now."""
        self._held = {self._labels.label(model): reason for model, reason in why.items()}

    def collect(self) -> Iterator[Metric]:
        """Yield the families as of now."""
        yield from collected(
            self._warmups, self._failures, self._renewals, self._changes, self._piloted
        )
        yield constant("ollama_warmup_held", [(pair, 1.0) for pair in self._held.items()])
        pilot = [((label,), value) for label, value in self._pilot.items()]
        yield constant("ollama_autopilot_keep_alive_seconds", pilot)
