# SPDX-License-Identifier: Apache-2.0
"""The locks of our own port, which follow their file while the exporter runs.

A user who was taken out is refused within seconds. A file that cannot be read leaves the old locks
in place for GRACE seconds; then every request is answered with 503. So does a file that has lost
the last lock of a kind: it may be half written, or the disk is full. A certificate stays in use
until its files hold another one.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, Protocol, Self

from starlette.types import ASGIApp

from ollama_exporter.config.yaml_file import LARGEST_FILE
from ollama_exporter.errors import ConfigError
from ollama_exporter.files import read_regular, why_unusable
from ollama_exporter.watched_file import WatchedFile, listening_context
from ollama_exporter.web.locks.admission import Admission, AdmissionMetrics
from ollama_exporter.web.locks.guard import Guard
from ollama_exporter.web.locks.server_tls import TlsMaterial, is_allowed
from ollama_exporter.web.locks.web_config import SETTING, ClientAuth, WebConfig, web_config_of

INTERVAL: Final = 1.0  # seconds between two looks at the files
logger = logging.getLogger(__name__)


class LockMetrics(AdmissionMetrics, Protocol):
    """What the locks count."""

    def certificate_expires(self, setting: str, at: float | None, /) -> None:
        """Show when the certificate in use expires, in Unix seconds; `setting`: of its file."""

    def file_failed(self, setting: str) -> None:
        """Count a failed read of a file."""


class Locks:
    """What a web configuration file asks for."""

    def __init__(
        self,
        file: Path,
        *,
        metrics: LockMetrics,
        now: Callable[[], float],
        interval: float = INTERVAL,
        setting: str = SETTING,
    ) -> None:
        """Read the file, which `setting` names. Raises ConfigError."""
        self._interval = interval
        self._config = WatchedFile(
            setting, _ConfigLoader(file), now=now, on_error=metrics.file_failed
        )
        self.admission = Admission(self._config.current, metrics=metrics, now=now)
        self._setting = setting
        self._tls: WatchedFile[ssl.SSLContext] | None = None
        self._is_restart_logged = False
        config = self._config.current()
        if config is not None and config.tls is not None:
            loader = _ContextLoader(
                self._config.current, partial(metrics.certificate_expires, setting)
            )
            self._tls = WatchedFile(
                setting, loader, now=now, on_error=metrics.file_failed, grace=None
            )

    @classmethod
    def of(
        cls,
        file: Path | None,
        *,
        metrics: LockMetrics,
        now: Callable[[], float],
        setting: str = SETTING,
    ) -> Self | None:
        """Return the locks of a file; None without one. Raises ConfigError."""
        return None if file is None else cls(file, metrics=metrics, now=now, setting=setting)

    @property
    def is_tls(self) -> bool:
        """Whether the port speaks TLS."""
        return self._tls is not None

    def context(self) -> ssl.SSLContext | None:
        """Return the context to listen with; None without TLS."""
        return None if self._tls is None else listening_context(self._tls)

    def is_peer_allowed(self, certificate: Mapping[str, object] | None) -> bool:
        """Return whether a client may connect. `certificate`: as `getpeercert` returns it."""
        config = self._config.current()
        if config is None or config.tls is None:
            return True
        return is_allowed(certificate, config.tls.client_allowed_sans)

    def guard(self, app: ASGIApp, *, open_paths: frozenset[str] = frozenset()) -> Guard:
        """Return an application that guards another one. `open_paths` need no password."""
        return Guard(app, self.admission, open_paths=open_paths)

    @property
    def keeps_out(self) -> bool:
        """Whether they let only some clients in."""
        config = self._config.current()
        return config is None or bool(kinds_of_locks(config))

    async def refresh(self) -> None:
        """Read all files again."""
        await self._config.refresh()
        if self._tls is not None:
            await self._tls.refresh()
        config = self._config.current()
        if config is not None and config.tls is not None and not self.is_tls:
            if not self._is_restart_logged:
                logger.warning("TLS begins with the next restart", extra={"setting": self._setting})
            self._is_restart_logged = True

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow the files inside the block."""
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self.refresh()


@asynccontextmanager
async def following(locks: Locks | None) -> AsyncIterator[None]:
    """Follow the files of locks inside the block, if there are any."""
    if locks is None:
        yield
        return
    async with locks.following():
        yield


class _ConfigLoader:
    """Reads the file, and parses it only if it has changed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._content: bytes | None = None
        self._config = WebConfig()

    def __call__(self) -> WebConfig:
        """Return what the file says. Raises ConfigError."""
        try:
            content = read_regular(self._file, limit=LARGEST_FILE)
        except (OSError, ValueError) as err:
            accepted = f"a readable file ({why_unusable(err)})"
            raise ConfigError(SETTING, str(self._file), accepted) from err
        if content != self._content:
            config = web_config_of(self._file, content)
            for key in kinds_of_locks(self._config) - kinds_of_locks(config):
                accepted = "given, as it was: taking it away needs a restart"
                raise ConfigError(f"{SETTING}.{key}", "", accepted)
            self._config, self._content = config, content
        return self._config


def kinds_of_locks(config: WebConfig) -> frozenset[str]:
    """Return the keys that keep clients out."""
    tls = config.tls
    kinds = {
        "basic_auth_users": bool(config.users),
        "tls_server_config.client_auth_type": tls is not None
        and tls.client_auth_type is ClientAuth.REQUIRE_AND_VERIFY,
        "tls_server_config.client_allowed_sans": tls is not None and bool(tls.client_allowed_sans),
    }
    return frozenset(key for key, is_given in kinds.items() if is_given)


class _ContextLoader:
    """Makes the TLS context, a new one when the configuration or one of its files has changed."""

    def __init__(
        self, config: Callable[[], WebConfig | None], on_expiry: Callable[[float | None], None]
    ) -> None:
        self._config, self._on_expiry = config, on_expiry
        self._material: TlsMaterial | None = None
        self._context: ssl.SSLContext | None = None

    def __call__(self) -> ssl.SSLContext:
        """Return the context. Raises ConfigError."""
        config = self._config()
        if config is None and self._context is not None:
            return self._context
        if config is None or config.tls is None:
            accepted = "needed until the exporter starts again: its port speaks TLS"
            raise ConfigError(f"{SETTING}.tls_server_config", "", accepted)
        material = TlsMaterial(config.tls)
        if self._context is None or material != self._material:
            self._context, self._material = material.context(), material
            self._on_expiry(material.expires())
        return self._context
