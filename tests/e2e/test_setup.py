# SPDX-License-Identifier: Apache-2.0
"""An environment in which another checkout runs: `make VENV=…` leaves it that checkout's."""

import json
import subprocess
from pathlib import Path
from typing import Final

import pytest

SETUP: Final = Path(__file__).parents[2] / ".ci/setup"
# Stands for the environment's interpreter, and notes what pip shall install.
PYTHON: Final = """#!/bin/sh
case "$*" in
*"pip install"*) echo "$@" >> installed ;;
*version_info*) echo 3.11 ;;
esac
"""


class Checkouts:
    """Two checkouts, and an environment that the first has made."""

    def __init__(self, folder: Path) -> None:
        self.first, self.second, self.venv = folder / "first", folder / "second", folder / "venv"
        for checkout in (self.first, self.second):
            checkout.mkdir()
            (checkout / "pyproject.toml").write_text("[project]\n")
        (self.venv / "bin").mkdir(parents=True)
        python = self.venv / "bin/python"
        python.write_text(PYTHON)
        python.chmod(0o755)
        self.installed(self.first)
        info = self.venv / "lib/python3.11/site-packages/ollama_exporter-1.dist-info"
        info.mkdir(parents=True)
        url = {"dir_info": {"editable": True}, "url": self.first.as_uri()}
        (info / "direct_url.json").write_text(json.dumps(url))

    def installed(self, checkout: Path) -> tuple[list[str], str]:
        """Set the environment up from a checkout. Return what pip is asked for, and the errors."""
        asked = checkout / "installed"
        asked.unlink(missing_ok=True)
        command = [str(SETUP), "run", str(self.venv)]
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
        return asked.read_text().splitlines() if asked.exists() else [], done.stderr


@pytest.fixture
def checkouts(tmp_path: Path) -> Checkouts:
    return Checkouts(tmp_path)


def test_the_environment_of_another_checkout_stays_as_it_is(checkouts: Checkouts) -> None:
    assert checkouts.installed(checkouts.second) == ([], "")
    assert checkouts.installed(checkouts.first) == ([], "")


def test_so_it_does_where_the_other_needs_something_else_which_is_said(
    checkouts: Checkouts,
) -> None:
    (checkouts.second / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    asked, errors = checkouts.installed(checkouts.second)
    assert not asked
    assert errors.endswith(
        f"is of {checkouts.first}, whose pyproject.toml is another: nothing is installed\n"
    )


def test_a_clone_that_was_moved_installs_itself_again(checkouts: Checkouts) -> None:
    checkouts.first.rename(checkouts.first.with_name("moved"))
    asked, _ = checkouts.installed(checkouts.first.with_name("moved"))
    assert [line.endswith("--editable .") for line in asked] == [True]
