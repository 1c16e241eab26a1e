# SPDX-License-Identifier: Apache-2.0
"""Listening sockets, opened before anything is served: a port in use is an error at the start."""

import os
import socket
from collections.abc import Sequence
from contextlib import closing
from typing import Final

from ollama_exporter.config.parsers import split_address
from ollama_exporter.errors import StartError

BACKLOG: Final = 512


def listen(addresses: Sequence[str], *, field: str) -> list[socket.socket]:
    """Listen on all addresses, or on none. Raises StartError, which names the one in use."""
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
            raise StartError(f"{field}: cannot listen on {address!r}: {why}") from err
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
    """Return whether IPv6 can be bound: containers often have it compiled in but off."""
    try:
        with closing(socket.socket(socket.AF_INET6, socket.SOCK_STREAM)) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True
