# SPDX-License-Identifier: Apache-2.0
"""Gathers the pages of the documentation site: docs/, and what its pages link to outside of it.

python -m tools.site FOLDER: the folder is what mkdocs.yml calls `docs_dir`.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
LINK: Final = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")
REFERENCE: Final = re.compile(r"^(\[[^\]]+\]): (\S+)$", re.MULTILINE)
SOURCE: Final = re.compile(r'((?:src|srcset)=")([^"]+)"')
OUTSIDE: Final = "project"  # the folder of the site for what is not in docs/


def place(file: Path) -> PurePosixPath:
    """Return where a file of the project stands on the site."""
    if file.is_relative_to(DOCS):
        return PurePosixPath(file.relative_to(DOCS).as_posix())
    return PurePosixPath(OUTSIDE, file.relative_to(ROOT).as_posix())


def gather(folder: Path) -> int:
    """Write the pages and files of the site to a folder; return how many."""
    waiting = sorted(file for file in DOCS.rglob("*") if file.is_file())
    done: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file in done:
            continue
        done.add(file)
        target = folder / place(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            text = file.read_text("utf-8")
            waiting += linked(text, file)
            target.write_text(moved(text, file), "utf-8")
        else:
            shutil.copyfile(file, target)
    return len(done)


def linked(text: str, page: Path) -> Iterator[Path]:
    """Yield the files of the project that a page links to."""
    for target in _targets(text):
        file = _file(target, page)
        if file is not None and file.is_file():
            yield file


def moved(text: str, page: Path) -> str:
    """Return a page with the links that are right on the site. A link to a folder becomes text."""
    here = place(page).parent

    def on_site(target: str) -> str | None:
        file = _file(target, page)
        if file is None:
            return target
        if not file.is_file():
            return None
        anchor = target[target.index("#") :] if "#" in target else ""
        return os.path.relpath(place(file), here) + anchor

    def link(found: re.Match[str]) -> str:
        target = on_site(found[2])
        label = found[1].removeprefix("!")[1:-1]
        return label if target is None else f"{found[1]}({target})"

    text = LINK.sub(link, text)
    text = REFERENCE.sub(lambda found: f"{found[1]}: {on_site(found[2]) or found[2]}", text)
    return SOURCE.sub(lambda found: f'{found[1]}{on_site(found[2]) or found[2]}"', text)


def _targets(text: str) -> Iterator[str]:
    for pattern in (LINK, REFERENCE, SOURCE):
        for found in pattern.finditer(text):
            yield found[2]


def _file(target: str, page: Path) -> Path | None:
    """Return the file or folder of the project that a link means; None: it leads elsewhere."""
    path = target.partition("#")[0]
    if not path or re.match(r"[a-z]+:|/", path):
        return None
    found = (page.parent / path).resolve()
    return found if found.is_relative_to(ROOT) and found.exists() else None


if __name__ == "__main__":
    gathered = gather(Path(sys.argv[1]))
    sys.stdout.write(f"site: {gathered} pages and files\n")
