# SPDX-License-Identifier: Apache-2.0
"""The unit in deploy/systemd: hardened, but not so that it is blind."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.unit_faults import assert_no_faults

UNIT: Final = ROOT / "deploy" / "systemd" / "ollama-exporter.service"
HIGHEST_EXPOSURE: Final = 20  # of 100, by systemd's own reckoning


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_nothing_hides_the_processes_of_ollama() -> None:
    unit = settings()
    assert unit["ProtectProc"] == ["default"]
    assert unit["ProcSubset"] == ["all"]
    assert "PrivatePIDs" not in unit
    assert "PrivateUsers" not in unit
    assert "@system-service" in unit["SystemCallFilter"][0]  # pidfd_open is in it


def test_it_runs_as_nobody_in_particular_without_any_capability() -> None:
    unit = settings()
    assert unit["DynamicUser"] == ["yes"]
    assert unit["CapabilityBoundingSet"] == [""]
    assert unit["NoNewPrivileges"] == ["yes"]


@pytest.fixture
def analyze() -> str:
    path = shutil.which("systemd-analyze")
    if path is None:
        pytest.skip("this machine has no systemd-analyze")
    return path


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return the unit with a program that exists."""
    copy = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8")
    assert "ExecStart=/opt/ollama-exporter/bin/ollama-exporter\n" in text
    program = Path(sys.executable).with_name("ollama-exporter")
    copy.write_text(
        text.replace("/opt/ollama-exporter/bin/ollama-exporter", str(program)), encoding="utf-8"
    )
    return copy


def test_systemd_finds_no_fault_in_it(analyze: str, installed: Path) -> None:
    assert_no_faults(analyze, installed)


def test_systemd_calls_it_well_confined(analyze: str, installed: Path) -> None:
    done = subprocess.run(
        [
            analyze,
            "security",
            "--offline=true",
            "--no-pager",
            f"--threshold={HIGHEST_EXPOSURE}",
            installed,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
