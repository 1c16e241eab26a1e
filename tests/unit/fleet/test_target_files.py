# SPDX-License-Identifier: Apache-2.0
import json
import logging
import os
from pathlib import Path

import pytest

from ollama_exporter.errors import ConfigError, ConfigFileError
from ollama_exporter.fleet.target_files import BAD_FILE_LOOKS, MOST_FILES, TargetFolder
from ollama_exporter.fleet.target_section import (
    MOST_TARGETS,
    TargetSettings,
    shared_addresses,
    targets,
)


def accept(_: TargetSettings) -> None:
    pass


def names(folder: TargetFolder) -> list[str]:
    return [each.name for each in folder.targets]


def put(file: Path, text: str) -> None:
    """Write a file as one should: whole, by renaming."""
    beside = file.with_name(f".{file.name}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(file)


def test_files_are_added_changed_and_removed(tmp_path: Path) -> None:
    folder = TargetFolder(tmp_path, check=accept)
    folder.first_read()
    assert not folder.read()
    put(tmp_path / "a.yaml", "a: http://a\nb: {url: b, labels: {x: y}}\n")
    put(tmp_path / "b.json", json.dumps([{"targets": ["c:11434"], "labels": {"x": "z"}}]))
    put(tmp_path / "c.txt", "not: one\n")
    assert folder.read()
    assert names(folder) == ["a", "b", "c:11434"]
    assert not folder.read()
    put(tmp_path / "a.yaml", "b: {url: b2}\n")
    assert folder.read()
    assert [(each.name, each.target.url) for each in folder.targets] == [
        ("b", "http://b2:11434"), ("c:11434", "http://c:11434"),
    ]  # fmt: skip
    (tmp_path / "b.json").unlink()
    assert folder.read()
    assert names(folder) == ["b"]


def test_a_file_that_is_written_in_place_is_read_when_its_writer_is_done(tmp_path: Path) -> None:
    folder, file = TargetFolder(tmp_path, check=accept), tmp_path / "a.yaml"
    put(file, "a: x\nb: x\n")
    folder.first_read()
    for half in ("", "a: x\n", "a: x\nb: x\nc: 10.0.0.1"):  # the last two are valid
        file.write_text(half, encoding="utf-8")
        assert not folder.read()
        assert names(folder) == ["a", "b"]
    file.write_text("a: x\nb: x\nc: 10.0.0.17\n", encoding="utf-8")
    assert not folder.read()
    assert folder.read()
    assert names(folder) == ["a", "b", "c"]
    assert folder.targets[-1].target.url == "http://10.0.0.17:11434"


@pytest.mark.parametrize(
    "bad", ["a: {url: ", "a: {uri: x}\n", "5", "- x\n", "a: x\na: y\n", "", "a: {url: 'x y'}\n"]
)
def test_a_bad_file_keeps_what_it_named_before(
    bad: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = TargetFolder(tmp_path, check=accept)
    put(tmp_path / "a.yaml", "a: x\n")
    put(tmp_path / "b.yaml", "b: x\n")
    folder.first_read()
    put(tmp_path / "a.yaml", bad)
    put(tmp_path / "b.yaml", "c: x\n")
    folder.read()
    if not bad:  # no targets is an answer
        assert names(folder) == ["c"]
        return
    assert names(folder) == ["a", "c"]
    assert folder.rejected == 1
    for _ in range(2 * BAD_FILE_LOOKS):
        folder.read()
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert [each.getMessage() for each in warnings] == ["Targets file rejected"]
    assert vars(warnings[0])["kept"] == 1
    put(tmp_path / "a.yaml", "d: x\n")
    assert folder.read()
    assert (names(folder), folder.rejected) == (["d", "c"], 0)


def test_a_name_that_is_taken_keeps_a_file_out_until_it_is_free(tmp_path: Path) -> None:
    folder = TargetFolder(tmp_path, check=accept)
    put(tmp_path / "a.yaml", "a: x\n")
    put(tmp_path / "b.yaml", "b: x\n")
    folder.first_read()
    put(tmp_path / "b.yaml", "a: y\nc: y\n")
    folder.read()
    assert (names(folder), folder.rejected) == (["a", "b"], 1)
    assert folder.targets[0].target.url == "http://x:11434"
    (tmp_path / "a.yaml").unlink()
    for _ in range(BAD_FILE_LOOKS):
        folder.read()
    assert (names(folder), folder.rejected) == (["a", "c"], 0)
    for _ in range(BAD_FILE_LOOKS):
        folder.read(taken=["c"])
    assert names(folder) in (["a", "c"], ["a"])  # the file names it still


def test_a_folder_that_is_gone_keeps_everything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = tmp_path / "targets"
    here.mkdir()
    put(here / "a.yaml", "a: x\n")
    folder = TargetFolder(here, check=accept)
    folder.first_read()
    here.rename(tmp_path / "away")
    for _ in range(3):
        assert not folder.read()
    assert (names(folder), folder.rejected) == (["a"], 1)
    messages = [each.getMessage() for each in caplog.records]
    assert messages.count("Targets directory cannot be read") == 1
    (tmp_path / "away").rename(here)
    folder.read()
    assert folder.rejected == 0


def test_odd_files_end_nothing(tmp_path: Path) -> None:
    put(tmp_path / "a.yaml", "a: x\n")
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "dir.yaml").mkdir()
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "deep.json").write_text("[" * 50_000)
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    folder = TargetFolder(tmp_path, check=accept)
    folder.read()
    assert names(folder) == ["a"]
    assert folder.rejected == 6


