# SPDX-License-Identifier: Apache-2.0
"""Reads listening sockets from Linux's tables of TCP connections. Pure."""

import ipaddress
import sys
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

LISTEN: Final = b"0A"
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Listener(Struct, frozen=True):
    """A listening socket."""

    address: IPAddress
    port: int
    inode: int


def listeners(table: bytes) -> Iterator[Listener]:
    """Yield the listening sockets of `/proc/net/tcp` or `tcp6`.

    The kernel lists listening sockets first, so a truncated table lacks none of them.
    """
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != LISTEN:  # noqa: PLR2004 - the inode is the tenth
            continue
        address, _, port = fields[1].partition(b":")
        try:
            yield Listener(_address(address), int(port, 16), int(fields[9]))
        except ValueError:  # a kernel of another make
            continue


def reaches(host: str, address: IPAddress) -> bool:
    """Return whether a client of `host` may reach a socket that is bound to `address`."""
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    if address.is_unspecified:
        return True
    try:
        wanted = ipaddress.ip_address(host)
    except ValueError:  # a name; "localhost" means either loopback address
        return address.is_loopback or not host.rstrip(".").endswith("localhost")
    return address == wanted or not (wanted.is_loopback or address.is_loopback)


def _address(digits: bytes) -> IPAddress:
    """Read an address: 32-bit words in the byte order of the machine."""
    raw = bytes.fromhex(digits.decode("ascii"))
    if sys.byteorder == "little":
        raw = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    return ipaddress.ip_address(raw)
