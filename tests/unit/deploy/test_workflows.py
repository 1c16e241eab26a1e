# SPDX-License-Identifier: Apache-2.0
"""What would run on a forge: pinned, without rights that it does not need, by the Makefile."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.paths import ROOT

WORKFLOWS: Final = sorted((ROOT / ".github/workflows").glob("*.yml"))
PINNED: Final = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
# A job that may write, and to what. Nothing else may.
WRITES: Final = {
    ("release.yml", "attest"): {"id-token", "attestations"},
    ("release.yml", "pypi"): {"id-token"},
    ("release.yml", "forge"): {"contents"},
    ("site.yml", "publish"): {"pages", "id-token"},
}


@pytest.fixture(params=WORKFLOWS, ids=lambda file: file.name)
def workflow(request: pytest.FixtureRequest) -> Path:
    assert isinstance(request.param, Path)
    return request.param


def jobs(workflow: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(workflow.read_text("utf-8"))["jobs"])


def test_there_is_one_for_changes_one_for_releases_and_one_for_the_site() -> None:
    assert [file.name for file in WORKFLOWS] == ["ci.yml", "release.yml", "site.yml"]


def test_every_action_is_pinned_by_its_commit_with_its_version_beside_it(workflow: Path) -> None:
    used = re.findall(r"uses: .*", workflow.read_text("utf-8"))
    assert used
    assert [line for line in used if not PINNED.fullmatch(line)] == []


def test_one_action_has_one_version() -> None:
    used = {
        line
        for workflow in WORKFLOWS
        for line in re.findall(r"uses: (.*)", workflow.read_text("utf-8"))
    }
    assert len({line.partition("@")[0] for line in used}) == len(used)


def test_every_make_target_exists(workflow: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    called = set(re.findall(r"\bmake ([a-z-]+)", workflow.read_text("utf-8")))
    for job in jobs(workflow).values():
        for each in job.get("strategy", {}).get("matrix", {}).get("include", ()):
            called.add(each["target"])
    assert called - {"and"} <= targets


def test_no_job_may_more_than_it_needs_and_none_knows_a_secret(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text("utf-8"))["permissions"] == {}
    assert "secrets." not in workflow.read_text("utf-8")
    for name, job in jobs(workflow).items():
        rights = job["permissions"].items()
        writes = {right for right, level in rights if level == "write"}
        assert writes == WRITES.get((workflow.name, name), set()), name
        assert job["timeout-minutes"] <= 60
