# SPDX-License-Identifier: Apache-2.0
"""Which Host a server answers: on loopback a foreign one gets 403, as the real server says it."""

import ipaddress
import socket
from typing import Final

LOCAL_DOMAINS: Final = (".localhost", ".local", ".internal")


def known(address: str, authority: str) -> bool:
    """Tell whether a server that listens on an address answers requests for a host and port."""
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
