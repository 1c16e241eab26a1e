# SPDX-License-Identifier: Apache-2.0
"""What a client may ask of the proxy, and how long each wait is. llhttp bounds none of it."""

from dataclasses import dataclass
from typing import Final

# Bytes that are kept for a side that does not take them, before the other side is stopped. With
# the usual 64 KiB a fast stream loses 40 % of its rate to stopping and going on.
HIGH_WATER: Final = 256 << 10
MOST_QUEUED: Final = 64 << 10  # bytes of pipelined requests, or of a body before there is a server
REPEATABLE: Final = 64 << 10  # bytes of a request that are kept for a second attempt
MOST_IDLE: Final = 64  # connections to the server that are kept


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    connections: int = 1000
    head_bytes: int = 32 << 10
    head_fields: int = 100
    url_bytes: int = 8 << 10
    head_time: float = 10.0  # from the first byte of a head to its end
    idle_time: float = 75.0  # between two requests, and between two reads of a request's body
    connect_time: float = 5.0
    silence: float = 3600.0  # of the server, before its head or between two reads
    shutdown_time: float = 10.0  # that streams have to end in

    @property
    def raw_head_bytes(self) -> int:
        """The longest head on the wire: names and values, the request line, what parts them."""
        return self.head_bytes + self.url_bytes + 4 * self.head_fields + 64
