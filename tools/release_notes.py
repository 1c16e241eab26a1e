# SPDX-License-Identifier: Apache-2.0
"""Prints what CHANGELOG.md says of the code's version, or of what is unreleased."""

import re
import sys
from pathlib import Path
from typing import Final

from ollama_exporter.version import __version__

CHANGELOG: Final = Path(__file__).parents[1] / "CHANGELOG.md"


def section(changelog: str, version: str) -> str:
    """Return the text below `## [version]`; empty if there is none."""
    head = rf"^## \[{re.escape(version)}\].*$"
    parts = re.split(head, changelog, maxsplit=1, flags=re.MULTILINE)
    if len(parts) == 1:
        return ""
    return re.split(r"^## \[", parts[1], maxsplit=1, flags=re.MULTILINE)[0].strip()


if __name__ == "__main__":
    text = CHANGELOG.read_text("utf-8")
    sys.stdout.write((section(text, __version__) or section(text, "Unreleased")) + "\n")
