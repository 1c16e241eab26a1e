# SPDX-License-Identifier: Apache-2.0
"""Which web pages may send requests: the server's default rule for the header `Origin`.

See `AllowedOrigins` in `envconfig/config.go`. Pages of the server itself are accepted.
"""

from typing import Final
from urllib.parse import urlsplit

HERE: Final = frozenset({"localhost", "127.0.0.1", "0.0.0.0"})  # noqa: S104 - a page's host
DESKTOP: Final = frozenset({"app", "file", "tauri", "vscode-webview", "vscode-file"})


def is_allowed(origin: str, *, host: str) -> bool:
    """Return whether a page of this origin may send requests; empty: it is not a browser's page.

    `host`: the Host header.
    """
    if not origin:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme in DESKTOP:
        return True
    return parts.scheme in ("http", "https") and (parts.hostname in HERE or parts.netloc == host)
