# SPDX-License-Identifier: Apache-2.0
"""Checks, builds, verifies and tags a release: `make release VERSION=1.2.3`.

It changes no file of the project: what is tagged is what was reviewed and tested. It publishes
nothing either. Whoever pushes the tag does that; the workflow for releases then runs the same
command, finds the tag at its commit, and has nothing left to make.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.release_contents import faults
from tools.release_notes import section
from tools.release_version import CODE, PLACES, numbers, versions

ROOT: Final = Path(__file__).parents[1]
BRANCH: Final = "main"
FOLDER: Final = "dist"
UNPUBLISHED: Final = {  # what files say until there has been a release
    "pyproject.toml": "ollama-exporter.example",
    "README.md": "not on PyPI yet",
    "deploy/packages/build": "ollama-exporter@localhost",
    "deploy/packages/nfpm.yaml": "ollama-exporter@localhost",
}


@dataclass(frozen=True, slots=True)
class Checkout:
    """What git and the files say before a release is built."""

    said: Mapping[str, Sequence[str]]  # file -> the versions in it
    changelog: str
    unpublished: Mapping[str, str]  # file -> what it says until there has been a release
    changed: Sequence[str]  # files that differ from the commit, or that git does not know
    commit: str
    is_on_main: bool
    tagged: str | None  # the commit of the version's tag, if there is one


def tag_of(version: str) -> str:
    """Return the name of a version's tag."""
    return f"v{version}"


def refusals(checkout: Checkout, version: str) -> list[str]:
    """Return why a version must not be released from a checkout: nothing, if it may be."""
    try:
        numbers(version)
    except ValueError as err:
        return [str(err)]
    found = [
        f"{name} says {', '.join(said) or 'nothing'}, not {version}"
        for name, said in checkout.said.items()
        if set(said) != {version}
    ]
    if not section(checkout.changelog, version):
        found.append(f"CHANGELOG.md has no section [{version}]")
    if section(checkout.changelog, "Unreleased"):
        found.append("CHANGELOG.md has lines under [Unreleased]")
    if found:
        found.append(f"so run `make release-prepare VERSION={version}` and commit what it changes")
    found += [
        f"{name} says {words!r}, which must not be published (docs/releasing.md)"
        for name, words in checkout.unpublished.items()
    ]
    if checkout.changed:
        found.append(f"not committed: {', '.join(checkout.changed)}")
    if not checkout.is_on_main:
        found.append(f"{checkout.commit[:12]} is not on {BRANCH}")
    if checkout.tagged not in (None, checkout.commit):
        found.append(f"{tag_of(version)} is the tag of {str(checkout.tagged)[:12]} already")
    return found


def look(root: Path, version: str) -> Checkout:
    """Return what git and the files say. Raises CalledProcessError if it is no checkout."""
    return Checkout(
        said={name: versions((root / name).read_text("utf-8"), PLACES[name]) for name in PLACES},
        changelog=(root / "CHANGELOG.md").read_text("utf-8"),
        unpublished={
            name: words
            for name, words in UNPUBLISHED.items()
            if words in (root / name).read_text("utf-8")
        },
        changed=[line[3:] for line in git(root, "status", "--porcelain").splitlines()],
        commit=git(root, "rev-parse", "HEAD").strip(),
        is_on_main=any(
            _succeeds(root, "merge-base", "--is-ancestor", "HEAD", name)
            for name in (BRANCH, f"origin/{BRANCH}")
        ),
        tagged=_commit(root, tag_of(version)),
    )


def git(root: Path, *arguments: str, given: str | None = None) -> str:
    """Return what git prints. Raises CalledProcessError."""
    done = subprocess.run(  # noqa: S603 - our own arguments
        ["git", *arguments],  # noqa: S607 - the git that made the checkout
        cwd=root,
        input=given,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def _succeeds(root: Path, *arguments: str) -> bool:
    try:
        git(root, *arguments)
    except subprocess.CalledProcessError:
        return False
    return True


def _commit(root: Path, tag: str) -> str | None:
    try:
        return git(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}").strip()
    except subprocess.CalledProcessError:
        return None


def release(root: Path, version: str, *, build: Callable[[], None], dry_run: bool) -> int:
    """Check, build, verify and tag; return the exit code.

    A dry run makes no tag, and goes on where a release stops, so that it finds everything at once.
    """
    before = look(root, version)
    found = refusals(before, version)
    _report(found)
    if found and not dry_run:
        return 1
    build()
    built = before.said[CODE][0]  # in a dry run perhaps not the version that was asked for
    wrong = faults(root / FOLDER, built, before.commit)
    after = look(root, version)
    if (after.commit, after.changed) != (before.commit, before.changed):
        wrong.append("the checkout changed while it was built")
    _report(wrong)
    if found or wrong:
        return 1
    tag = tag_of(version)
    if dry_run:
        _say(f"a release would tag {before.commit[:12]} as {tag} now")
    elif before.tagged:
        _say(f"{tag} is the tag of this commit already")
    else:
        notes = f"{version}\n\n{section(before.changelog, version)}\n"
        # Verbatim: git would take the notes' headings for comments.
        git(root, "tag", "--annotate", "--cleanup=verbatim", "--file=-", tag, given=notes)
        _say(f"tagged {before.commit[:12]}; to publish it: git push origin {BRANCH} {tag}")
    return 0


def _report(found: Sequence[str]) -> None:
    sys.stderr.write("".join(f"release: {each}\n" for each in found))


def _say(text: str) -> None:
    sys.stdout.write(f"release: {text}\n")


def main(arguments: list[str]) -> int:
    """Release by the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__)
    parser.add_argument("version")
    parser.add_argument("--dry-run", action="store_true", help="do everything but the tag")
    parser.add_argument("build", nargs="+", help="the command that fills dist/ and checks it")
    given = parser.parse_args(arguments)
    try:
        return release(
            ROOT,
            given.version,
            build=lambda: _run(given.build),
            dry_run=given.dry_run,
        )
    except subprocess.CalledProcessError as err:
        _report([f"{' '.join(err.cmd)} failed: {(err.stderr or '').strip() or 'see above'}"])
        return 1


def _run(command: list[str]) -> None:
    subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603 - the Makefile's


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
