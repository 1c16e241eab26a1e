# SPDX-License-Identifier: Apache-2.0
"""Reads a configuration file: a YAML mapping in which no key is given twice.

PyYAML takes 10 ms to import, so it waits until there is YAML to read.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from ollama_exporter.errors import ConfigFileError
from ollama_exporter.files import read_regular, why_unusable

LARGEST_FILE: Final = 1 << 20


def read_yaml(file: Path) -> dict[object, object]:
    """Return the mapping in a YAML file; empty if it holds comments alone.

    Raises ConfigFileError.
    """
    return mapping_of(file, read_document(file))


def mapping_of(file: Path, loaded: object) -> dict[object, object]:
    """Return what a file holds if it is a mapping; empty for None. Raises ConfigFileError."""
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigFileError(file, "not a YAML mapping; write one setting a line, NAME: VALUE")
    return loaded


def read_document(file: Path) -> object:
    """Return what a YAML file holds, None if it holds comments alone. Raises ConfigFileError.

    A file that ends in .json is read as JSON, a hundred times as fast.
    """
    try:
        content = read_regular(file, limit=LARGEST_FILE)
    except OSError as err:
        raise ConfigFileError(file, why_unusable(err).lower()) from err
    return parse_document(file, content)


def parse_document(file: Path, content: bytes) -> object:
    """Return what the content of a file holds, as `read_document`. Raises ConfigFileError."""
    if file.suffix.lower() == ".json":
        return _parse_json(file, content)
    from ollama_exporter.config.yaml_loader import parse_yaml  # noqa: PLC0415 - as said above

    return parse_yaml(file, content)


def _parse_json(file: Path, content: bytes) -> object:
    try:
        loaded: object = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise ConfigFileError(file, f"not JSON: {err}") from err
    return loaded


def section_of(lines: Iterable[str]) -> object:
    """Return the value that lines of YAML of our own stand for."""
    from ollama_exporter.config.yaml_loader import load_yaml  # noqa: PLC0415 - as said above

    return load_yaml("\n".join(lines))
