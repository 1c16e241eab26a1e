# SPDX-License-Identifier: Apache-2.0
"""Hashes in place of model names, for those who may not show which models they use.

The same name has the same hash in all processes with the same key, so series outlive a restart and
add up over a fleet. Without a key, whoever guesses a name can compute its hash.
"""

import hashlib
import hmac
from pathlib import Path
from typing import Final

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.errors import ConfigError
from ollama_exporter.metrics.labels import OTHER
from ollama_exporter.protocol.credential_files import read_secret

SETTING: Final = "metrics.hide-models"
HASH: Final = "hash"
OFF: Final = "off"
KEY_FILE: Final = "metrics.hide-models-key-file"
PREFIX: Final = "model-"
DIGITS: Final = 12  # hexadecimal; two of a thousand names collide once in half a billion cases
REMEMBERED: Final = 4096


class HiddenNames:
    """Replaces names. `key`: of the hash; empty: anybody can compute it."""

    def __init__(self, key: bytes = b"") -> None:
        self._key = key
        self._known: BoundedDict[str, str] = BoundedDict(REMEMBERED)

    def __call__(self, name: str) -> str:
        """Return what stands for a name. No name, and the label of many, stay as they are."""
        if name in {"", OTHER}:
            return name
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = PREFIX + self.digest(name)
        return found

    def digest(self, text: str) -> str:
        """Return the hash of a text."""
        written = text.encode("utf-8", "surrogatepass")
        return hmac.new(self._key, written, hashlib.sha256).hexdigest()[:DIGITS]


def hidden_names(mode: str, key_file: Path | None) -> HiddenNames | None:
    """Return what hides names; None: they are shown. Raises ConfigError."""
    if mode == HASH:
        key = "" if key_file is None else read_secret(key_file, field=KEY_FILE)
        return HiddenNames(key.encode())
    if key_file is not None:
        raise ConfigError(KEY_FILE, str(key_file), f"set it together with {SETTING}={HASH}")
    return None
