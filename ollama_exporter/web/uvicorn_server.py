# SPDX-License-Identifier: Apache-2.0
"""The uvicorn server on sockets that are listening already."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from socket import socket
from typing import Any, Final, cast

import h11
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from ollama_exporter.net import BACKLOG
from ollama_exporter.web.app import OPEN_PATHS
from ollama_exporter.web.locks.locks import Locks
from ollama_exporter.web.page.live_feed import STILL_OPEN

MOST_CONNECTIONS: Final = 500  # more are answered with 503: clients that never read pile up
MOST_OPEN: Final = 450  # beyond, the connection that has been idle for longest makes room
IDLE: Final = 75  # seconds that a kept-alive connection may idle; scrapes come each 15 to 60
HANDSHAKE: Final = 10.0  # seconds from a connection to the end of its TLS handshake
FIRST_ANSWER: Final = 15  # seconds from a connection to its first complete answer
LAST_WORDS: Final = 2  # seconds that requests under way have at the end
TICK: Final = 1.0  # seconds
STREAM_WAIT: Final = 60  # seconds in which a stream must send something and get rid of it


class WebConnection(H11Protocol):
    """One connection; aborted when no answer is completed in time.

    uvicorn waits forever for the rest of half a head, and for a client that does not read: each
    would hold one of MOST_CONNECTIONS, and 500 of them would end all scrapes. Idle connections
    would do the same, so they make room for new ones.
    """

    is_allowed: Callable[[Mapping[str, object] | None], bool]  # a client by its certificate
    first_answer: float = FIRST_ANSWER
    most_open: int = MOST_OPEN
    stream_wait: float = STREAM_WAIT
    idle_since: float = 0.0
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it likewise
        """Begin the time of the first request."""
        super().connection_made(transport)
        if not self.is_allowed(transport.get_extra_info("peercert")):
            transport.abort()
            return
        self.app_state = {**self.app_state, STILL_OPEN: self._on_stream_progress}
        self.idle_since = self.loop.time()
        self._expect_answer(self.first_answer)
        if len(self.connections) > self.most_open:
            self._make_room()

    def _on_stream_progress(self) -> None:
        """Begin the time of the next message: a stream's answer is complete only at its end."""
        self._expect_answer(self.stream_wait)

    def on_response_complete(self) -> None:
        """Begin the time of the next request, before which the connection may idle."""
        super().on_response_complete()
        self.idle_since = self.loop.time()
        self._expect_answer(IDLE + self.first_answer)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP: with an answer, unless one is under way or was given.

        A request of which only the body is broken is being answered already. uvicorn would send a
        second answer into the first, and log an error with a traceback for each such request.
        """
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # it sends no more, and its application learns of it
            cycle.message_event.set()
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the watch."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        return cycle is None or cycle.response_complete

    def _make_room(self) -> None:
        """Abort the connection that has been idle for longest."""
        others = [each for each in self.connections if isinstance(each, WebConnection)]
        idle = [each for each in others if each is not self and each.is_idle]
        if idle:
            min(idle, key=lambda each: each.idle_since).transport.abort()

    def _expect_answer(self, seconds: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self.loop.call_later(seconds, self.transport.abort)


class WebServer(uvicorn.Server):
    """uvicorn without its signal handlers: runtime.py has the process' own.

    It wakes once a second, for the Date header. uvicorn wakes ten times to look whether it should
    end, which costs an idle exporter a fifth of its CPU. Here an end wakes it at once.
    """

    handshake: float = HANDSHAKE

    def __init__(self, config: uvicorn.Config) -> None:
        self._ending = asyncio.Event()
        super().__init__(config)

    @property
    def should_exit(self) -> bool:
        """Whether the server ends."""
        return self._ending.is_set()

    @should_exit.setter
    def should_exit(self, ends: bool) -> None:
        if ends:
            self._ending.set()

    async def main_loop(self) -> None:
        """Run until the server ends."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._ending.wait()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen. uvicorn gives a TLS handshake a minute, and cannot be told otherwise."""
        config, loop = self.config, asyncio.get_running_loop()

        def connect() -> asyncio.Protocol:
            made: asyncio.Protocol = cast("Any", config.http_protocol_class)(
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        self.servers = [
            await loop.create_server(
                connect,
                sock=listening,
                ssl=config.ssl,
                backlog=config.backlog,
                ssl_handshake_timeout=self.handshake if config.ssl else None,
            )
            for listening in sockets or ()
        ]
        self.started = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def server(
    application: Starlette,
    *,
    locks: Locks | None = None,
    connection: type[WebConnection] = WebConnection,
    made: type[WebServer] = WebServer,
) -> WebServer:
    """Return a server for sockets that are listening already. `made`: its class."""
    guarded = application if locks is None else locks.guard(application, open_paths=OPEN_PATHS)
    config = uvicorn.Config(
        guarded,
        http=_with_locks(connection, locks),
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
    config.load()  # uvicorn would make a TLS context of its own, from files
    config.ssl = None if locks is None else locks.context()
    return made(config)


def _with_locks(connection: type[WebConnection], locks: Locks | None) -> type[WebConnection]:
    """Return the class of connections that only allowed clients open. uvicorn makes them itself."""
    allow = (lambda _certificate: True) if locks is None else locks.is_peer_allowed

    class LockedConnection(connection):  # type: ignore[misc, valid-type]  # the base is an argument
        is_allowed = staticmethod(allow)

    return LockedConnection
