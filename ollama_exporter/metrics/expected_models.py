# SPDX-License-Identifier: Apache-2.0
"""Models that the operator names, in the server's spelling: one model has one label."""

from collections.abc import Callable, Iterable

from ollama_exporter.protocol.model_names import match_key
from ollama_exporter.protocol.wire import InstalledModel, RunningModel


class ExpectedModels:
    """Creates the counters of expected models. `create`: those of one label, at 0."""

    def __init__(self, create: Callable[[str], object]) -> None:
        self._create = create
        self._installed: dict[str, str] | None = None  # match key -> name; None: not known yet
        self._listed: dict[str, str] = {}  # likewise, of the last poll
        self._waiting: list[str] = []

    def expect(self, name: str) -> None:
        """Create the counters of a model; once its spelling is known, if that may differ."""
        if self._installed is not None or name == match_key(name):
            self._create(self.spelled(name))
        elif name not in self._waiting:
            self._waiting.append(name)

    def on_installed(self, models: Iterable[InstalledModel]) -> None:
        """Learn the spelling of all installed models."""
        self._installed = {match_key(model.name): model.name for model in models}
        waiting, self._waiting = self._waiting, []
        for name in waiting:
            self.expect(name)

    def on_listing(self, models: Iterable[RunningModel]) -> None:
        """Learn the spelling of the resident models, which polls know first."""
        self._listed = {match_key(model.name): model.name for model in models}

    def spelled(self, name: str) -> str:
        """Return the name as the server lists it, or unchanged if the server does not have it."""
        key = match_key(name)
        return self._listed.get(key) or (self._installed or {}).get(key, name)

    def labels(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return names as the server lists them, each once."""
        return tuple(dict.fromkeys(self.spelled(name) for name in names))
