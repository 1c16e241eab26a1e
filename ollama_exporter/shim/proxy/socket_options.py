# SPDX-License-Identifier: Apache-2.0
"""Options of the sockets on both sides of the proxy."""

import asyncio
import socket
import struct
from typing import Final

CLOSED: Final = (7, 8)  # TCP_CLOSE and TCP_CLOSE_WAIT: the first byte of tcp_info is the state
# asyncio's own loop reads 256 KiB at a time. The allocator maps and unmaps each such buffer, which
# costs more than the rest of a small request. uvloop has a buffer of its own.
READ_SIZE: Final = 64 << 10
# The kernel notices a peer that has vanished after two minutes.
KEEPALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


def set_socket_options(transport: asyncio.Transport) -> None:
    """Turn TCP keep-alive on, and Nagle's algorithm off."""
    if hasattr(transport, "max_size"):
        transport.max_size = READ_SIZE
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, seconds in KEEPALIVE:
            if hasattr(socket, name):  # not on every system
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)


def has_peer_closed(transport: asyncio.Transport) -> bool:
    """Return whether the peer has closed a connection that is not being read. Linux only."""
    sock = transport.get_extra_info("socket")
    if sock is None or not hasattr(socket, "TCP_INFO"):
        return False
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in CLOSED


def reset(transport: asyncio.Transport) -> None:
    """End a connection with RST, so that the peer cannot take it for a clean end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
