# SPDX-License-Identifier: Apache-2.0
"""Reads the file of `--web.config.file`.

The format and its meaning: docs/web-configuration.md of prometheus/exporter-toolkit. What Python's
TLS cannot do is an error here, not a lock that does not lock.
"""

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec import Struct

from ollama_exporter.config.mapping import entries, section
from ollama_exporter.config.parsers import duration
from ollama_exporter.config.yaml_file import mapping_of, parse_document, read_yaml
from ollama_exporter.errors import ConfigError

SETTING: Final = "web.config.file"
HIDDEN: Final = "(hidden)"  # stands for a secret in messages
MOST_USERS: Final = 1000
MOST_BURST: Final = 1_000_000
# bcrypt's own form; a cost above 18 takes more than ten seconds for each login
HASH: Final = re.compile(r"\$2[abxy]?\$(0[4-9]|1[0-8])\$[./A-Za-z0-9]{53}")
HEADERS: Final[Mapping[str, tuple[str, ...]]] = {  # with the values that are accepted; none: any
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}
VERSIONS: Final = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
# Go's names of the suites that it considers secure, and OpenSSL's. Those of TLS 1.3 cannot be
# chosen, neither in Go nor in Python.
CIPHERS: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
}
# HTTP/2 forbids a server without one of them (RFC 9113, 9.2.2). We serve HTTP/1.1, but a file that
# the other exporters of a host refuse should not pass here.
HTTP2_CIPHERS: Final = (
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
)
CURVES: Final = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
T = TypeVar("T")


class ClientAuth(StrEnum):
    """Whether clients show a certificate."""

    NONE = "NoClientCert"
    VERIFY_IF_GIVEN = "VerifyClientCertIfGiven"
    REQUIRE_AND_VERIFY = "RequireAndVerifyClientCert"


UNVERIFIED: Final = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """`tls_server_config`. Of each pair of file and text, one is set."""

    cert_file: Path | None = None
    cert: str = ""
    key_file: Path | None = None
    key: str = field(default="", repr=False)
    client_auth_type: ClientAuth = ClientAuth.NONE
    client_ca_file: Path | None = None
    client_ca: str = ""
    client_allowed_sans: tuple[str, ...] = ()  # of them, a client's certificate carries one
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    cipher_suites: tuple[str, ...] = ()  # Go's names
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[str, ...] = ()  # Go's names


class RateLimit(Struct, frozen=True):
    """`rate_limit`: a token bucket of `burst` requests that gains one each `interval` seconds."""

    interval: float
    burst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """The whole file."""

    tls: ServerTls | None = None
    headers: tuple[tuple[str, str], ...] = ()
    users: Mapping[str, str] = field(default_factory=dict, repr=False)  # name -> bcrypt hash
    rate_limit: RateLimit | None = None


def read_web_config(file: Path) -> WebConfig:
    """Return what the file says. Raises ConfigError."""
    return parse_web_config(read_yaml(file), directory=file.parent)


def web_config_of(file: Path, content: bytes) -> WebConfig:
    """Return what the content of a file says. Raises ConfigError."""
    return parse_web_config(mapping_of(file, parse_document(file, content)), directory=file.parent)


def parse_web_config(mapping: Mapping[object, object], *, directory: Path) -> WebConfig:
    """Return what the mapping of a file says. Relative paths begin at `directory`.

    Raises ConfigError.
    """
    keys = {
        "tls_server_config": lambda name, value: _tls(name, value, directory),
        "http_server_config": _http,
        "basic_auth_users": _users,
        "rate_limit": _rate_limit,
    }
    parts = section(SETTING, dict(mapping), keys)
    http2, headers = parts.get("http_server_config", (True, ()))
    tls: ServerTls | None = parts.get("tls_server_config")
    if tls is not None and http2:
        _check_http2(tls)
    return WebConfig(
        tls=tls,
        headers=headers,
        users=parts.get("basic_auth_users", {}),
        rate_limit=parts.get("rate_limit"),
    )


def _tls(name: str, value: object, directory: Path) -> ServerTls | None:
    def path(name: str, value: object) -> Path | None:
        written = _text(name, value)
        return directory / written if written else None

    keys: dict[str, Callable[[str, object], Any]] = {
        "cert": _text,
        "key": _secret,
        "client_ca": _text,
        "cert_file": path,
        "key_file": path,
        "client_ca_file": path,
        "client_auth_type": _client_auth,
        "client_allowed_sans": _texts,
        "min_version": _one_of(VERSIONS),
        "max_version": _one_of(VERSIONS),
        "cipher_suites": _names_of(CIPHERS),
        "curve_preferences": _names_of(CURVES),
        "prefer_server_cipher_suites": _boolean,
    }
    given = section(name, value, keys)
    if not given:
        return None
    tls = ServerTls(**given)
    _check_tls(name, tls)
    return tls


