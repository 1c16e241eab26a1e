# SPDX-License-Identifier: Apache-2.0
"""`make release`: what it refuses, what it leaves behind, and what it says of the files."""

import json
import re
import shutil
from dataclasses import replace
from datetime import date
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import pytest

from ollama_exporter.version import __version__
from tests.docs.test_docs import anchors
from tests.support.paths import ROOT
from tools.provenance import builder_of, digests, purl, statement, write
from tools.release import UNPUBLISHED, Checkout, git, refusals, release
from tools.release_contents import expected, faults
from tools.release_notes import section
from tools.release_version import PLACES, moved, numbers, prepare, versions

CHANGELOG: Final = """# Changelog

## [Unreleased]

### Added
- New.

## [1.1.0] - 2026-11-01

### Added
- A thing.
"""
COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"
READY: Final = Checkout(
    said={"a": ["1.2.0"], "b": ["1.2.0", "1.2.0"]},
    changelog=CHANGELOG.replace(
        "## [Unreleased]\n", "## [Unreleased]\n\n## [1.2.0] - 2026-12-01\n"
    ),
    unpublished={},
    changed=[],
    commit=COMMIT,
    is_on_main=True,
    tagged=None,
)


def test_every_file_that_names_the_version_names_the_codes() -> None:
    for name, pattern in PLACES.items():
        assert set(versions((ROOT / name).read_text("utf-8"), pattern)) == {__version__}, name
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert section(changelog, __version__) or section(changelog, "Unreleased")


def test_a_checkout_that_is_ready_is_refused_nothing() -> None:
    assert refusals(READY, "1.2.0") == []
    assert refusals(replace(READY, tagged=COMMIT), "1.2.0") == []  # on a forge, and a second time


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"said": {"a": ["1.2.0"], "b": ["1.2.0", "1.1.0"]}}, "b says 1.2.0, 1.1.0, not 1.2.0"),
        ({"said": {"a": []}}, "a says nothing"),
        ({"changelog": "## [Unreleased]\n"}, "no section [1.2.0]"),
        ({"changelog": CHANGELOG + READY.changelog}, "lines under [Unreleased]"),
        ({"changelog": CHANGELOG}, "make release-prepare VERSION=1.2.0"),
        ({"unpublished": {"README.md": "not yet"}}, "README.md says 'not yet', which must not"),
        ({"changed": ["README.md"]}, "not committed: README.md"),
        ({"is_on_main": False}, "is not on main"),
        ({"tagged": COMMIT[::-1]}, "v1.2.0 is the tag of 76543210fedc already"),
    ],
)
def test_a_checkout_that_is_not_ready_is_refused(change: dict[str, Any], words: str) -> None:
    assert words in "\n".join(refusals(replace(READY, **change), "1.2.0"))


@pytest.mark.parametrize("version", ["", "1.2", "v1.2.0", "1.2.0rc1", "01.2.0", "1.2.0\n"])
def test_a_version_has_three_numbers(version: str) -> None:
    with pytest.raises(ValueError, match="is not a version such as"):
        numbers(version)
    assert len(refusals(READY, version)) == 1


def test_the_changelog_moves_under_the_version() -> None:
    after = moved(CHANGELOG, "1.2.0", date(2026, 12, 1))
    assert "## [Unreleased]\n\n## [1.2.0] - 2026-12-01\n\n### Added\n- New.\n" in after
    assert section(after, "Unreleased") == ""
    assert section(after, "1.1.0") == "### Added\n- A thing."
    with pytest.raises(ValueError, match=r"section \[1.2.0\] already"):
        moved(after, "1.2.0", date(2026, 12, 1))
    with pytest.raises(ValueError, match="nothing under"):
        moved(after, "1.3.0", date(2026, 12, 1))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a repository with the files that a release reads, and an address."""
    root = tmp_path / "checkout"
    for name in (*PLACES, *UNPUBLISHED, "CHANGELOG.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    for name, words in UNPUBLISHED.items():
        text = (root / name).read_text("utf-8")
        (root / name).write_text(text.replace(words, "code.example.net"), "utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    if not section(changelog, "Unreleased"):
        changelog = changelog.replace("## [Unreleased]\n", "## [Unreleased]\n\n- New.\n")
    (root / "CHANGELOG.md").write_text(changelog, "utf-8")
    (root / ".gitignore").write_text("dist/\n", "utf-8")
    git(root, "init", "--quiet", "--initial-branch=main")
    for name, value in (("user.name", "A"), ("user.email", "a@b.example"), ("tag.gpgSign", "no")):
        git(root, "config", name, value)
    commit(root)
    return root


def commit(root: Path) -> str:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--no-gpg-sign", "--message=x")
    return git(root, "rev-parse", "HEAD").strip()


def fill(root: Path, version: str) -> None:
    """Put there what a build would, in small."""
    folder = root / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in expected(version):
        (folder / name).write_text(name, "utf-8")
    component = {"name": "ollama-exporter", "version": version}
    bill = {"metadata": {"component": component}, "components": [{"name": "x", "licenses": ["y"]}]}
    (folder / "sbom.json").write_text(json.dumps(bill), "utf-8")
    describe(folder, version, git(root, "rev-parse", "HEAD").strip())


def describe(folder: Path, version: str, commit: str) -> None:
    """Write provenance and checksums as a build does."""
    said = statement(
        version=version,
        commit=commit,
        builder=builder_of({}),
        files=digests(folder),
        libraries=[("uvicorn-0.34.0-py3-none-any.whl", "ab"), ("PyYAML-6.0.2-cp311.whl", "cd")],
        tools={"python": "3.11.2"},
        started="2026-12-01T10:00:00Z",
        finished="2026-12-01T10:04:00Z",
    )
    write(folder, said)


def tags(root: Path) -> list[str]:
    return git(root, "tag", "--list").split()


def test_a_release_is_refused_rehearsed_tagged_once_and_for_one_commit(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way from what is unreleased to the tag, with a build that takes no time."""
    built: list[str] = []

    def run(version: str, *, dry_run: bool = False) -> int:
        def build() -> None:
            built.append(version)
            fill(checkout, version)

        return release(checkout, version, build=build, dry_run=dry_run)

    assert run("77.1.0") == 1
    assert built == []
    assert "ollama_exporter/version.py says" in capsys.readouterr().err

    changed = prepare(checkout, "77.1.0", date(2026, 12, 1))
    assert set(changed) == {*PLACES, "CHANGELOG.md"}
    assert run("77.1.0") == 1
    assert "not committed" in capsys.readouterr().err
    commit(checkout)

    assert run("77.1.0", dry_run=True) == 0
    assert (built, tags(checkout)) == (["77.1.0"], [])
    assert run("77.1.0") == 0
    assert tags(checkout) == ["v77.1.0"]
    assert git(checkout, "cat-file", "-t", "v77.1.0").strip() == "tag"
    message = git(checkout, "for-each-ref", "--format=%(contents)", "refs/tags/v77.1.0")
    assert message.startswith("77.1.0\n\n")
    notes = section((checkout / "CHANGELOG.md").read_text("utf-8"), "77.1.0")
    assert notes in message
    assert run("77.1.0") == 0, "the workflow runs it where the tag is"

    (checkout / "new").touch()
    commit(checkout)
    assert run("77.1.0") == 1
    assert "is the tag of" in capsys.readouterr().err


