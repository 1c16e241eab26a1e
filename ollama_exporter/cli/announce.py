# SPDX-License-Identifier: Apache-2.0
"""Announces requests of a command to a running exporter, so that their effects are no riddle.

Polls alone cannot tell a stop of `measure` from other causes, nor for which load a model had to go
that `warm` then failed to load.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from ollama_exporter.bounded_client import ANONYMOUS, BoundedClient, Credentials
from ollama_exporter.errors import SourceError
from ollama_exporter.poller.announced_requests import ANNOUNCE

TIMEOUT: Final = 1.0  # seconds for an answer of the exporter; commands can do without


class Announcer:
    """Announces requests to the exporter at a URL. One that does not listen is asked once only."""

    def __init__(
        self,
        exporter: str,
        server: str,
        credentials: Credentials = ANONYMOUS,
        *,
        timeout: float = TIMEOUT,
    ) -> None:
        """Raise ConfigError if a file cannot be used.

        `server`: base URL of the Ollama server. `timeout`: seconds for each answer.
        """
        self._client = BoundedClient(credentials, timeout=timeout)
        self._server = server
        self.is_heard = True  # so far
        parts = urlsplit(exporter)
        self._url = urlunsplit((parts.scheme, parts.netloc, ANNOUNCE, "", ""))

    @asynccontextmanager
    async def announced(self, body: Mapping[str, Any], patience: float) -> AsyncIterator[None]:
        """Announce a request with this body, and its end after the block. Never raises itself.

        `patience`: seconds after which the request has ended in any case.
        """
        options = body.get("options") or {}
        request = {
            "id": uuid4().hex,
            "url": self._server,
            "model": body["model"],
            "keep_alive": body.get("keep_alive"),
            "num_ctx": options.get("num_ctx"),
            "stop": body.get("keep_alive") == 0 and "prompt" not in body,
            "longest": patience,
        }
        await self._post(request)
        end = "failed"
        try:
            yield
            end = "answered"
        finally:
            await self._post({**request, "end": end})

    async def _post(self, request: Mapping[str, Any]) -> None:
        if not self.is_heard:
            return
        self.is_heard = False
        with suppress(SourceError):
            await self._client.ask("POST", self._url, json=request)
            self.is_heard = True
