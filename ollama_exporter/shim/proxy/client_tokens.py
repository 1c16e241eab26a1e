# SPDX-License-Identifier: Apache-2.0
"""Clients with a token each: a file of lines `name: token`. A token never leaves this file."""

import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ollama_exporter.errors import ConfigError
from ollama_exporter.files import read_regular
from ollama_exporter.metrics.client_labels import MOST_CLIENTS, is_client_name
from ollama_exporter.protocol.credential_files import BOM, MAX_BYTES
from ollama_exporter.watched_file import WatchedFile

TOKENS_FILE: Final = "proxy.client-tokens-file"


class ClientTokens:
    """The names of clients, each with its token. Immutable."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: tuple[tuple[str, bytes], ...] = ()) -> None:
        self._pairs = pairs

    def name_of(self, token: bytes) -> str | None:
        """Return whose token it is, or None.

        Each token is compared, in constant time, so that the time tells neither token nor name.
        """
        found = None
        for name, own in self._pairs:
            if hmac.compare_digest(own, token):
                found = name
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClientTokens) and self._pairs == other._pairs

    __hash__ = None  # type: ignore[assignment]  # compared, never a key

    def __repr__(self) -> str:
        return f"ClientTokens({', '.join(name for name, _ in self._pairs)})"


def watched_client_tokens(
    file: Path | None, *, now: Callable[[], float], on_error: Callable[[str], None]
) -> WatchedFile[ClientTokens] | None:
    """Return tokens that follow their file; None without a file. Raises ConfigError."""
    if file is None:
        return None
    return WatchedFile(TOKENS_FILE, lambda: read_client_tokens(file), now=now, on_error=on_error)


def read_client_tokens(file: Path) -> ClientTokens:
    """Read the file. Raises ConfigError, whose text holds numbers of lines and no token."""
    try:
        content = read_regular(file, limit=MAX_BYTES).removeprefix(BOM).decode("ascii")
    except (OSError, ValueError) as err:  # ValueError: not ASCII, or a NUL in the path
        why = (err.strerror if isinstance(err, OSError) else "") or "not ASCII"
        accepted = f"a readable file of lines `name: token` in ASCII ({why})"
        raise ConfigError(TOKENS_FILE, str(file), accepted) from None
    pairs: dict[str, bytes] = {}
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, token = (part.strip() for part in line.partition(":"))
        if not is_client_name(name) or not token.isprintable() or not token or " " in token:
            accepted = f"a file of lines `name: token` (line {number} is none)"
            raise ConfigError(TOKENS_FILE, str(file), accepted)
        if name in pairs or token.encode() in pairs.values():
            accepted = f"a file that has each name and each token once (line {number} repeats one)"
            raise ConfigError(TOKENS_FILE, str(file), accepted)
        pairs[name] = token.encode()
    if not 1 <= len(pairs) <= MOST_CLIENTS:
        accepted = f"a file with one to {MOST_CLIENTS} lines `name: token`"
        raise ConfigError(TOKENS_FILE, str(file), accepted)
    return ClientTokens(tuple(pairs.items()))
