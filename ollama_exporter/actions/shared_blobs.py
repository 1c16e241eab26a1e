# SPDX-License-Identifier: Apache-2.0
"""Names that share a runner: the scheduler knows it by its weights, a listing by its first name.

Whoever does not know that takes a resident model for an absent one, and what loads an absent model
would reload this one or shorten its life.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Protocol

from ollama_exporter.errors import OllamaExporterError
from ollama_exporter.protocol.model_names import normalise

MOST_NAMES: Final = 512


class Shows(Protocol):
    """What is asked."""

    async def show(self, name: str) -> str | None:
        """Ask for the weights that a name stands for."""


class SharedBlobs:
    """Remembers the weights of names."""

    def __init__(self, server: Shows) -> None:
        self._server = server
        self._weights: dict[str, tuple[int, str]] = {}  # lower case -> size on disk, weights

    async def learn(self, names: Iterable[tuple[str, int]]) -> None:
        """Ask for the weights of names that are not known: with the size of each on disk, 0: any.

        A name whose size is another one has been made anew.
        """
        for name, size in names:
            key = normalise(name).lower()
            known = self._weights.get(key)
            if (known is not None and size in (0, known[0])) or len(self._weights) >= MOST_NAMES:
                continue
            with suppress(OllamaExporterError):  # a cloud model, or it was just deleted
                self._weights[key] = (size, await self._server.show(name) or "")

    def knows(self, model: str) -> bool:
        """Tell whether a name's weights are known."""
        return normalise(model).lower() in self._weights

    def listed(self, model: str, resident: Iterable[str]) -> str | None:
        """Return the name under which a model's runner is listed; None: it is not resident."""
        mine = normalise(model).lower()
        there = {name.lower(): name for name in resident}
        if mine in there:
            return there[mine]
        weights = self._weights.get(mine, (0, ""))[1]
        if not weights:
            return None
        shared = (k for k in there if self._weights.get(k, (0, ""))[1] == weights)
        found = next(shared, None)
        return None if found is None else there[found]
