# SPDX-License-Identifier: Apache-2.0
"""The dashboards, rules and runbooks of the package.

An installed package holds them itself. A checkout, also an editable installation, has them in
`dashboards/` and `docs/`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from ollama_exporter.errors import BundleError

PACKAGE: Final = Path(__file__).parents[1]
INSTALLED: Final = PACKAGE / "shipped"
CHECKOUT: Final = PACKAGE.parent
Kind = Literal["grafana", "rules", "runbooks"]
PLACES: Final[dict[Kind, tuple[str, str]]] = {  # in a checkout, and the pattern of their names
    "grafana": ("dashboards/grafana", "*.json"),
    "rules": ("dashboards/rules", "*.yaml"),
    "runbooks": ("docs/runbooks", "*.md"),
}


def bundled(kind: Kind, *, installed: Path = INSTALLED, checkout: Path = CHECKOUT) -> list[Path]:
    """Return the files of a kind, by name. Raises BundleError where this installation has none."""
    place, pattern = PLACES[kind]
    folder = installed / kind if installed.is_dir() else checkout / place
    files = sorted(folder.glob(pattern))
    if not files:
        raise BundleError(f"this installation has no {kind}: {folder} holds none")
    return files


def write_all(contents: Mapping[Path, bytes], *, force: bool) -> list[Path]:
    """Write files, and create their folders. Return their paths.

    A file that exists and differs may be somebody's work. Only `force` overwrites it; without,
    nothing is written at all. Raises BundleError.
    """
    at = Path()
    try:
        changed = []
        for at, content in contents.items():
            if at.exists() and at.read_bytes() != content:
                changed.append(str(at))
        if changed and not force:
            raise BundleError(f"{', '.join(changed)}: exists and was edited; --force overwrites it")
        for at, content in contents.items():
            at.parent.mkdir(parents=True, exist_ok=True)
            _write(at, content)
    except OSError as err:
        raise BundleError(f"{str(err.filename or at)!r} cannot be written: {err.strerror}") from err
    return list(contents)


def _write(file: Path, content: bytes) -> None:
    """Write a file. Where it was not before, nothing stays of one that could not be finished."""
    is_new = not file.exists()
    try:
        file.write_bytes(content)
    except OSError:
        if is_new:
            file.unlink(missing_ok=True)
        raise