def test_a_dry_run_goes_on_and_says_everything_at_once(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(checkout, "switch", "--quiet", "--create=other")
    (checkout / "new").touch()
    commit(checkout)
    (checkout / "newer").touch()

    def build() -> None:
        fill(checkout, __version__)
        (checkout / "dist/more").touch()

    assert release(checkout, "77.1.0", build=build, dry_run=True) == 1
    said = capsys.readouterr().err
    for words in ("not committed: newer", "is not on main", "more does not belong there"):
        assert words in said
    assert tags(checkout) == []


def test_what_a_build_changes_in_the_checkout_is_no_release(checkout: Path) -> None:
    prepare(checkout, "77.1.0", date(2026, 12, 1))
    commit(checkout)

    def build() -> None:
        fill(checkout, "77.1.0")
        (checkout / "Dockerfile").write_text("", "utf-8")

    assert release(checkout, "77.1.0", build=build, dry_run=False) == 1
    assert tags(checkout) == []


def test_every_fault_of_the_files_is_found(checkout: Path) -> None:
    folder = checkout / "dist"
    head = git(checkout, "rev-parse", "HEAD").strip()
    fill(checkout, "1.2.0")
    assert faults(folder, "1.2.0", head) == []
    (folder / "NOTES.md").write_text("forged", "utf-8")
    assert faults(folder, "1.2.0", head) == [
        "SHA256SUMS is wrong about NOTES.md",
        "provenance.json is about other files",
    ]
    bill = json.loads((folder / "sbom.json").read_text("utf-8"))
    bill["components"][0]["licenses"] = []
    del bill["metadata"]["component"]["version"]
    (folder / "sbom.json").write_text(json.dumps(bill), "utf-8")
    describe(folder, "1.1.0", COMMIT)
    assert faults(folder, "1.2.0", head) == [
        "provenance.json is of another commit",
        "provenance.json is of another version",
        "sbom.json is of ollama-exporter None",
        "sbom.json has no licence of x",
    ]
    (folder / "NOTES.md").unlink()
    assert faults(folder, "1.2.0", head) == ["NOTES.md is missing"]


def test_the_statement_says_who_built_it() -> None:
    assert builder_of({}).endswith("/releasing.html#by-hand")
    forge = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_SERVER_URL": "https://forge.example.net",
        "GITHUB_WORKFLOW_REF": "o/n/.github/workflows/release.yml@refs/tags/v1.2.0",
    }
    assert builder_of(forge).startswith("https://forge.example.net/o/n/.github/workflows/")
    assert purl("ruamel.yaml_clib-0.2.8-cp311-cp311-x.whl") == "pkg:pypi/ruamel-yaml-clib@0.2.8"


def test_the_page_explains_what_the_statement_points_to_and_every_file() -> None:
    assert {"make-release", "by-hand"} <= anchors(ROOT / "docs/releasing.md")
    page = (ROOT / "docs/releasing.md").read_text("utf-8")
    table = page.partition("## What is in a release")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
    globs = [glob for cell in cells for glob in re.findall(r"`([^`]+)`", cell)]
    for name in expected("1.2.3"):
        assert any(fnmatch(name, glob) for glob in globs), f"{name} is not in the table"
    for glob in globs:
        assert any(fnmatch(name, glob) for name in expected("1.2.3")), f"no file is a {glob}"
