# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

from coverage import CoverageData

from tests.support.traces import remove_broken


def test_what_a_killed_process_left_is_removed_and_the_others_stay(tmp_path: Path) -> None:
    whole = CoverageData(str(tmp_path / ".coverage.1"))
    whole.add_lines({"a.py": [1]})
    whole.write()
    whole.close(force=True)
    written = (tmp_path / ".coverage.1").read_bytes()
    (tmp_path / ".coverage.2").write_bytes(b"\0" * 100 + written[:5000])
    (tmp_path / ".coverage.3").write_bytes(written[: len(written) // 2])
    assert sorted(remove_broken(tmp_path / ".coverage")) == [".coverage.2", ".coverage.3"]
    assert [file.name for file in tmp_path.iterdir()] == [".coverage.1"]
