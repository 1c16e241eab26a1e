# SPDX-License-Identifier: Apache-2.0
"""Counts what could not be read of listings."""

import logging
from collections.abc import Mapping, Sequence

from ollama_exporter.protocol.wire import PS, TAGS

logger = logging.getLogger(__name__)


class MalformedEntries:
    """Counts entries of listings with a field that cannot be read. Logs the first per listing."""

    def __init__(self) -> None:
        self._counts = {PS: 0, TAGS: 0}

    @property
    def counts(self) -> Mapping[str, int]:
        """The entries by the path of the listing."""
        return self._counts

    def add(self, path: str, fields: Sequence[str]) -> None:
        """Count one entry."""
        self._counts[path] += 1
        if self._counts[path] == 1:
            values = {"path": path, "fields": ", ".join(fields)}
            logger.warning("Ignoring fields of a listing that cannot be read", extra=values)
