# SPDX-License-Identifier: Apache-2.0
"""Names that share a runner.

The scheduler identifies a runner by its weights blob; `/api/ps` lists it under the name that loaded
it. A second name of the same weights looks absent, but to load it would reload the runner or
shorten its life.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Protocol

from ollama_exporter.errors import OllamaExporterError
from ollama_exporter.protocol.model_names import normalise

MAX_NAMES: Final = 512


class BlobResolver(Protocol):
    """The request that resolves a name."""

    async def show(self, name: str) -> str | None:
        """Return the weights blob of a name; None: it has no blob of its own."""


class SharedBlobs:
    """Remembers the weights blob of each name."""

    def __init__(self, server: BlobResolver) -> None:
        self._server = server
        self._blobs: dict[str, tuple[int, str]] = {}  # lower case -> size on disk, blob

    async def resolve(self, names: Iterable[tuple[str, int]]) -> None:
        """Ask for the blobs of names that are not known. Each name comes with its size on disk.

        A name with another size than before was created anew. Size 0 matches any.
        """
        for name, size in names:
            key = normalise(name).lower()
            known = self._blobs.get(key)
            if (known is not None and size in (0, known[0])) or len(self._blobs) >= MAX_NAMES:
                continue
            with suppress(OllamaExporterError):  # a cloud model, or just deleted
                self._blobs[key] = (size, await self._server.show(name) or "")

    def is_resolved(self, model: str) -> bool:
        """Return whether the name's blob is known."""
        return normalise(model).lower() in self._blobs

    def listed_name(self, model: str, resident: Iterable[str]) -> str | None:
        """Return the name under which a model's runner is listed; None: it is not resident."""
        mine = normalise(model).lower()
        listed = {name.lower(): name for name in resident}
        if mine in listed:
            return listed[mine]
        blob = self._blobs.get(mine, (0, ""))[1]
        if not blob:
            return None
        shared = (key for key in listed if self._blobs.get(key, (0, ""))[1] == blob)
        found = next(shared, None)
        return None if found is None else listed[found]
