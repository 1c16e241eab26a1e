# SPDX-License-Identifier: Apache-2.0
"""Credentials in files. One that is rotated or revoked takes effect without a restart."""

from pathlib import Path
from typing import Final

from ollama_exporter.errors import ConfigError
from ollama_exporter.files import read_regular

MAX_BYTES: Final = 64 << 10
BOM: Final = b"\xef\xbb\xbf"  # Windows' editors write it


def read_token(file: Path, *, field: str) -> str:
    """Read a bearer token. Raises ConfigError."""
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
    if not secret.isprintable() or not secret:
        raise ConfigError(field, str(file), "a file with one line of text")
    return secret
