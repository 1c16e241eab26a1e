# SPDX-License-Identifier: Apache-2.0
"""PyYAML's safe loader, for mappings in which no key is given twice."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ollama_exporter.config.parsers import HALF_A_PAIR
from ollama_exporter.errors import ConfigFileError


class _UniqueKeys(yaml.SafeLoader):
    """Rejects a key that a mapping holds twice, and half of a surrogate pair.

    YAML forbids the former; PyYAML keeps the last one. The latter is no character.
    """

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

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:  # noqa: ANN401 - PyYAML's signature
        """Return the text of a scalar."""
        written = super().construct_scalar(node)
        if HALF_A_PAIR.search(written):
            problem = "half of a surrogate pair is no character"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return written


def load_yaml(content: bytes | str) -> object:
    """Return what a document holds. Raises what PyYAML raises."""
    loaded: object = yaml.load(content, _UniqueKeys)  # noqa: S506 - a SafeLoader
    return loaded


def parse_yaml(file: Path, content: bytes) -> object:
    """Return what the content of a file holds. Raises ConfigFileError."""
    try:
        return load_yaml(content)
    except yaml.MarkedYAMLError as err:
        mark, problem = err.problem_mark, err.problem or "not YAML"
        where = "" if mark is None else f"line {mark.line + 1}: "
        raise ConfigFileError(file, f"{where}{problem}") from err
    except RecursionError as err:
        raise ConfigFileError(file, "not YAML: nested too deeply") from err
    except Exception as err:  # PyYAML's constructors raise what Python raises: `!!bool x`, KeyError
        problem = str(err) if isinstance(err, yaml.YAMLError) else "a value does not fit its tag"
        raise ConfigFileError(file, f"not YAML: {' '.join(problem.split())}") from err
