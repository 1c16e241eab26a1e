# SPDX-License-Identifier: Apache-2.0
"""Which server to watch: its base URL, in every form that OLLAMA_HOST takes."""

import ipaddress
import re
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from ollama_exporter.errors import ConfigError
from ollama_exporter.foreign_text import mask_address

DEFAULT_PORT: Final = 11434
DEFAULT_TIMEOUT: Final = 10.0  # seconds for an answer
SCHEME_PORTS: Final = {"http": 80, "https": 443}  # a scheme that is written out implies its port
HOST: Final = re.compile(r"[A-Za-z0-9._~-]{0,253}")
FOUR_NUMBERS: Final = re.compile(r"\d+(?:\.\d+){3}")
HIGHEST_PORT: Final = 65535
HIDDEN: Final = "***"
# A target's keys in the configuration file, and the settings of the only target.
SINGLE_TARGET_SETTINGS: Final = {
    "url": "ollama.url",
    "bearer-token-file": "ollama.token-file",
    "basic-auth.user": "ollama.basic-auth-user",
    "basic-auth.password-file": "ollama.basic-auth-password-file",
    "headers": "ollama.header",
    "headers.file": "ollama.header-file",
    "tls.ca-file": "ollama.ca-file",
    "tls.cert-file": "ollama.tls-cert-file",
    "tls.key-file": "ollama.tls-key-file",
}
ACCEPTED: Final = "accepted: HOST, HOST:PORT, http://HOST[:PORT][/PATH] or https://…"


class BasicAuth(Struct, frozen=True):
    """A user of the server. The password is in a file."""

    user: str
    password_file: Path


@dataclass(frozen=True, slots=True)
class HeaderField:
    """A header field for the server: its value, or the file that holds it.

    A value may be a credential, so no message shows it.
    """

    name: str
    value: str = field(default="", repr=False)
    file: Path | None = None

    def __str__(self) -> str:
        return f"{self.name}: {HIDDEN if self.file is None else self.file}"


@dataclass(frozen=True, slots=True)
class Target:
    """One Ollama server, and what it takes to be let in there.

    `section` is its place in the configuration file, for errors; empty: the flags `--ollama.*`.
    """

    name: str
    url: str  # as `base_url` returns it
    ca_file: Path | None = None
    token_file: Path | None = None
    _: KW_ONLY
    basic_auth: BasicAuth | None = None
    headers: tuple[HeaderField, ...] = ()
    cert_file: Path | None = None  # of the client
    key_file: Path | None = None
    server_name: str | None = None  # in the server's certificate; None: the URL's host
    insecure_skip_verify: bool = False
    section: str = field(default="", compare=False)

    def setting(self, key: str) -> str:
        """Return the name of one of its settings, as errors call it."""
        return f"{self.section}.{key}" if self.section else SINGLE_TARGET_SETTINGS[key]


def checked_basic_auth(
    user: str | None, password_file: Path | None, *, section: str = ""
) -> BasicAuth:
    """Return a user with its password's file. Raises ConfigError if one of them is missing."""
    names = Target("", "", section=section).setting
    needed = (names("basic-auth.user"), names("basic-auth.password-file"))
    if user is None:
        raise ConfigError(needed[0], user, f"set it together with {needed[1]}")
    if password_file is None:
        raise ConfigError(needed[1], password_file, f"set it together with {needed[0]}")
    return BasicAuth(user, password_file)


def base_url(text: str, *, field: str = "ollama.url") -> str:
    """Return the base URL, without a trailing slash, for any form that OLLAMA_HOST takes.

    A wildcard address means this machine. Raises ConfigError.
    """
    value, shown = text.strip().strip("\"'").strip(), mask_address(text)
    scheme, separator, rest = value.partition("://")
    if not separator:
        scheme, rest, port = "http", value, DEFAULT_PORT
    elif scheme.lower() in SCHEME_PORTS:
        scheme = scheme.lower()
        port = SCHEME_PORTS[scheme]
    else:
        raise ConfigError(field, shown, ACCEPTED)
    authority, _, path = rest.partition("/")
    has_mark = "%40" in authority or any(mark in rest for mark in "@?#\\")
    if has_mark or any(c.isspace() or c < " " for c in rest):
        raise ConfigError(field, shown, ACCEPTED + "; no user, query or fragment")
    host, port = _host_and_port(authority, port, field=field, text=shown)
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


def is_same_server(one: str, other: str) -> bool:
    """Return whether two base URLs name the same server. All names of this machine are alike."""
    if one == other:
        return True
    try:
        (first, port), (second, other_port) = _end_point(one), _end_point(other)
    except ValueError:
        return False
    return port == other_port and (first == second or (is_loopback(one) and is_loopback(other)))


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _end_point(url: str) -> tuple[str, int | None]:
    """Raise ValueError for what is no URL."""
    parts = urlsplit(url)
    return (parts.hostname or "").rstrip("."), parts.port or SCHEME_PORTS.get(parts.scheme)


def _host_and_port(authority: str, port: int, *, field: str, text: str) -> tuple[str, int]:
    host, colon, digits = authority, "", ""
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        before, colon, digits = rest.partition(":")
        if not bracket or before:
            raise ConfigError(field, text, ACCEPTED)
    elif authority.count(":") == 1:
        host, colon, digits = authority.partition(":")
    if colon:
        if not (digits.isascii() and digits.isdigit() and 0 < int(digits) <= HIGHEST_PORT):
            raise ConfigError(field, text, ACCEPTED + f"; a port is 1 to {HIGHEST_PORT}")
        port = int(digits)
    spelled = _ipv6(host, field, text) if ":" in host else _name_or_ipv4(host, field, text)
    return spelled, port


def _name_or_ipv4(host: str, field: str, text: str) -> str:
    if not (host.isascii() and host.isprintable()):  # what a resolver takes; IDNA as xn--…
        raise ConfigError(field, text, ACCEPTED + "; a host is written in ASCII")
    if not HOST.fullmatch(host) or (FOUR_NUMBERS.fullmatch(host) and not _is_ipv4(host)):
        raise ConfigError(field, text, ACCEPTED + "; this is no name or address of a host")
    return "127.0.0.1" if host in ("", "0.0.0.0") else host  # noqa: S104 - compared, not bound


def _ipv6(host: str, field: str, text: str) -> str:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError as err:
        raise ConfigError(field, text, ACCEPTED) from err
    return "[::1]" if address.is_unspecified else f"[{host}]"
