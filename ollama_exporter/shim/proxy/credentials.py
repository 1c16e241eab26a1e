# SPDX-License-Identifier: Apache-2.0
"""Tokens and certificates: files that are read again while the proxy runs.

A file that was emptied, removed or damaged is logged at once and counted. A token then loses its
effect after GRACE seconds, so emptying its file revokes it. A certificate stays in use until its
files hold another one.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

from ollama_exporter.config.target import Target
from ollama_exporter.errors import ConfigError
from ollama_exporter.files import read_regular
from ollama_exporter.protocol.bearer_token import GRACE, read_token
from ollama_exporter.protocol.server_credentials import Field, file_fields

READ_TIMEOUT: Final = 2.0  # seconds; a file on a server that is gone may never be read
MAX_PEM: Final = 1 << 20  # bytes
CERTIFICATE: Final = "proxy.tls-cert-file"
KEY: Final = "proxy.tls-key-file"
UNUSABLE: Final = "Credential file cannot be used"
UNUSABLE_CERTIFICATE: Final = "Certificate cannot be used, the old one stays"
T = TypeVar("T")
logger = logging.getLogger(__name__)


class WatchedFile(Generic[T]):
    """The content of a file that is read again and again. It is read in a thread."""

    def __init__(
        self,
        setting: str,
        load: Callable[[], T],
        *,
        now: Callable[[], float],
        on_error: Callable[[str], None],
        grace: float | None = GRACE,
    ) -> None:
        """`load` reads the file and raises ConfigError; here, it is read for the first time.

        `on_error` counts failed reads by setting. `grace`: None if the last content stays in use.
        """
        self._setting, self._load, self._now = setting, load, now
        self._on_error, self._grace = on_error, grace
        self._value: T | None = load()
        self._read_at = now()
        self._problem = ""
        self._reading: asyncio.Task[T] | None = None

    def current(self) -> T | None:
        """Return the content in use; None if the file has been unusable for longer than GRACE."""
        return self._value

    async def refresh(self) -> None:
        """Read the file again."""
        if self._reading is None:
            self._reading = asyncio.create_task(asyncio.to_thread(self._load))
        done, _ = await asyncio.wait({self._reading}, timeout=READ_TIMEOUT)
        if not done:
            self._on_failed_read(f"the file cannot be read within {READ_TIMEOUT:g} s")
            return
        reading, self._reading = self._reading, None
        try:
            value = reading.result()
        except ConfigError as err:
            self._on_failed_read(str(err))
        else:
            self._on_read(value)

    def _on_read(self, value: T) -> None:
        values = {"setting": self._setting}
        if self._problem:
            logger.info("Token or certificate is usable again", extra=values)
        elif value != self._value:
            logger.info("Token or certificate changed", extra=values)
        self._problem, self._value, self._read_at = "", value, self._now()

    def _on_failed_read(self, problem: str) -> None:
        self._on_error(self._setting)
        if problem != self._problem:
            values: dict[str, object] = {"setting": self._setting, "err": problem}
            if self._grace is not None:
                values["old_one_valid"] = f"{self._grace:g}s"
            logger.warning(UNUSABLE_CERTIFICATE if self._grace is None else UNUSABLE, extra=values)
        self._problem = problem
        if self._grace is None or self._value is None:
            return
        if self._now() - self._read_at >= self._grace:
            self._value = None
            logger.error(
                "Credential is void: its file cannot be used", extra={"setting": self._setting}
            )


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
            raise ConfigError(KEY, str(key), f"{CERTIFICATE} with it")
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
            accepted = f"a readable PEM certificate chain, and its key ({_reason(err)})"
            raise ConfigError(CERTIFICATE, str(self._cert), accepted) from err
        return self._context


def listening_context(certificate: WatchedFile[ssl.SSLContext]) -> ssl.SSLContext:
    """Return a context that takes the certificate in use anew for each handshake.

    Changing the certificate of a context that is in use could leave it without its key.
    """
    context = certificate.current()
    assert context is not None  # noqa: S101 - it has no grace, so there is always one

    def choose(connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        connection.context = certificate.current() or context

    context.sni_callback = choose  # called without SNI as well
    return context


def _reason(err: Exception) -> str:
    return (err.strerror if isinstance(err, OSError) else None) or str(err)
