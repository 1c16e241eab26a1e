# SPDX-License-Identifier: Apache-2.0
"""Which server to watch: its base URL, in every form that OLLAMA_HOST takes."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ollama_exporter.errors import ConfigError

DEFAULT_PORT: Final = 11434
DEFAULT_TIMEOUT: Final = 10.0  # seconds for an answer
SCHEME_PORTS: Final = {"http": 80, "https": 443}  # a scheme that is written out implies its port
HIGHEST_PORT: Final = 65535
ACCEPTED: Final = "accepted: HOST, HOST:PORT, http://HOST[:PORT][/PATH] or https://…"


@dataclass(frozen=True, slots=True)
class Target:
    """One Ollama server."""

    name: str
    url: str  # as `base_url` returns it
    ca_file: Path | None = None
    token_file: Path | None = None


def base_url(text: str, *, field: str = "ollama.url") -> str:
    """Return the base URL, without a trailing slash, for any form that OLLAMA_HOST takes.

    A wildcard address means this machine. Raises ConfigError.
    """
    value = text.strip().strip("\"'").strip()
    scheme, separator, rest = value.partition("://")
    if not separator:
        scheme, rest, port = "http", value, DEFAULT_PORT
    elif scheme.lower() in SCHEME_PORTS:
        scheme = scheme.lower()
        port = SCHEME_PORTS[scheme]
    else:
        raise ConfigError(field, text, ACCEPTED)
    authority, _, path = rest.partition("/")
    if any(mark in rest for mark in "@?#\\") or any(c.isspace() or c < " " for c in rest):
        shown = re.sub(r"^.*@", "***@", text, flags=re.DOTALL)
        raise ConfigError(field, shown, ACCEPTED + "; no user, query or fragment")
    host, port = _host_and_port(authority, port, field=field, text=text)
    return f"{scheme}://{host}:{port}{'/' + path.strip('/') if path.strip('/') else ''}"


def is_loopback(url: str) -> bool:
    """Return whether a base URL names this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_and_port(authority: str, port: int, *, field: str, text: str) -> tuple[str, int]:
    host, rest = authority, ""
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigError(field, text, ACCEPTED)
    elif authority.count(":") == 1:
        host, _, rest = authority.partition(":")
        rest = f":{rest}"
    if rest:
        digits = rest[1:]
        if not (digits.isascii() and digits.isdigit() and 0 < int(digits) <= HIGHEST_PORT):
            raise ConfigError(field, text, ACCEPTED + f"; a port is 1 to {HIGHEST_PORT}")
        port = int(digits)
    if ":" not in host:
        if not (host.isascii() and host.isprintable()):  # what a resolver takes; IDNA as xn--…
            raise ConfigError(field, text, ACCEPTED + "; a host is written in ASCII")
        return ("127.0.0.1" if host in ("", "0.0.0.0") else host), port  # noqa: S104 - compared, not bound
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError as err:
        raise ConfigError(field, text, ACCEPTED) from err
    return ("[::1]" if address.is_unspecified else f"[{host}]"), port
