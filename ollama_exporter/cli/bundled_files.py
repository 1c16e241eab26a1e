# SPDX-License-Identifier: Apache-2.0
"""The dashboards, rules and runbooks that come with the package, and writing them where wanted.

An installed package carries them in itself; a checkout keeps them where people look for them, and
so does an editable installation.
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
        raise BundleError(f"no {kind} came with this installation: {folder}")
    return files


def write(kind: Kind, into: Path, *, force: bool) -> list[Path]:
    """Write the files of a kind into a folder; return where they are. Raises BundleError."""
    contents = {into / file.name: file.read_bytes() for file in bundled(kind)}
    return write_all(contents, force=force)


def write_all(contents: Mapping[Path, bytes], *, force: bool) -> list[Path]:
    """Write files, and make their folders; return where they are.

    A file that is there and differs may be somebody's work: it is replaced only by `force`, and
    without it nothing is written at all. Raises BundleError.
    """
    try:
        there = [file for file in contents if file.exists()]
        changed = [file for file in there if file.read_bytes() != contents[file]]
        if changed and not force:
            names = ", ".join(str(file) for file in changed)
            raise BundleError(f"{names}: there and changed; --force replaces")
        for file, content in contents.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    except OSError as err:
        raise BundleError(f"{str(err.filename)!r} cannot be written: {err.strerror}") from err
    return list(contents)
