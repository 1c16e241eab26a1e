# SPDX-License-Identifier: Apache-2.0
"""Bounds on what a client may send and on how long the proxy waits. llhttp sets none of them."""

from typing import Final

from msgspec import Struct

# Bytes written to a side that does not read them, before the other side is paused. With the usual
# 64 KiB a fast stream loses 40 % of its rate to pausing and resuming.
HIGH_WATER: Final = 256 << 10
MAX_QUEUED: Final = 64 << 10  # bytes of pipelined requests, or of a body before there is a server
MAX_RESENT: Final = 64 << 10  # bytes of a request that are kept for a second attempt
# Bytes of a request that rules may change which are held until it is complete: of one request, and
# of all together. What is longer, or comes when all is taken, is changed while it passes.
MAX_HELD: Final = 1 << 20
MAX_HELD_BY_ALL: Final = 64 << 20
MAX_IDLE: Final = 64  # idle connections to the server


class Limits(Struct, frozen=True):
    """The settings `proxy.max-…` and `proxy.…-timeout`. Sizes in bytes, times in seconds."""

    max_connections: int
    max_head_bytes: int
    max_head_fields: int
    max_url_bytes: int
    head_timeout: float  # from the first byte of a head to its end
    idle_timeout: float  # between two requests, and between two reads of a request's body
    connect_timeout: float
    silence_timeout: float  # of the server, before its head or between two reads
    shutdown_timeout: float  # for open responses to end

    @property
    def max_raw_head_bytes(self) -> int:
        """The longest head on the wire: names and values, the request line and all separators."""
        return self.max_head_bytes + self.max_url_bytes + 4 * self.max_head_fields + 64


class HeldBytes:
    """What all connections hold together, within a bound."""

    __slots__ = ("_limit", "size")

    def __init__(self, limit: int = MAX_HELD_BY_ALL) -> None:
        self._limit = limit
        self.size = 0

    def take(self, size: int) -> bool:
        """Count bytes as held. Return False, and count none, beyond the bound."""
        if self.size + size > self._limit:
            return False
        self.size += size
        return True

    def give_back(self, size: int) -> None:
        """Give bytes back."""
        self.size -= size
