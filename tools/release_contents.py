# SPDX-License-Identifier: Apache-2.0
"""What a folder with the files of a release must hold."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.provenance import NAME as PROVENANCE
from tools.provenance import SUMS, digests, listed

BILL: Final = "sbom.json"


def expected(version: str) -> tuple[str, ...]:
    """Return the names of a version's files."""
    return (
        f"ollama_exporter-{version}-py3-none-any.whl",
        f"ollama_exporter-{version}.tar.gz",
        *(f"ollama-exporter_{version}-1_{each}.deb" for each in ("amd64", "arm64")),
        *(f"ollama-exporter-{version}-1.{each}.rpm" for each in ("x86_64", "aarch64")),
        f"ollama-exporter-{version}.tgz",
        "ollama-exporter.1",
        *(f"ollama-exporter.{each}" for each in ("bash", "fish", "zsh")),
        "NOTES.md",
        BILL,
        PROVENANCE,
        SUMS,
    )


def faults(folder: Path, version: str, commit: str) -> list[str]:
    """Return what is wrong with the files of a release: nothing, if it can be published."""
    names = {file.name for file in folder.iterdir()}
    wanted = set(expected(version))
    found = [f"{name} is missing" for name in sorted(wanted - names)]
    found += [f"{name} does not belong there" for name in sorted(names - wanted)]
    if not found:
        found += _sums(folder)
        found += _statement(folder, version, commit)
        found += _bill(folder, version)
    return found


def _sums(folder: Path) -> Iterator[str]:
    summed = dict(listed((folder / SUMS).read_text("utf-8")))
    real = digests(folder, but=(SUMS,))
    for name in sorted(summed.keys() | real.keys()):
        if summed.get(name) != real.get(name):
            yield f"{SUMS} is wrong about {name}"


def _statement(folder: Path, version: str, commit: str) -> Iterator[str]:
    said = json.loads((folder / PROVENANCE).read_text("utf-8"))
    subjects = {each["name"]: each["digest"]["sha256"] for each in said["subject"]}
    if subjects != digests(folder):
        yield f"{PROVENANCE} is about other files"
    made = said["predicate"]["buildDefinition"]
    if made["resolvedDependencies"][0]["digest"]["gitCommit"] != commit:
        yield f"{PROVENANCE} is of another commit"
    if made["externalParameters"]["command"] != f"make release VERSION={version}":
        yield f"{PROVENANCE} is of another version"


def _bill(folder: Path, version: str) -> Iterator[str]:
    said = json.loads((folder / BILL).read_text("utf-8"))
    root = said["metadata"]["component"]
    if (root["name"], root.get("version")) != ("ollama-exporter", version):
        yield f"{BILL} is of {root['name']} {root.get('version')}"
    for each in said["components"]:
        if not each.get("licenses"):
            yield f"{BILL} has no licence of {each['name']}"
