# SPDX-License-Identifier: Apache-2.0
"""Finds out whether an address leads back to one of this process's listening sockets."""

import ipaddress
import socket
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def own_socket(host: str, port: int, listening: Sequence[socket.socket]) -> socket.socket | None:
    """Return the socket that a connection to `host` and `port` would reach, if it is one of these.

    Resolves the name only if the port is one of theirs. An address behind a port mapping or a
    proxy cannot be recognised.
    """
    inet = [each for each in listening if each.family in {socket.AF_INET, socket.AF_INET6}]
    candidates = [each for each in inet if each.getsockname()[1] == port]
    if not candidates:
        return None
    for address in _resolve(host, port):
        for each in candidates:
            if _reaches(address, _parse(each.getsockname()[0])):
                return each
    return None


def _resolve(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # the polls will report it
        return []
    return [_parse(str(sockaddr[0])) for *_, sockaddr in found]


def _parse(text: str) -> Address:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _reaches(address: Address, listening: Address) -> bool:
    """Return whether a connection to one address reaches a socket that listens on the other."""
    if address.is_unspecified:  # the kernel connects it to loopback
        address = ipaddress.ip_address("127.0.0.1" if _is_ipv4(address) else "::1")
    if not listening.is_unspecified:
        return address == listening
    if _is_ipv4(listening) and not _is_ipv4(address):  # :: takes both
        return False
    return address.is_loopback or _is_local(address)


def _is_ipv4(address: Address) -> bool:
    return isinstance(address, ipaddress.IPv4Address)


def _is_local(address: Address) -> bool:
    """Return whether an address is this machine's: the kernel then uses it as the source too."""
    family = socket.AF_INET if _is_ipv4(address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))  # sends nothing
            return _parse(probe.getsockname()[0]) == address
    except OSError:
        return False
