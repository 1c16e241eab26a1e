# SPDX-License-Identifier: Apache-2.0
"""What is asked of the kernel for a connection."""

import asyncio
import socket
import struct
from typing import Final

CLOSED: Final = (7, 8)  # TCP_CLOSE and TCP_CLOSE_WAIT: the first byte of tcp_info is the state
# asyncio's own loop reads 256 KiB at a time, and the allocator maps and unmaps each of these, which
# costs more than all of a small request. uvloop has a buffer of its own.
READ: Final = 64 << 10
# A peer that is gone without a word is noticed after two minutes.
KEEPALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


def keep_watch(transport: asyncio.Transport) -> None:
    """Have the kernel notice a peer that is gone, and send what is written at once."""
    if hasattr(transport, "max_size"):
        transport.max_size = READ
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, seconds in KEEPALIVE:
            if hasattr(socket, name):  # not on every system
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)


def has_left(transport: asyncio.Transport) -> bool:
    """Tell whether the peer of a connection that is not read has closed it."""
    sock = transport.get_extra_info("socket")
    if sock is None or not hasattr(socket, "TCP_INFO"):  # Linux tells
        return False
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in CLOSED


def reset(transport: asyncio.Transport) -> None:
    """End a connection so that nobody can take it for a clean end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
