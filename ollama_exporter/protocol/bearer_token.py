# SPDX-License-Identifier: Apache-2.0
"""Credentials in files. One that is rotated or revoked takes effect without a restart."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ollama_exporter.errors import ConfigError
from ollama_exporter.files import read_regular
from ollama_exporter.watched_file import GRACE

MAX_BYTES: Final = 64 << 10
BOM: Final = b"\xef\xbb\xbf"  # Windows' editors write it
logger = logging.getLogger(__name__)


def not_counted(_setting: str) -> None:
    """Count nothing: for commands, which have no metrics."""


def read_token(file: Path | None, *, field: str = "ollama.token-file") -> str:
    """Read a bearer token; without a file it is empty. Raises ConfigError."""
    if file is None:
        return ""
    try:
        content = read_regular(file, limit=MAX_BYTES).removeprefix(BOM)
        token = content.decode("ascii").strip()
    except (OSError, UnicodeError) as err:
        why = err.strerror if isinstance(err, OSError) else "not ASCII"
        accepted = f"a readable file with a token in ASCII ({why})"
        raise ConfigError(field, str(file), accepted) from err
    if not token or not token.isprintable() or " " in token:
        raise ConfigError(field, str(file), "a file with one token on one line")
    return token


def read_secret(file: Path, *, field: str) -> str:
    """Read a password or another text on one line. Raises ConfigError."""
    try:
        content = read_regular(file, limit=MAX_BYTES).removeprefix(BOM)
        secret = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeError) as err:
        why = err.strerror if isinstance(err, OSError) else "not UTF-8"
        raise ConfigError(field, str(file), f"a readable file with one line ({why})") from err
    except ValueError as err:  # a NUL in the path
        raise ConfigError(field, str(file), "a readable file with one line") from err
    if not secret.isprintable() or not secret:
        raise ConfigError(field, str(file), "a file with one line of text")
    return secret


class CredentialFile:
    """The credential in a file, read again each time it is needed.

    A file without a usable one is logged at once. `GRACE` seconds later the last one is void.
    """

    def __init__(
        self,
        read: Callable[[], str],
        *,
        field: str,
        monotonic: Callable[[], float],
        on_error: Callable[[str], None] = not_counted,
    ) -> None:
        """`read` raises ConfigError, here too, if the file holds no credential.

        `on_error` counts failed reads by setting.
        """
        self._on_error = on_error
        self._read, self._field, self._monotonic = read, field, monotonic
        self._token = read()
        self._failing_since: float | None = None

    def current(self) -> str:
        """Return the credential; empty if it is void."""
        values: dict[str, object] = {"setting": self._field}
        try:
            token = self._read()
        except ConfigError as err:
            self._on_error(self._field)
            now = self._monotonic()
            if self._failing_since is None:
                self._failing_since = now
                values |= {"err": str(err), "old_one_valid": f"{GRACE:g}s"}
                logger.warning("Credential file cannot be used", extra=values)
            elif self._token and now - self._failing_since >= GRACE:
                self._token = ""
                logger.warning("Credential is void: its file cannot be used", extra=values)
            return self._token
        if token != self._token or self._failing_since is not None:
            logger.info("Credential read again", extra=values)
        self._token, self._failing_since = token, None
        return token
