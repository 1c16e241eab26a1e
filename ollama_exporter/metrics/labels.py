# SPDX-License-Identifier: Apache-2.0
"""The bounded model label: whatever names clients make up, the series stay few."""

from typing import Final

MOST_MODELS: Final = 100  # with series of their own
LONGEST: Final = 256  # a series with a longer name costs every scrape
OTHER: Final = "other"  # no model's name: those carry a tag


class ModelLabels:
    """Gives the first `limit` names a label of their own; the rest share one."""

    def __init__(self, limit: int = MOST_MODELS) -> None:
        self._limit = limit
        self._names: set[str] = set()

    def label(self, name: str) -> str:
        """Return the label of a model's name."""
        if name in self._names:
            return name
        if len(self._names) >= self._limit or len(name) > LONGEST:
            return OTHER
        self._names.add(name)
        return name

    def has(self, name: str) -> bool:
        """Tell whether a name has a label of its own already."""
        return name in self._names
