# SPDX-License-Identifier: Apache-2.0
"""Our YAML files, each read once: the rules and their tests take a second in pure Python."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml


@cache
def load_yaml(file: Path) -> Any:
    """Return what a file of ours holds. All callers get the same object: change nothing in it."""
    return yaml.load(file.read_bytes(), yaml.CSafeLoader)
