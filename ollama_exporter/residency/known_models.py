# SPDX-License-Identifier: Apache-2.0
"""Every model name that was seen, and how its context changed from load to load."""

from collections import deque
from collections.abc import Collection, Iterable
from typing import Final

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.incarnation import Key

FLIP_WINDOW: Final = 600.0
FLIPS: Final = 2  # one change of context may be an operator's; two are a quarrel
MOST_NAMES: Final = 1000


class Names:
    """Remembers names, oldest first, and the contexts of what bears them."""

    def __init__(self) -> None:
        self.known: dict[str, None] = {}
        self._contexts: dict[Key, int | None] = {}
        self._changes: deque[tuple[float, Key]] = deque(maxlen=MOST_NAMES)

    def loaded(self, model: RunningModel, at: float, *, resident: Collection[str]) -> None:
        """Note a load; what is not resident is forgotten first."""
        if self._contexts.get(model.key, model.context) != model.context:
            self._changes.append((at, model.key))
        self._contexts[model.key] = model.context
        self.known.setdefault(model.name)
        while len(self.known) > MOST_NAMES and (
            oldest := next((name for name in self.known if name not in resident), None)
        ):
            del self.known[oldest]
            self._contexts = {k: v for k, v in self._contexts.items() if k[0] != oldest}

    def restore(self, names: Iterable[str]) -> None:
        """Take up the names that an earlier process knew."""
        self.known.update(dict.fromkeys(names))

    def flips(self, key: Key, now: float) -> bool:
        """Tell whether its context changed at least twice in the last ten minutes."""
        return sum(known == key and at > now - FLIP_WINDOW for at, known in self._changes) >= FLIPS