def test_what_cannot_be_used_at_the_start_is_said_there(tmp_path: Path) -> None:
    def refuse(_: TargetSettings) -> None:
        raise ConfigError("targets.a.bearer-token-file", "x", "accepted: a readable file")

    put(tmp_path / "a.yaml", "a: x\n")
    with pytest.raises(ConfigFileError, match="bearer-token-file"):
        TargetFolder(tmp_path, check=refuse).first_read()
    with pytest.raises(ConfigFileError, match="missing"):
        TargetFolder(tmp_path / "missing", check=accept).first_read()


def test_a_link_that_leads_nowhere_keeps_what_it_named_and_holds_no_other_file_up(
    tmp_path: Path,
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for name in ("one", "two"):
        put(tmp_path / name / "k.json", json.dumps([{"targets": [f"{name}:1"]}]))
    data, file = tmp_path / "..data", tmp_path / "k.json"
    data.symlink_to("one")
    file.symlink_to("..data/k.json")
    folder = TargetFolder(tmp_path, check=accept)
    folder.first_read()
    (tmp_path / "..next").symlink_to("two")
    (tmp_path / "..next").replace(data)  # as Kubernetes does with a changed ConfigMap
    assert folder.read()
    assert names(folder) == ["two:1"]
    data.unlink()
    (tmp_path / "loop.json").symlink_to("loop.json")
    put(tmp_path / "other.yaml", "a: x\n")
    assert folder.read()
    assert (names(folder), folder.rejected) == (["two:1", "a"], 2)
    file.unlink()
    assert folder.read()
    assert names(folder) == ["a"]


def test_targets_with_one_address_are_named_whatever_its_spelling() -> None:
    found = targets(
        "targets",
        {"a": "http://gpu:11434", "b": "HTTP://GPU/", "c": "http://gpu:11434/x", "d": "gpu"},
    )
    assert shared_addresses(found) == ["a, d"]


def test_more_files_and_more_targets_than_can_be_watched_are_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = TargetFolder(tmp_path, check=accept)
    put(tmp_path / "a.yaml", "".join(f"a{n}: x\n" for n in range(MOST_TARGETS)))
    folder.first_read()
    put(tmp_path / "b.yaml", "b: x\n")
    assert not folder.read()
    assert (len(names(folder)), folder.rejected) == (MOST_TARGETS, 1)
    assert "more than 10000 targets in all" in str(vars(caplog.records[-1]))
    for number in range(MOST_FILES):
        (tmp_path / f"c{number}.yaml").touch()
    caplog.clear()
    assert not folder.read()
    assert len(names(folder)) == MOST_TARGETS
    assert "more than 1000 files" in str(vars(caplog.records[0]))
