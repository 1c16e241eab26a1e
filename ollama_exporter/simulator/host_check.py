# SPDX-License-Identifier: Apache-2.0
"""Which Host headers the server accepts. On loopback it answers a foreign one with 403.

The proxy has the same rule in `shim/proxy/headers.py`. The two are written twice on purpose: a
simulator that shares code with the proxy would share its mistakes.
"""

import ipaddress
import socket
from typing import Final

LOCAL_DOMAINS: Final = (".localhost", ".local", ".internal")


def is_accepted(address: str, authority: str) -> bool:
    """Return whether a server that listens on `address` answers requests for `authority`."""
    if not ipaddress.ip_address(address).is_loopback:
        return True
    host = authority.lower()
    if not host.endswith("]"):
        name, _, port = host.rpartition(":")
        host = name if port.isdigit() and name else host
    host = host.strip("[]")
    try:
        asked = ipaddress.ip_address(host)
    except ValueError:
        named = host in ("", "localhost", socket.gethostname().lower())
        return named or host.endswith(LOCAL_DOMAINS)
    return asked.is_loopback or asked.is_private or asked.is_unspecified
