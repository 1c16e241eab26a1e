# SPDX-License-Identifier: Apache-2.0
"""Listening sockets and the uvicorn server on them."""

import asyncio
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from ollama_exporter.accept import split_address
from ollama_exporter.errors import StartError

BACKLOG: Final = 128
MOST_CONNECTIONS: Final = 500  # more are answered with 503: clients that never read pile up
IDLE: Final = 75  # seconds that a kept-alive connection may idle; scrapes come each 15 to 60
FIRST_ANSWER: Final = 15  # seconds from a connection to its first complete answer
LAST_WORDS: Final = 2  # seconds that requests under way have at the end


class Connection(H11Protocol):
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


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: runtime.py has the process' own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def server(application: Starlette, *, connection: type[Connection] = Connection) -> Server:
    """Return a server for sockets that are listening already."""
    return Server(
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


def listen(addresses: Sequence[str]) -> list[socket.socket]:
    """Listen on all addresses, or on none. Raises StartError naming the one that is not free."""
    sockets: list[socket.socket] = []
    for address in addresses:
        try:
            listening = _listen(address)
            # Accepted sockets inherit it. asyncio sets it only where a socket names its protocol,
            # which accepted ones do not: head and body, two writes, would then wait 40 ms.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sockets.append(listening)
        except (OSError, UnicodeError) as err:  # UnicodeError: not a name that IDNA knows
            for opened in sockets:
                opened.close()
            why = str(err)
            if isinstance(err, OSError) and (err.errno or 0) > 0:  # below 0: the resolver's own
                why = os.strerror(err.errno or 0)
            raise StartError(f"web.listen-address: cannot listen on {address!r}: {why}") from err
    return sockets


def spelled(listening: socket.socket) -> str:
    """Return the address of a socket as one writes it."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(address: str) -> socket.socket:
    host, port = split_address(address)
    if host:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    if socket.has_dualstack_ipv6() and _has_ipv6():
        return socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
        )
    return socket.create_server(("", port), backlog=BACKLOG)


def _has_ipv6() -> bool:
    """Tell whether the kernel lets us bind IPv6: containers often have it compiled in but off."""
    try:
        with closing(socket.socket(socket.AF_INET6, socket.SOCK_STREAM)) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True
