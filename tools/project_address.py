# SPDX-License-Identifier: Apache-2.0
"""Where the project can be reached, by pyproject.toml."""

import tomllib
from pathlib import Path
from typing import Final

PYPROJECT: Final = Path(__file__).parents[1] / "pyproject.toml"


def home(pyproject: Path = PYPROJECT) -> str:
    """Return the address of the documentation site, without a slash at the end."""
    return _url("Homepage", pyproject)


def repository(pyproject: Path = PYPROJECT) -> str:
    """Return the address of the repository, without a slash at the end."""
    return _url("Source", pyproject)


def _url(label: str, pyproject: Path) -> str:
    urls = tomllib.loads(pyproject.read_text("utf-8"))["project"]["urls"]
    return str(urls[label]).rstrip("/")
