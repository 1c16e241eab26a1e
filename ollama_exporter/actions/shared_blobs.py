# SPDX-License-Identifier: Apache-2.0
"""Names that share a runner.

The scheduler identifies a runner by its weights blob; `/api/ps` lists it under the name that loaded
it. A second name of the same weights looks absent, but to load it would reload the runner or
shorten its life.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Protocol

from msgspec import Struct

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.errors import OllamaExporterError
from ollama_exporter.protocol.model_names import match_key
from ollama_exporter.protocol.wire import InstalledModel, ModelDetails

MAX_NAMES: Final = 512
UNKNOWN: Final = ModelDetails()


class BlobResolver(Protocol):
    """The request that resolves a name."""

    async def details(self, name: str) -> ModelDetails:
        """Return what the server tells of a model."""


class SharedBlobs:
    """Remembers the weights blob and the maximum context of each name."""

    def __init__(self, server: BlobResolver) -> None:
        self._server = server
        self._known: dict[str, _Resolved] = {}  # by name in lower case
        self._weights: BoundedDict[str, str] = BoundedDict(2 * MAX_NAMES)  # by digest
        self._digests: dict[str, str] = {}  # of the installed models, by name in lower case

    def on_installed(self, models: Iterable[InstalledModel]) -> None:
        """Note the digests of all installed models: names with one digest share a runner."""
        self._digests = {match_key(model.name): model.digest for model in models if model.digest}

    async def resolve(self, names: Iterable[tuple[str, int]]) -> None:
        """Ask for the details of names that are not known. Each name comes with its size on disk.

        A name with another size or digest than before was created anew. Size 0 matches any.
        """
        for name, size in names:
            key = match_key(name)
            known, digest = self._known.get(key), self._digests.get(key)
            if known is not None and size in (0, known.size) and digest in (None, known.digest):
                continue
            if known is None and len(self._known) >= MAX_NAMES:
                continue
            with suppress(OllamaExporterError):  # a cloud model, or just deleted
                details = await self._server.details(name)
                self._known[key] = _Resolved(size, digest, details)
                if digest is not None and details.weights is not None:
                    self._weights[digest] = details.weights

    def weights(self, digest: str) -> str | None:
        """Return the weights of a digest that is or was installed; None: unknown."""
        return self._weights.get(digest)

    def is_resolved(self, model: str) -> bool:
        """Return whether it is known which names share the name's runner."""
        return match_key(model) in self._known

    def max_context(self, model: str) -> int | None:
        """Return the largest num_ctx of a model; the server lowers a larger one. None: unknown."""
        return self._details(match_key(model)).max_context

    def runner_key(self, model: str) -> str:
        """Return what names that share a runner have in common: the weights, if known."""
        key = match_key(model)
        return self._details(key).weights or self._digests.get(key) or key

    def listed_name(self, model: str, resident: Iterable[str]) -> str | None:
        """Return the name under which a model's runner is listed; None: it is not resident."""
        mine = match_key(model)
        listed = {match_key(name): name for name in resident}
        if mine in listed:
            return listed[mine]
        found = next((key for key in listed if self._is_shared(mine, key)), None)
        return None if found is None else listed[found]

    def _is_shared(self, one: str, other: str) -> bool:
        digest, blob = self._digests.get(one), self._details(one).weights
        if digest is not None and digest == self._digests.get(other):
            return True
        return blob is not None and blob == self._details(other).weights

    def _details(self, key: str) -> ModelDetails:
        return self._known[key].details if key in self._known else UNKNOWN


class _Resolved(Struct, frozen=True):
    """What `/api/show` told of a name that had this size on disk, and this digest if installed."""

    size: int
    digest: str | None
    details: ModelDetails
