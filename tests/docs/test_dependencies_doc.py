# SPDX-License-Identifier: Apache-2.0
"""The list of libraries: what pyproject.toml asks for, what comes with it, and their licences."""

import re
import tomllib
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import ROOT

PAGE: Final = (ROOT / "docs/dependencies.md").read_text("utf-8")
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
ASKED: Final = {
    canonicalize_name(each.name): each
    for each in map(
        Requirement, [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["fast"]]
    )
}
FAMILIES: Final = re.compile(
    r"Apache|BSD|ISC|\bL?GPL|MIT|MPL|Mozilla|PSF|Python Software Foundation|Lesser"
)
NAMES: Final = {"Lesser": "LGPL", "Mozilla": "MPL", "Python Software Foundation": "PSF"}
COPYLEFT: Final = {"GPL", "LGPL"}  # of tools alone


def table(head: str) -> dict[str, list[str]]:
    """Return the rows of the table that begins so, by the library's name."""
    body = PAGE.partition(f"\n{head}\n")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines()[1:]]
    assert rows, f"no table {head!r}"
    return {canonicalize_name(row[0]): row[1:] for row in rows}


LISTED: Final = table("| library | versions | licence | what for |")
BROUGHT: Final = table("| library | licence | needed by |")
LICENCES: Final = {
    **{name: row[1] for name, row in LISTED.items()},
    **{name: row[0] for name, row in BROUGHT.items()},
}


def families(text: str) -> set[str]:
    return {NAMES.get(each, each) for each in FAMILIES.findall(text)}


def said(library: Distribution) -> str:
    """Return what a library's metadata say of its licence."""
    metadata = library.metadata
    for field in ("License-Expression", "Classifier", "License"):
        texts = metadata.get_all(field) or []
        kinds = [text[:80] for text in texts if field != "Classifier" or text.startswith("License")]
        if kinds:
            return " ".join(kinds)
    return ""


def needed() -> dict[str, Distribution]:
    """Return every library that an installation on this machine has because of us."""
    found: dict[str, Distribution] = {}
    waiting = list(ASKED.values())
    while waiting:
        each = waiting.pop()
        name = canonicalize_name(each.name)
        if name in found or (each.marker is not None and not each.marker.evaluate({"extra": ""})):
            continue
        found[name] = distribution(name)
        waiting += map(Requirement, found[name].requires or ())
    return found


def test_the_first_table_is_what_the_project_asks_for() -> None:
    wanted = {name: str(each.specifier) for name, each in ASKED.items()}
    # A specifier's parts have no order.
    assert {name: {*row[0].split(",")} for name, row in LISTED.items()} == {
        name: {*specifier.split(",")} for name, specifier in wanted.items()
    }


def test_what_comes_with_it_is_listed_too() -> None:
    assert needed().keys() - LICENCES.keys() == set()
    assert len(needed()) > 15


def test_every_licence_is_as_its_library_says_and_one_that_the_policy_allows() -> None:
    wrong = {
        name: (LICENCES[name], said(library))
        for name, library in needed().items()
        if families(said(library)) != families(LICENCES[name])
    }
    assert wrong == {}
    assert [name for name, text in LICENCES.items() if not families(text) - COPYLEFT] == []


def test_every_tool_is_listed_with_its_licence() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    asked = {
        canonicalize_name(Requirement(each).name)
        for group in groups.values()
        for each in group
        if isinstance(each, str)
    }
    bullets = re.findall(
        r"^\* ([^:]+): ((?:.|\n  )+)$",
        PAGE.partition("## Tools")[2].partition("\n## ")[0],
        re.MULTILINE,
    )
    listed = {
        canonicalize_name(name): licence
        for licence, names in bullets
        for name in re.split(r",\s+", names)
    }
    assert listed.keys() == asked
    wrong = {}
    for name, licence in listed.items():
        with suppress(PackageNotFoundError):  # of a group that is not installed here
            found = families(said(distribution(name)))
            if found and found != families(licence):  # some say it only in a file
                wrong[name] = (licence, found)
    assert wrong == {}
