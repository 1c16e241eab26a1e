# SPDX-License-Identifier: Apache-2.0
"""Which value the label `model` has for a request."""

from ollama_exporter.metrics.labels import OTHER, ModelLabels
from ollama_exporter.shim.in_flight import Residence


class RequestLabels:
    """Gives a label of its own only to a name that the server knows: clients invent names."""

    def __init__(self, labels: ModelLabels, residence: Residence) -> None:
        self._labels, self._residence = labels, residence

    def label(self, model: str | None, *, is_confirmed: bool = False) -> str:
        """Return a model's label. `is_confirmed`: the server answered for this name."""
        if model is None:
            return ""
        known = is_confirmed or self._residence.canonical_name(model) is not None
        return self._labels.label(model) if known or self._labels.has(model) else OTHER
