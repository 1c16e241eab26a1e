# SPDX-License-Identifier: Apache-2.0
"""The header fields that a server asks for: token, basic authentication, fields of a gateway."""

import base64
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import Struct

from ollama_exporter.config.parsers import FIELD_VALUE
from ollama_exporter.config.target import BasicAuth, Target
from ollama_exporter.errors import ConfigError
from ollama_exporter.protocol.credential_files import read_secret, read_token
from ollama_exporter.watched_file import WatchedFile, not_counted

Field = tuple[str, str]
AUTHORIZATION: Final = "authorization"


class FileField(Struct, frozen=True):
    """A header field whose value is read from a file."""

    setting: str  # the one that names the file
    name: str
    read: Callable[[], str]  # raises ConfigError

    def field(self) -> Field:
        """Read the file. Raises ConfigError."""
        return self.name, self.read()


def static_fields(target: Target) -> tuple[Field, ...]:
    """Return the fields whose values the configuration holds."""
    return tuple((each.name, each.value) for each in target.headers if each.file is None)


def file_fields(target: Target) -> tuple[FileField, ...]:
    """Return the fields whose values are in files. Raises ConfigError for two of one name."""
    found = []
    if target.token_file is not None:
        setting = target.setting("bearer-token-file")
        read = partial(_bearer, target.token_file, setting)
        found.append(FileField(setting, AUTHORIZATION, read))
    if target.basic_auth is not None:
        setting = target.setting("basic-auth.password-file")
        found.append(FileField(setting, AUTHORIZATION, partial(_basic, target.basic_auth, setting)))
    setting = target.setting("headers.file")
    found += [
        FileField(setting, each.name, partial(_value, each.file, setting))
        for each in target.headers
        if each.file is not None
    ]
    names = [name.lower() for name, _ in static_fields(target)] + [x.name.lower() for x in found]
    for name in names:
        if names.count(name) > 1:
            place = target.setting("headers")
            raise ConfigError(place, name, "give each field once, a token or a password too")
    return tuple(found)


def _bearer(file: Path, setting: str) -> str:
    return f"Bearer {read_token(file, field=setting)}"


def _basic(auth: BasicAuth, setting: str) -> str:
    pair = f"{auth.user}:{read_secret(auth.password_file, field=setting)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _value(file: Path, setting: str) -> str:
    value = read_secret(file, field=setting).strip()
    if not FIELD_VALUE.fullmatch(value):
        raise ConfigError(setting, str(file), "accepted: a file with one line of visible ASCII")
    return value


class ServerCredentials:
    """The fields for one server. Files are read again for each request."""

    def __init__(
        self,
        target: Target,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        on_file_error: Callable[[str], None] = not_counted,
    ) -> None:
        """Raise ConfigError if a file cannot be used.

        `on_file_error` counts failed reads by setting.
        """
        self._static = dict(static_fields(target))
        self._files = [
            (each.name, WatchedFile(each.setting, each.read, now=monotonic, on_error=on_file_error))
            for each in file_fields(target)
        ]

    def fields(self) -> dict[str, str]:
        """Return the fields. One whose file has become unusable is left out after a while."""
        if not self._files:
            return self._static
        read = ((name, file.reread()) for name, file in self._files)
        return self._static | {name: value for name, value in read if value}
