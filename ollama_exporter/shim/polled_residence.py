# SPDX-License-Identifier: Apache-2.0
"""What the last poll says about models, for the recorder of the proxy's requests."""

from collections.abc import Callable

from ollama_exporter.metrics.collectors.server_collector import ServerState
from ollama_exporter.residency.events import ModelState, View


class PolledResidence:
    """The `Residence` of a server that is polled."""

    def __init__(self, view: Callable[[], View], server: Callable[[], ServerState]) -> None:
        self._view, self._server = view, server
        self._installed: tuple[tuple[str, int], ...] = ()
        self._names: dict[str, str] = {}  # in lower case -> as installed

    def canonical_name(self, name: str) -> str | None:
        """Return a model's own spelling: Ollama finds a model by its name in any case."""
        installed = self._server().installed or ()
        if installed is not self._installed:
            self._installed = installed
            self._names = {each.lower(): each for each, _ in installed}
        lower = name.lower()
        if lower in self._names:
            return self._names[lower]
        return next((m.name for m in self._view().models if m.name.lower() == lower), None)

    def is_resident(self, name: str) -> bool | None:
        """Return whether the model was listed; None while the server does not answer."""
        if not self._server().up or self._view().last_seen is None:
            return None
        state = self._state(name)
        return state is not None and bool(state.resident)

    def loaded_at(self, name: str) -> float | None:
        """Return the first poll that listed the incarnation that is resident."""
        state = self._state(name)
        return None if state is None else state.since

    def polled_at(self) -> float:
        """Return the moment of the last answered poll."""
        return self._view().last_seen or 0.0

    def _state(self, name: str) -> ModelState | None:
        return next((m for m in self._view().models if m.name == name), None)
