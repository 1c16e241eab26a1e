# SPDX-License-Identifier: Apache-2.0
"""Reads a configuration file: a YAML mapping in which no key is given twice."""

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from ollama_exporter.errors import ConfigFileError
from ollama_exporter.files import read_regular, why_unusable

LARGEST_FILE: Final = 1 << 20


class _UniqueKeys(yaml.SafeLoader):
    """Rejects a key that a mapping holds twice. YAML forbids it; PyYAML keeps the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        """Build a mapping."""
        seen = set[tuple[str, str]]()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if (key.tag, key.value) in seen:
                problem = f"the key {key.value!r} is given twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep=deep)


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
    try:
        loaded: object = yaml.load(content, _UniqueKeys)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as err:
        mark, problem = err.problem_mark, err.problem or "not YAML"
        where = "" if mark is None else f"line {mark.line + 1}: "
        raise ConfigFileError(file, f"{where}{problem}") from err
    except RecursionError as err:
        raise ConfigFileError(file, "not YAML: nested too deeply") from err
    except Exception as err:  # PyYAML's constructors raise what Python raises: `!!bool x`, KeyError
        problem = str(err) if isinstance(err, yaml.YAMLError) else "a value does not fit its tag"
        raise ConfigFileError(file, f"not YAML: {' '.join(problem.split())}") from err
    return loaded


def _parse_json(file: Path, content: bytes) -> object:
    try:
        loaded: object = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise ConfigFileError(file, f"not JSON: {err}") from err
    return loaded


def section_of(lines: Iterable[str]) -> object:
    """Return the value that lines of YAML of our own stand for."""
    return yaml.load("\n".join(lines), _UniqueKeys)  # noqa: S506 - a SafeLoader
