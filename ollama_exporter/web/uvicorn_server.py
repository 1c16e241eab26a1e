# SPDX-License-Identifier: Apache-2.0
"""The uvicorn server on sockets that are listening already."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from ollama_exporter.net import BACKLOG

MOST_CONNECTIONS: Final = 500  # more are answered with 503: clients that never read pile up
IDLE: Final = 75  # seconds that a kept-alive connection may idle; scrapes come each 15 to 60
FIRST_ANSWER: Final = 15  # seconds from a connection to its first complete answer
LAST_WORDS: Final = 2  # seconds that requests under way have at the end


class WebConnection(H11Protocol):
    """One connection; aborted when no answer is completed in time.

    uvicorn waits for ever for the rest of half a head, and for a client that does not read: each
    would hold one of MOST_CONNECTIONS, and 500 of them would end all scrapes.
    """

    first_answer: float = FIRST_ANSWER
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it likewise
        """Begin the time of the first request."""
        super().connection_made(transport)
        self._expect_answer(self.first_answer)

    def on_response_complete(self) -> None:
        """Begin the time of the next one: it may idle first."""
        super().on_response_complete()
        self._expect_answer(IDLE + self.first_answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the watch."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def _expect_answer(self, seconds: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self.loop.call_later(seconds, self.transport.abort)


class WebServer(uvicorn.Server):
    """uvicorn without its signal handlers: runtime.py has the process' own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def server(application: Starlette, *, connection: type[WebConnection] = WebConnection) -> WebServer:
    """Return a server for sockets that are listening already."""
    return WebServer(
        uvicorn.Config(
            application,
            http=connection,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MOST_CONNECTIONS,
            backlog=BACKLOG,
            timeout_keep_alive=IDLE,
            timeout_graceful_shutdown=LAST_WORDS,
        )
    )
