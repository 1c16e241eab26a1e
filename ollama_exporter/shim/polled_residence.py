# SPDX-License-Identifier: Apache-2.0
"""What the last poll says about models, for the recorder of the proxy's requests."""

from collections.abc import Callable

from ollama_exporter.poller.published import Published
from ollama_exporter.residency.events import ModelState


class PolledResidence:
    """The `Residence` of a server that is polled."""

    def __init__(self, published: Callable[[], Published]) -> None:
        self._published = published
        self._installed: tuple[tuple[str, int], ...] = ()
        self._names: dict[str, str] = {}  # in lower case -> as installed

    def canonical_name(self, name: str) -> str | None:
        """Return a model's own spelling: Ollama finds a model by its name in any case."""
        installed = self._published().server.installed or ()
        if installed is not self._installed:
            self._installed = installed
            self._names = {each.lower(): each for each, _ in installed}
        lower = name.lower()
        if lower in self._names:
            return self._names[lower]
        models = self._published().view.models
        return next((m.name for m in models if m.name.lower() == lower), None)

    def is_resident(self, name: str) -> bool | None:
        """Return whether the model was listed; None while the server does not answer."""
        published = self._published()
        if not published.is_listed:
            return None
        return any(state.resident for state in published.view.models if state.name == name)

    def loaded_at(self, name: str) -> float | None:
        """Return the first poll that listed the incarnation that is resident."""
        state = self._state(name)
        return None if state is None else state.since

    def polled_at(self) -> float:
        """Return the moment of the last answered poll."""
        return self._published().view.last_seen or 0.0

    def _state(self, name: str) -> ModelState | None:
        return next((m for m in self._published().view.models if m.name == name), None)
