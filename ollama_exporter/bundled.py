# SPDX-License-Identifier: Apache-2.0
"""The dashboards and rules that come with the package, and writing them where they are wanted.

An installed package carries them in itself; a checkout keeps them in `dashboards/`, and so does an
editable installation.
"""

from pathlib import Path
from typing import Final, Literal

from ollama_exporter.errors import BundleError

INSTALLED: Final = Path(__file__).parent / "shipped"
CHECKOUT: Final = Path(__file__).parents[1] / "dashboards"
Kind = Literal["rules", "grafana"]
SUFFIX: Final[dict[Kind, str]] = {"rules": ".yaml", "grafana": ".json"}


def bundled(kind: Kind) -> list[Path]:
    """Return the files of a kind, by name. Raises BundleError where this installation has none."""
    root = INSTALLED if INSTALLED.is_dir() else CHECKOUT
    files = sorted((root / kind).glob(f"*{SUFFIX[kind]}"))
    if not files:
        raise BundleError(f"no files of {kind} came with this installation: {root / kind}")
    return files


def write(kind: Kind, into: Path, *, force: bool) -> list[Path]:
    """Write the files of a kind into a folder, which is made; return where they are.

    A file that is there and differs may be somebody's work: it is replaced only by `force`, and
    without it nothing is written at all. Raises BundleError.
    """
    contents = {into / file.name: file.read_bytes() for file in bundled(kind)}
    try:
        into.mkdir(parents=True, exist_ok=True)
        there = [file for file in contents if file.exists()]
        changed = [file for file in there if file.read_bytes() != contents[file]]
        if changed and not force:
            names = ", ".join(str(file) for file in changed)
            raise BundleError(f"{names}: there and changed; --force replaces")
        for file, content in contents.items():
            file.write_bytes(content)
    except OSError as err:
        raise BundleError(f"DIR: {str(err.filename or into)!r}: {err.strerror}") from err
    return list(contents)
