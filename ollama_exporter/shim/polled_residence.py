# SPDX-License-Identifier: Apache-2.0
"""What the last poll says about models, for the recorder of the proxy's requests."""

from collections.abc import Callable, Iterable

from ollama_exporter.poller.published import Published
from ollama_exporter.protocol.model_names import is_cloud_name
from ollama_exporter.protocol.wire import InstalledModel
from ollama_exporter.residency.events import ModelState


def no_weights(_digest: str) -> str | None:
    """Return None: no weights are known."""
    return None


class PolledResidence:
    """The `Residence` of a server that is polled.

    Names that share weights share a runner, which is listed under the name that loaded it.
    `weights`: returns the weights blob of a digest, empty if it has none, None if unknown.
    """

    def __init__(
        self,
        published: Callable[[], Published],
        *,
        weights: Callable[[str], str | None] = no_weights,
    ) -> None:
        self._published, self._weights = published, weights
        self._installed: dict[str, InstalledModel] | None = None  # by name in lower case

    def on_installed(self, models: Iterable[InstalledModel]) -> None:
        """Note which models are installed."""
        self._installed = {model.name.lower(): model for model in models}

    def canonical_name(self, name: str) -> str | None:
        """Return a model's own spelling: Ollama finds a model by its name in any case."""
        lower = name.lower()
        if self._installed is not None and lower in self._installed:
            return self._installed[lower].name
        models = self._published().view.models
        return next((m.name for m in models if m.name.lower() == lower), None)

    def is_remote(self, name: str) -> bool:
        """Return whether a model runs on another host: as its listing says, else by its name."""
        installed = (self._installed or {}).get(name.lower())
        return is_cloud_name(name) if installed is None else installed.remote

    def is_resident(self, name: str) -> bool | None:
        """Return whether the model's runner is listed; None while that cannot be known."""
        if not self._published().is_listed:
            return None
        if self._runner(name) is not None:
            return True
        return None if self._may_share_a_runner(name) else False

    def loaded_at(self, name: str) -> float | None:
        """Return the first poll that listed the incarnation that is resident."""
        state = self._runner(name)
        return None if state is None else state.since

    def polled_at(self) -> float:
        """Return the moment of the last answered poll."""
        return self._published().view.last_seen or 0.0

    def _resident(self) -> list[ModelState]:
        return [state for state in self._published().view.models if state.resident]

    def _runner(self, name: str) -> ModelState | None:
        """Return the resident model with this name, this digest or the same weights."""
        resident = self._resident()
        for state in resident:
            if state.name == name:
                return state
        installed = (self._installed or {}).get(name.lower())
        if installed is None or not installed.digest:
            return None
        weights = self._weights(installed.digest)
        for state in resident:
            for model in state.resident:
                same = model.digest == installed.digest
                if same or (weights and self._weights(model.digest) == weights):
                    return state
        return None

    def _may_share_a_runner(self, name: str) -> bool:
        """Return whether a listed runner could be this model's, for all that is known."""
        digests = [model.digest for state in self._resident() for model in state.resident]
        if self._installed is None:
            return bool(digests)
        installed = self._installed.get(name.lower())
        if installed is None or not digests:
            return False
        return any(self._weights(digest) is None for digest in (installed.digest, *digests))
