# SPDX-License-Identifier: Apache-2.0
"""Listening sockets and the uvicorn server on them."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette

from ollama_exporter.accept import split_address
from ollama_exporter.errors import StartError

BACKLOG: Final = 128
MOST_CONNECTIONS: Final = 500  # more are answered with 503: clients that never read pile up
IDLE: Final = 75  # seconds that a kept-alive connection may idle; scrapes come each 15 to 60
LAST_WORDS: Final = 2  # seconds that requests under way have at the end


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: runtime.py has the process' own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def server(application: Starlette) -> Server:
    """Return a server for sockets that are listening already."""
    return Server(
        uvicorn.Config(
            application,
            http="h11",
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
            sockets.append(_listen(address))
        except OSError as err:
            for opened in sockets:
                opened.close()
            why = os.strerror(err.errno) if err.errno else str(err)
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
