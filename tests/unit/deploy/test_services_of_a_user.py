# SPDX-License-Identifier: Apache-2.0
"""The exporter as a service of one person: systemd's user manager, launchd, Windows."""

import os
import plistlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml

from ollama_exporter.config.schema import TABLE
from tests.docs.test_docs import every_flag
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.unit_faults import assert_no_faults

UNIT: Final = ROOT / "deploy/systemd/user/ollama-exporter.service"
AGENT: Final = ROOT / "deploy/launchd/ollama-exporter.plist"
USAGE: Final = ROOT / "docs/usage.md"
RECORDER: Final = '#!/bin/sh\nprintf "%s\\n" "$@" >"$HOME/arguments"\necho out; echo err >&2\n'


def test_the_unit_sets_what_the_exporter_knows_and_stays_on_this_machine() -> None:
    text = UNIT.read_text("utf-8")
    named = dict(re.findall(r"^Environment=(OLLAMA_EXPORTER_\w+)=(.*)$", text, re.MULTILINE))
    assert named.keys() <= {row.variable for row in TABLE}
    assert named["OLLAMA_EXPORTER_WEB_LISTEN_ADDRESS"].startswith("127.0.0.1:")
    folder = re.search(r"^StateDirectory=(.+)$", text, re.MULTILINE)
    assert folder is not None
    assert named["OLLAMA_EXPORTER_STATE_FILE"] == f"%S/{folder[1]}/state.json"


def test_the_unit_finds_the_program_of_the_package_and_the_package_has_the_unit() -> None:
    contents = yaml.safe_load((ROOT / "deploy/packages/nfpm.yaml").read_text("utf-8"))["contents"]
    placed = {each["dst"] for each in contents}
    path = re.search(r"^Environment=PATH=(.+)$", UNIT.read_text("utf-8"), re.MULTILINE)
    assert path is not None
    assert {f"{folder}/ollama-exporter" for folder in path[1].split(":")} & placed
    assert f"/usr/lib/systemd/user/{UNIT.name}" in placed


def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("this machine has no systemd-analyze")
    home = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    assert_no_faults(analyze, UNIT, "--user", env=home)


def test_the_agent_starts_again_only_after_a_failure() -> None:
    agent = plistlib.loads(AGENT.read_bytes())
    assert agent["Label"] == AGENT.stem
    assert agent["RunAtLoad"]
    assert agent["KeepAlive"] == {"SuccessfulExit": False}


def test_the_agents_command_runs_and_has_flags_that_exist(tmp_path: Path) -> None:
    """By this machine's sh, in a home like a Mac's with a blank in its name."""
    home = tmp_path / "a home"
    program = home / ".local/bin/ollama-exporter"
    program.parent.mkdir(parents=True)
    program.write_text(RECORDER, "utf-8")
    program.chmod(0o700)
    (home / "Library/Logs").mkdir(parents=True)
    command = plistlib.loads(AGENT.read_bytes())["ProgramArguments"]
    subprocess.run(
        command, env={"HOME": str(home), "PATH": "/usr/bin:/bin"}, check=True, timeout=PATIENCE
    )
    given = (home / "arguments").read_text("utf-8").splitlines()
    assert {argument.partition("=")[0] for argument in given} <= every_flag()
    assert "--web.listen-address=127.0.0.1:11487" in given
    (state,) = (each.partition("=")[2] for each in given if each.startswith("--state.file="))
    assert Path(state).parent.is_dir(), "the exporter makes no folder"
    log = home / "Library/Logs/ollama-exporter.log"
    assert log.read_text("utf-8") == "out\nerr\n"


def test_the_commands_for_windows_have_flags_that_exist() -> None:
    blocks = re.findall(
        r"^```powershell\n(.*?)^```", USAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    flags = {flag for block in blocks for flag in re.findall(r"--[a-z][a-z.-]+", block)}
    assert flags
    assert flags <= every_flag()


def test_the_page_says_what_was_not_tried() -> None:
    page = USAGE.read_text("utf-8").partition("## On a laptop")[2].partition("\n## ")[0]
    for system in ("macOS", "Windows"):
        (part,) = (each for each in page.split("\n**") if each.startswith(f"{system}."))
        assert "not tried" in " ".join(part.split())
