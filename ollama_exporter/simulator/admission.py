# SPDX-License-Identifier: Apache-2.0
"""Who may ask: the server's rules for the fields `Host` and `Origin`, without its settings.

Facts: `allowedHost` in `server/routes.go`, `AllowedOrigins` in `envconfig/config.go`.
"""

import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

from ollama_exporter.simulator.http import HttpRequest

LOCAL_DOMAINS: Final = (".localhost", ".local", ".internal")
PAGES: Final = frozenset({"localhost", "127.0.0.1", "0.0.0.0"})  # noqa: S104 - hosts of pages
DESKTOP: Final = frozenset({"app", "file", "tauri", "vscode-webview", "vscode-file"})


def admits(request: HttpRequest, *, address: str) -> bool:
    """Tell whether a request is answered by a server that listens on that address."""
    return known_host(request.host, address=address) and known_page(request)


def known_host(authority: str, *, address: str) -> bool:
    """Tell the hosts that a server on loopback answers; on other addresses it answers all."""
    if not ipaddress.ip_address(address).is_loopback:
        return True
    host = authority.lower()
    if not host.endswith("]"):
        name, _, port = host.rpartition(":")
        host = name if port.isdigit() and name else host
    host = host.strip("[]")
    try:
        named = ipaddress.ip_address(host)
    except ValueError:
        own = host in ("", "localhost", socket.gethostname().lower())
        return own or host.endswith(LOCAL_DOMAINS)
    return named.is_loopback or named.is_private or named.is_unspecified


def known_page(request: HttpRequest) -> bool:
    """Tell whether the page whose script asks may; none named: it is no page."""
    if not request.origin:
        return True
    try:
        parts = urlsplit(request.origin)
    except ValueError:
        return False
    if parts.scheme in DESKTOP:
        return True
    known = parts.hostname in PAGES or parts.netloc == request.host  # of this very server
    return parts.scheme in ("http", "https") and known
