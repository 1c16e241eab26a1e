# SPDX-License-Identifier: Apache-2.0
"""Decodes the listings of one server, and those bytes that it repeats only once.

While nobody uses a server, it answers the same bytes again: a deadline moves only with a request.
"""

from collections.abc import Sequence
from typing import Final

from ollama_exporter.protocol.wire import OnMalformed, RunningModel, decode_ps

MOST_KEPT: Final = 1 << 20  # bytes; two thousand models


class LastListing:
    """Remembers the latest answer of `/api/ps` that could be read in full."""

    def __init__(self, on_malformed: OnMalformed | None = None) -> None:
        self._on_malformed = on_malformed
        self._body = b""
        self._models: tuple[RunningModel, ...] = ()
        self._unreadable = 0  # entries, so far

    def decode(self, body: bytes) -> tuple[RunningModel, ...]:
        """Return the models. Entries that cannot be read are reported each time.

        Raises TargetError(malformed).
        """
        if self._body and body == self._body:
            return self._models
        before = self._unreadable
        models = decode_ps(body, self._malformed)
        if self._unreadable == before and len(body) <= MOST_KEPT:
            self._body, self._models = body, models
        else:
            self._body, self._models = b"", ()
        return models

    def _malformed(self, path: str, fields: Sequence[str]) -> None:
        self._unreadable += 1
        if self._on_malformed is not None:
            self._on_malformed(path, fields)
