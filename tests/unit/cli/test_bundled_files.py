# SPDX-License-Identifier: Apache-2.0
"""Files that come with the package, and the command that writes the rules."""

import re
import resource
import stat
import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from ollama_exporter.cli.bundled_files import PLACES, bundled, write_all
from ollama_exporter.cli.main import cli
from ollama_exporter.errors import BundleError
from tests.support.paths import ROOT


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["rules", *arguments])


def test_the_command_writes_rules_and_runbooks_and_says_which(tmp_path: Path) -> None:
    done = run(str(tmp_path / "new" / "rules"))
    assert done.exit_code == 0, done.output
    written = [Path(line) for line in done.stdout.splitlines()]
    assert "rule_files: [" in done.stderr
    assert "set --runbooks" in done.stderr
    rules = [file.name for file in written if file.suffix == ".yaml"]
    assert rules == [file.name for file in bundled("rules")]
    pages = [file for file in written if file.suffix == ".md"]
    assert {file.parent.name for file in pages} == {"runbooks"}
    assert {file.name for file in pages} == {file.name for file in bundled("runbooks")}
    assert all(file.read_bytes() for file in written)
    assert run(str(tmp_path / "new" / "rules")).exit_code == 0  # once more changes nothing


def test_the_alerts_link_to_where_the_runbooks_are_served(tmp_path: Path) -> None:
    assert run(str(tmp_path), "--runbooks", "https://wiki.example/ollama/").exit_code == 0
    content = yaml.safe_load((tmp_path / "ollama-server.yaml").read_text(encoding="utf-8"))
    alert = content["groups"][0]["rules"][0]
    url = alert["annotations"]["runbook_url"]
    assert url == "https://wiki.example/ollama/OllamaExporterDown.md"


def test_a_file_that_was_changed_is_kept_unless_it_is_forced(tmp_path: Path) -> None:
    file = tmp_path / "ollama-thresholds.yaml"
    file.write_text("groups: []\n", encoding="utf-8")
    done = run(str(tmp_path))
    assert done.exit_code == 1
    assert done.output == f"Error: {file}: exists and was edited; --force overwrites it\n"
    assert file.read_text(encoding="utf-8") == "groups: []\n"
    assert list(tmp_path.iterdir()) == [file]
    assert run(str(tmp_path), "--force").exit_code == 0
    assert "ollama_thresholds" in file.read_text(encoding="utf-8")


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = run(str(tmp_path / "file" / "below"))
    assert done.exit_code == 1
    assert done.output.startswith("Error: '")
    assert done.output.endswith(" cannot be written: Not a directory\n")


def test_a_full_disk_names_the_file_and_leaves_no_half_of_it(tmp_path: Path) -> None:
    file, limits = tmp_path / "a", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # Python ignores its signal
    try:
        with pytest.raises(BundleError, match=re.escape(f"'{file}' cannot be written: File too")):
            write_all({file: bytes(200)}, force=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_with_the_mode_that_it_has(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_all({file: b"1"}, force=False)
    file.chmod(0o600)
    write_all({file: b"2"}, force=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_installed_package_has_them_in_itself(tmp_path: Path) -> None:
    folder = tmp_path / "shipped" / "rules"
    folder.mkdir(parents=True)
    (folder / "b.yaml").touch()
    (folder / "a.yaml").touch()
    (folder / "a.txt").touch()
    found = bundled("rules", installed=tmp_path / "shipped")
    assert found == [folder / "a.yaml", folder / "b.yaml"]


def test_no_files_of_a_kind_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="this installation has no rules"):
        bundled("rules", installed=tmp_path / "none", checkout=tmp_path)


@pytest.mark.parametrize("kind", PLACES)
def test_the_wheel_takes_what_is_looked_for(kind: str) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    place = next(place for name, (place, _) in PLACES.items() if name == kind)
    assert included[place] == f"ollama_exporter/shipped/{kind}"
