# SPDX-License-Identifier: Apache-2.0
"""Prints what CHANGELOG.md says of a version, if that is the version of the code.

python -m tools.release_notes [VERSION]: without one, of the code or of what is unreleased.
"""

import re
import sys
from pathlib import Path
from typing import Final

from ollama_exporter.version import __version__

CHANGELOG: Final = Path(__file__).parents[1] / "CHANGELOG.md"


def release_notes(changelog: str, version: str, code: str) -> str:
    """Return the section of a version.

    Raises ValueError if the code has another version or the section is missing or empty.
    """
    if version != code:
        raise ValueError(f"the code is {code}, not {version}: change ollama_exporter/version.py")
    found = section(changelog, version)
    if not found:
        raise ValueError(f"CHANGELOG.md has no section [{version}]: rename [Unreleased] to it")
    return found


def section(changelog: str, version: str) -> str:
    """Return the text below `## [version]`; empty if there is none."""
    head = rf"^## \[{re.escape(version)}\].*$"
    parts = re.split(head, changelog, maxsplit=1, flags=re.MULTILINE)
    if len(parts) == 1:
        return ""
    return re.split(r"^## \[", parts[1], maxsplit=1, flags=re.MULTILINE)[0].strip()


def main(arguments: list[str]) -> int:
    """Print the notes; return the exit code."""
    changelog = CHANGELOG.read_text("utf-8")
    try:
        notes = (
            release_notes(changelog, arguments[0], __version__)
            if arguments
            else section(changelog, __version__) or section(changelog, "Unreleased")
        )
    except ValueError as err:
        sys.stderr.write(f"release: {err}\n")
        return 1
    sys.stdout.write(notes + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
