# SPDX-License-Identifier: Apache-2.0
"""Tokens and certificates: files that are read again while the proxy runs.

A file that was emptied, removed or damaged is logged at once and counted. A token then loses its
effect after GRACE seconds, so emptying its file revokes it. A certificate stays in use until its
files hold another one.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ollama_exporter.config.target import Target
from ollama_exporter.errors import ConfigError
from ollama_exporter.files import MAX_PEM, read_regular, why_unusable
from ollama_exporter.protocol.credential_files import read_token
from ollama_exporter.protocol.server_credentials import Field, file_fields
from ollama_exporter.watched_file import WatchedFile

CERTIFICATE: Final = "proxy.tls-cert-file"
KEY: Final = "proxy.tls-key-file"


def watched_token(
    file: Path | None,
    setting: str,
    *,
    now: Callable[[], float],
    on_error: Callable[[str], None],
) -> WatchedFile[str] | None:
    """Return a token that follows its file; None without a file. Raises ConfigError."""
    if file is None:
        return None
    return WatchedFile(setting, lambda: read_token(file, field=setting), now=now, on_error=on_error)


def watched_fields(
    target: Target, *, now: Callable[[], float], on_error: Callable[[str], None]
) -> tuple[WatchedFile[Field], ...]:
    """Return the header fields for a server that follow their files. Raises ConfigError."""
    return tuple(
        WatchedFile(source.setting, source.field, now=now, on_error=on_error)
        for source in file_fields(target)
    )


def watched_certificate(
    cert: Path | None,
    key: Path | None,
    *,
    now: Callable[[], float],
    on_error: Callable[[str], None],
) -> WatchedFile[ssl.SSLContext] | None:
    """Return a TLS context that follows its files; None without a file. Raises ConfigError."""
    if cert is None:
        if key is not None:
            raise ConfigError(KEY, str(key), f"set it together with {CERTIFICATE}")
        return None
    return WatchedFile(
        CERTIFICATE, CertificateLoader(cert, key), now=now, on_error=on_error, grace=None
    )


class CertificateLoader:
    """Makes a TLS context of a certificate and its key, a new one when the files have changed."""

    def __init__(self, cert: Path, key: Path | None) -> None:
        self._cert, self._key = cert, key
        self._content: tuple[bytes, ...] = ()
        self._context: ssl.SSLContext | None = None

    def __call__(self) -> ssl.SSLContext:
        """Return the context. Raises ConfigError."""
        files = (self._cert,) if self._key is None else (self._cert, self._key)
        try:
            content = tuple(read_regular(file, limit=MAX_PEM) for file in files)
            if self._context is None or content != self._content:
                context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                context.set_alpn_protocols(["http/1.1"])
                # A key with a passphrase is an error: nobody is there to be asked.
                context.load_cert_chain(self._cert, self._key, password="")
                self._context, self._content = context, content
        except (OSError, ValueError) as err:  # SSLError is an OSError; ValueError: NUL in a path
            accepted = f"a readable PEM certificate chain, and its key ({why_unusable(err)})"
            raise ConfigError(CERTIFICATE, str(self._cert), accepted) from err
        return self._context
