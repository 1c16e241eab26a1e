# SPDX-License-Identifier: Apache-2.0
"""The `model` label, bounded: clients can make up any number of names."""

from typing import Final

from ollama_exporter.protocol.model_names import MAX_LENGTH

MOST_MODELS: Final = 100  # with series of their own
OTHER: Final = "other"  # cannot be a model's name: names have a tag


class ModelLabels:
    """Gives the first `limit` names labels of their own; all others share the label `other`."""

    def __init__(self, limit: int = MOST_MODELS) -> None:
        self.limit = limit
        self._names: set[str] = set()

    def label(self, name: str) -> str:
        """Return the label of a model's name."""
        if name in self._names:
            return name
        if len(self._names) >= self.limit or len(name) > MAX_LENGTH:
            return OTHER
        self._names.add(name)
        return name

    def has(self, name: str) -> bool:
        """Return whether a name already has a label of its own."""
        return name in self._names