def _check_tls(name: str, tls: ServerTls) -> None:
    """Raise ConfigError for parts that do not fit together."""
    if tls.cert_file is None and not tls.cert:
        raise ConfigError(
            f"{name}.cert_file", "", "the file of the certificate, or cert with its text"
        )
    if tls.key_file is None and not tls.key:
        raise ConfigError(f"{name}.key_file", "", "the file of the key, or key with its text")
    has_ca = tls.client_ca_file is not None or bool(tls.client_ca)
    if has_ca and tls.client_auth_type is ClientAuth.NONE:
        policies = f"with it: {ClientAuth.REQUIRE_AND_VERIFY} or {ClientAuth.VERIFY_IF_GIVEN}"
        raise ConfigError(
            f"{name}.client_auth_type", str(tls.client_auth_type), f"a client CA needs {policies}"
        )
    if tls.client_allowed_sans and tls.client_auth_type is not ClientAuth.REQUIRE_AND_VERIFY:
        accepted = f"{ClientAuth.REQUIRE_AND_VERIFY}: client_allowed_sans needs it"
        raise ConfigError(f"{name}.client_auth_type", str(tls.client_auth_type), accepted)
    if tls.min_version > tls.max_version:
        raise ConfigError(f"{name}.max_version", tls.max_version.name, "at least min_version")
    if 1 < len(tls.curve_preferences) < len(CURVES):
        accepted = "one curve or all of them; Python's TLS cannot be limited to several"
        raise ConfigError(f"{name}.curve_preferences", list(tls.curve_preferences), accepted)


def _check_http2(tls: ServerTls) -> None:
    older = [suite for suite in tls.cipher_suites if CIPHERS[suite]]
    if older and not set(older) & set(HTTP2_CIPHERS):
        accepted = f"one of {' or '.join(HTTP2_CIPHERS)}, or http2: false in http_server_config"
        raise ConfigError(f"{SETTING}.tls_server_config.cipher_suites", older, accepted)


def _http(name: str, value: object) -> tuple[bool, tuple[tuple[str, str], ...]]:
    given = section(name, value, {"http2": _boolean, "headers": _headers})
    return given.get("http2", True), given.get("headers", ())


def _headers(name: str, value: object) -> tuple[tuple[str, str], ...]:
    headers = []
    for header, item in entries(name, value).items():
        if header not in HEADERS:
            raise ConfigError(name, header, f"one of {', '.join(HEADERS)}")
        written = _text(f"{name}.{header}", item)
        accepted = HEADERS[header]
        if not written.isascii() or not written.isprintable():
            raise ConfigError(f"{name}.{header}", written, "printable ASCII on one line")
        if accepted and written not in accepted:
            raise ConfigError(f"{name}.{header}", written, " or ".join(accepted))
        if written:
            headers.append((header, written))
    return tuple(headers)


def _users(name: str, value: object) -> Mapping[str, str]:
    users = entries(name, value, most=MOST_USERS)
    for user, hashed in users.items():
        if ":" in user:
            raise ConfigError(name, user, "user names without a colon, which ends them on the wire")
        if not isinstance(hashed, str) or not HASH.fullmatch(hashed):
            accepted = "a bcrypt hash of cost 4 to 18, as `htpasswd -nBC 10 USER` prints it"
            raise ConfigError(f"{name}.{user}", HIDDEN, accepted)
    return dict(users)


def _rate_limit(name: str, value: object) -> RateLimit | None:
    given = section(name, value, {"interval": _interval, "burst": _burst})
    limit = RateLimit(given.get("interval", 0.0), given.get("burst", 0))
    return limit if limit.interval > 0 else None


def _interval(name: str, value: object) -> float:
    return 0.0 if value in {0, "0", "0s"} else duration(name, value)


def _burst(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_BURST:
        raise ConfigError(name, value, f"a whole number from 0 to {MOST_BURST}")
    return value


def _client_auth(name: str, value: object) -> ClientAuth:
    written = _text(name, value)
    accepted = " or ".join(ClientAuth)
    if written in UNVERIFIED:
        why = "Python's TLS cannot ask for a certificate without verifying it"
        raise ConfigError(name, written, f"{accepted}: {why}")
    try:
        return ClientAuth(written or ClientAuth.NONE)
    except ValueError as err:
        raise ConfigError(name, written, accepted) from err


def _one_of(values: Mapping[str, T]) -> Callable[[str, object], T]:
    def parse(name: str, value: object) -> T:
        if value not in values:
            raise ConfigError(name, value, f"one of {', '.join(values)}")
        return values[str(value)]

    return parse


def _names_of(values: Mapping[str, object]) -> Callable[[str, object], tuple[str, ...]]:
    def parse(name: str, value: object) -> tuple[str, ...]:
        for each in (names := _texts(name, value)):
            if each not in values:
                raise ConfigError(name, each, f"one of {', '.join(values)}")
        return names

    return parse


def _text(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ConfigError(name, value, "a text")
    return str(value)


def _secret(name: str, value: object) -> str:
    if value is not None and not isinstance(value, str):
        raise ConfigError(name, HIDDEN, "the text of a key in PEM")
    return value or ""


def _texts(name: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ConfigError(name, value, "a list of texts")
    return tuple(value)


def _boolean(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(name, value, "true or false")
    return value
