# SPDX-License-Identifier: Apache-2.0
"""Which pages in a browser may ask: the server's rule for the field `Origin`, without its setting.

Facts: `AllowedOrigins` in `envconfig/config.go`; pages of the very server count as its own.
"""

from typing import Final
from urllib.parse import urlsplit

HERE: Final = frozenset({"localhost", "127.0.0.1", "0.0.0.0"})  # noqa: S104 - a page's host
DESKTOP: Final = frozenset({"app", "file", "tauri", "vscode-webview", "vscode-file"})


def allowed(origin: str, *, host: str) -> bool:
    """Tell whether a page from there may ask; none named: it is no page. `host`: as addressed."""
    if not origin:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme in DESKTOP:
        return True
    return parts.scheme in ("http", "https") and (parts.hostname in HERE or parts.netloc == host)
