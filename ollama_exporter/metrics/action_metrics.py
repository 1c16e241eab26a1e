# SPDX-License-Identifier: Apache-2.0
"""Counts what the exporter does to its server."""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.metrics_core import Metric

from ollama_exporter.metrics.fast_instruments import FastCounter
from ollama_exporter.metrics.from_catalog import constant
from ollama_exporter.metrics.labels import OTHER, ModelLabels

KEEP_WARM: Final = "keep_warm"
DEFAULTS: Final = "defaults"
CHANGES: Final = ("keep_alive_default", "keep_alive_cap", "num_ctx_default", "num_ctx_cap")


class ActionMetrics:
    """The families of keep-warm, defaults and autopilot. Unused ones are empty."""

    name = "acting"

    def __init__(self, labels: ModelLabels) -> None:
        self._labels = labels
        self._warmups = FastCounter("ollama_warmups_total")
        self._failures = FastCounter("ollama_warmup_failures_total")
        self._renewals = FastCounter("ollama_keep_alive_renewals_total")
        self._changes = FastCounter("ollama_request_changes_total")
        self._autopilot_changes = FastCounter("ollama_autopilot_changes_total")
        self._autopilot: dict[str, float] = {}
        self._held: dict[str, str] = {}

    def init_keep_warm(self, model: str) -> None:
        """Create the counters of a keep-warm model at 0."""
        label = self._labels.label(model)
        self._warmups.create(label)
        self._failures.create(label)
        self._renewals.create(label, KEEP_WARM)

    def init_defaults(self, model: str) -> None:
        """Create the counters of a model with a rule at 0."""
        label = self._labels.label(model)
        self._renewals.create(label, DEFAULTS)
        for change in CHANGES:
            self._changes.create(label, change)

    def on_load(self, model: str) -> None:
        """Count a load by keep-warm."""
        self._warmups.add(self._labels.label(model))

    def on_failure(self, model: str) -> None:
        """Count a failed load or renewal by keep-warm."""
        self._failures.add(self._labels.label(model))

    def on_renewal(self, model: str, by: str) -> None:
        """Count a renewal. `by`: KEEP_WARM or DEFAULTS."""
        self._renewals.add(self._labels.label(model), by)

    def on_request_change(self, model: str | None, change: str) -> None:
        """Count a request that the proxy changed. `change`: one of CHANGES.

        `model`: None if the server does not know the name, as far as is known.
        """
        self._changes.add(OTHER if model is None else self._labels.label(model), change)

    def on_autopilot(self, model: str, keep_alive: float) -> None:
        """Count and show a new value of the autopilot."""
        label = self._labels.label(model)
        self._autopilot[label] = keep_alive
        self._autopilot_changes.add(label)

    def drop_autopilot(self, model: str) -> None:
        """Show no value of the autopilot for a model any more."""
        self._autopilot.pop(self._labels.label(model), None)

    def show_held(self, why: Mapping[str, str]) -> None:
        """Show which models are held back. `why`: model -> reason."""
        self._held = {self._labels.label(model): reason for model, reason in why.items()}

    def collect(self) -> Iterator[Metric]:
        """Yield the current families."""
        for instrument in (
            self._warmups,
            self._failures,
            self._renewals,
            self._changes,
            self._autopilot_changes,
        ):
            yield instrument.collect()
        yield constant("ollama_warmup_held", [(pair, 1.0) for pair in self._held.items()])
        values = [((label,), value) for label, value in self._autopilot.items()]
        yield constant("ollama_autopilot_keep_alive_seconds", values)
