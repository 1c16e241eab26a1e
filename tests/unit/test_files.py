# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

import pytest

from ollama_exporter.files import read_regular


def test_a_regular_file_is_read_also_through_a_link(tmp_path: Path) -> None:
    file, link = tmp_path / "a", tmp_path / "b"
    file.write_bytes(b"text")
    link.symlink_to(file)
    assert read_regular(file, limit=4) == read_regular(link, limit=4) == b"text"


def test_a_larger_file_is_refused_without_being_read(tmp_path: Path) -> None:
    file = tmp_path / "sparse"
    with file.open("wb") as opened:
        opened.truncate(1 << 40)
    with pytest.raises(OSError, match="larger than 100 bytes"):
        read_regular(file, limit=100)


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_is_no_regular_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    with pytest.raises(OSError, match=r"not a regular file|[Ii]s a directory"):
        read_regular(path, limit=100)
