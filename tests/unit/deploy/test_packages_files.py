# SPDX-License-Identifier: Apache-2.0
"""What deb and rpm are made of, without building them: `make packages` does that."""

import re
from pathlib import Path
from typing import Final

import yaml

from ollama_exporter.config.schema import TABLE
from tests.support.paths import ROOT
from tools.man_page import man_page

PACKAGES: Final = ROOT / "deploy" / "packages"


def test_the_settings_file_names_real_settings_and_sets_none() -> None:
    text = (PACKAGES / "default").read_text("utf-8")
    assert not re.findall(r"^(?!#)\S", text, re.MULTILINE)
    named = set(re.findall(r"^#(OLLAMA_\w+)=", text, re.MULTILINE))
    assert named
    assert named <= {row.variable for row in TABLE} | {"OLLAMA_EXPORTER_CONFIG_FILE"}


def test_program_unit_and_package_agree_on_their_paths() -> None:
    contents = yaml.safe_load((PACKAGES / "nfpm.yaml").read_text("utf-8"))["contents"]
    placed = {each["dst"] for each in contents}
    unit = (ROOT / "deploy/systemd/ollama-exporter.service").read_text("utf-8")
    start = re.search(r"^ExecStart=(\S+)$", unit, re.MULTILINE)
    assert start is not None
    assert str(Path(start[1]).parents[1]) in placed
    settings = re.search(r"^EnvironmentFile=-(\S+)$", unit, re.MULTILINE)
    assert settings is not None
    assert settings[1] in placed


def test_the_manual_has_every_setting_and_no_line_that_roff_takes_as_a_command() -> None:
    page = man_page()
    for row in TABLE:
        assert row.variable in page
    commands = {line.split()[0] for line in page.splitlines() if line.startswith((".", "'"))}
    assert commands == {".TH", ".SH", ".SS", ".TP", ".B", ".BR", ".I", ".nf", ".fi"}
