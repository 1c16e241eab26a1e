# SPDX-License-Identifier: Apache-2.0
"""Every model name seen, and how its context changed from load to load."""

from collections import deque
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Final

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.incarnation import Key
from ollama_exporter.residency.tolerances import Tolerances

QUARREL: Final = 2  # one change of context may be an operator's; two are clients that disagree
MOST_NAMES: Final = 1000


class KnownModels:
    """Remembers names, oldest first, and the contexts that they were loaded with."""

    def __init__(self, tolerances: Tolerances) -> None:
        self._tolerances = tolerances
        self.names: dict[str, None] = {}
        self._contexts: dict[str, dict[str, int | None]] = {}  # name -> digest -> context
        self._changes: deque[tuple[float, Key]] = deque(maxlen=MOST_NAMES)

    def on_load(self, model: RunningModel, at: float) -> None:
        """Note a load."""
        contexts = self._contexts.setdefault(model.name, {})
        if contexts.get(model.digest, model.context) != model.context:
            self._changes.append((at, model.key))
        contexts[model.digest] = model.context
        self.names.setdefault(model.name)

    def forget(self, resident: Collection[str]) -> None:
        """Forget the oldest names beyond the limit that are not resident."""
        beyond = len(self.names) - MOST_NAMES
        if beyond > 0:
            absent = (name for name in self.names if name not in resident)
            for name in list(islice(absent, beyond)):
                del self.names[name]
                self._contexts.pop(name, None)

    def restore(self, names: Iterable[str]) -> None:
        """Add the names that an earlier process knew."""
        self.names.update(dict.fromkeys(names))

    def context_flips(self, key: Key, now: float) -> bool:
        """Return whether its context changed at least twice lately."""
        since = now - self._tolerances.context_changes
        return sum(known == key and at > since for at, known in self._changes) >= QUARREL
