# SPDX-License-Identifier: Apache-2.0
"""The installed models by name."""

from dataclasses import replace

from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.simulator.model_files import Manifest, ModelFiles, recreated, sha256_of


class Library:
    """The installed models. Changes here do not affect loaded runners."""

    def __init__(self, catalogue: ModelFiles, at: float) -> None:
        self._manifests = dict(catalogue.manifests)
        # one second apart, the first of the catalogue being the newest
        self._modified = {name: at - age for age, name in enumerate(self._manifests)}
        self._editions = 0

    def find(self, name: str) -> tuple[str, Manifest] | None:
        """Return the installed name and its manifest, whatever the case of the name."""
        wanted = normalise(name).lower()
        for installed, manifest in self._manifests.items():
            if installed.lower() == wanted:
                return installed, manifest
        return None

    def entries(self) -> list[tuple[str, Manifest, float]]:
        """Return names, manifests and times of modification, newest first."""
        rows = [(name, item, self._modified[name]) for name, item in self._manifests.items()]
        return sorted(rows, key=lambda row: -row[2])

    def modified(self, name: str) -> float:
        """Return when an installed name was changed last."""
        return self._modified[name]

    def copy(self, source: Manifest, destination: str, at: float) -> None:
        """Add an alias, which shares weights and runner."""
        self._put(destination, source, at)

    def delete(self, name: str) -> None:
        """Delete a name."""
        del self._manifests[name]
        del self._modified[name]

    def create(
        self, name: str, source: Manifest, at: float, *, num_ctx: int | None, reuse_weights: bool
    ) -> None:
        """Create a name, or give it a new model: with the weights of another, or with new ones."""
        self._editions += 1
        if reuse_weights:
            digest = sha256_of(f"{normalise(name)} from {source.digest} with {num_ctx}")
            manifest = replace(source, digest=digest, num_ctx=num_ctx or source.num_ctx)
        else:
            manifest = recreated(normalise(name), source, self._editions)
        self._put(name, manifest, at)

    def _put(self, name: str, manifest: Manifest, at: float) -> None:
        found = self.find(name)
        installed = found[0] if found else normalise(name)
        self._manifests[installed] = manifest
        self._modified[installed] = at
