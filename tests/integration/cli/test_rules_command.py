# SPDX-License-Identifier: Apache-2.0
"""The rules by promtool: their syntax, and what each alert says when."""

import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.programs import program

RULES: Final = ROOT / "dashboards" / "rules"
TESTS: Final = sorted(RULES.glob("tests/*.yaml"))


def promtool(*arguments: str) -> str:
    """Run it; return what it says, for a failure's message."""
    done = subprocess.run(
        [program("promtool"), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def test_the_rules_are_valid() -> None:
    files = sorted(map(str, RULES.glob("*.yaml")))
    said = promtool("check", "rules", "--lint=all", "--lint-fatal", *files)
    assert said.count("SUCCESS") == len(files) > 0


@pytest.mark.parametrize("file", TESTS, ids=lambda file: str(file.stem))
def test_alerts_fire_when_they_must_with_these_words(file: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", str(file))


def test_a_wrong_word_is_noticed(tmp_path: Path) -> None:
    text = (RULES / "tests" / "residency.yaml").read_text(encoding="utf-8")
    changed = text.replace("3 times in half an hour", "4 times in half an hour")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "changed.yaml").write_text(changed, encoding="utf-8")
    for file in RULES.glob("*.yaml"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", str(tmp_path / "tests" / "changed.yaml"))
