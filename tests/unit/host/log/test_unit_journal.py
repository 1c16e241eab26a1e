# SPDX-License-Identifier: Apache-2.0
"""Under which unit a process runs, by its control group."""

from pathlib import Path

import pytest

from ollama_exporter.host.log.unit_journal import journal_of, source_of


@pytest.mark.parametrize(
    ("cgroup", "source"),
    [
        ("0::/system.slice/ollama.service\n", "journal:ollama.service"),
        ("0::/system.slice/system-llm.slice/llm@2.service\n", "journal:llm@2.service"),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/ollama.service\n",
            "user-journal:ollama.service",
        ),
        ("12:cpu:/\n1:name=systemd:/system.slice/ollama.service\n", "journal:ollama.service"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", None),
        ("0::/user.slice/user-1000.slice/user@1000.service\n", None),
        ("0::/system.slice/docker-0123abcd.scope\n", None),
        ("0::/system.slice/containerd.service/kubepods-pod1.slice/cri-1.scope\n", None),
        ("0::/\n", None),
        ("", None),
        ("nonsense", None),
        ("0::/--help.service/../x y.service\n", None),
    ],
)
def test_the_last_part_of_the_control_group_is_the_unit(cgroup: str, source: str | None) -> None:
    assert source_of(cgroup) == source


def test_why_no_journal_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert journal_of(7, root=str(tmp_path)) == (None, "journalctl is not on PATH")
    program = tmp_path / "journalctl"
    program.touch(mode=0o755)
    assert "cannot be read" in journal_of(7, root=str(tmp_path))[1]
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text("0::/\n", encoding="utf-8")
    assert "no systemd unit" in journal_of(7, root=str(tmp_path))[1]
    (tmp_path / "7" / "cgroup").write_text("0::/system.slice/ollama.service\n", encoding="utf-8")
    source, why = journal_of(7, root=str(tmp_path))
    assert (source, why) == ("journal:ollama.service", "the server runs under this unit")
