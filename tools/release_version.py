# SPDX-License-Identifier: Apache-2.0
"""Where the version stands, and how a commit becomes the one that is released.

`make release-prepare VERSION=1.2.3` writes the version and moves the changelog; the change is
committed and reviewed like any other. `make release` changes no file.
"""

import re
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from tools.release_notes import section

ROOT: Final = Path(__file__).parents[1]
CODE: Final = "ollama_exporter/version.py"  # the wheel's, by pyproject.toml; the others repeat it
# Each group of a pattern is a version.
PLACES: Final = {
    CODE: r'^__version__ = "(.+)"$',
    "Dockerfile": r"^ARG VERSION=(\S+)$",
    "deploy/helm/ollama-exporter/Chart.yaml": r"^(?:version|appVersion): (\S+)$",
    "deploy/helm/ollama-exporter/README.md": r"REGISTRY/ollama-exporter:(\S+)",
    "deploy/kustomize/base/exporter.yaml": r"image: ollama-exporter:(\S+)$",
    "docs/tutorials/sre.md": r"REGISTRY/ollama-exporter:(\S+)",
    "deploy/kustomize/base/kustomization.yaml": r"newTag: ([^}\s]+)",
}
VERSION: Final = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
UNRELEASED: Final = "## [Unreleased]\n"


def versions(text: str, pattern: str) -> list[str]:
    """Return the versions that a file names."""
    return [found[1] for found in re.finditer(pattern, text, re.MULTILINE)]


def with_version(text: str, pattern: str, version: str) -> str:
    """Return the text of a file with another version."""

    def replaced(found: re.Match[str]) -> str:
        start, end = (place - found.start() for place in found.span(1))
        return f"{found[0][:start]}{version}{found[0][end:]}"

    return re.sub(pattern, replaced, text, flags=re.MULTILINE)


def numbers(version: str) -> tuple[int, ...]:
    """Return a version as numbers that can be compared.

    Raises ValueError if it is not of the form 1.2.3.
    """
    if VERSION.fullmatch(version) is None:
        raise ValueError(f"{version or 'nothing'} is not a version such as 1.2.3")
    return tuple(map(int, version.split(".")))


def moved(changelog: str, version: str, day: date) -> str:
    """Return the changelog with what is unreleased under a version and its day.

    Raises ValueError if nothing is unreleased, or the version has a section already.
    """
    if section(changelog, version):
        raise ValueError(f"CHANGELOG.md has a section [{version}] already")
    if not section(changelog, "Unreleased"):
        raise ValueError("CHANGELOG.md has nothing under [Unreleased]")
    return changelog.replace(UNRELEASED, f"{UNRELEASED}\n## [{version}] - {day}\n", 1)


def prepare(root: Path, version: str, day: date) -> list[str]:
    """Write the version and the changelog; return the changed files.

    Raises ValueError, before anything is written, if the version or the changelog does not fit.
    """
    code = (root / CODE).read_text("utf-8")
    (now,) = versions(code, PLACES[CODE])
    if numbers(version) < numbers(now):
        raise ValueError(f"{version} is older than {now} in {CODE}")
    texts = {"CHANGELOG.md": moved((root / "CHANGELOG.md").read_text("utf-8"), version, day)}
    for name, pattern in PLACES.items():
        texts[name] = with_version((root / name).read_text("utf-8"), pattern, version)
    for name, text in texts.items():
        (root / name).write_text(text, "utf-8")
    return sorted(texts)


def main(arguments: list[str]) -> int:
    """Prepare a release; return the exit code."""
    try:
        changed = prepare(ROOT, arguments[0] if arguments else "", datetime.now(UTC).date())
    except ValueError as err:
        sys.stderr.write(f"release-prepare: {err}\n")
        return 1
    sys.stdout.write("".join(f"{name}\n" for name in changed))
    sys.stdout.write("Read the section in CHANGELOG.md, commit, and run: make release VERSION=…\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
