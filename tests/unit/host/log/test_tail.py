# SPDX-License-Identifier: Apache-2.0
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ollama_exporter.host.log.tail import CHUNK, LogTail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "server.log"
    path.write_bytes(b"old\n")
    return path


@pytest.fixture
def log(path: Path) -> Iterator[LogTail]:
    with closing(LogTail(path)) as log:
        assert log.read() == b""
        yield log


def append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def all_of(log: LogTail) -> bytes:
    """Read until nothing has come three times."""
    read, empty = b"", 0
    while empty < 3:
        piece = log.read()
        read += piece
        empty = 0 if piece else empty + 1
    return read


def test_what_was_there_is_not_read_and_what_comes_is(path: Path, log: LogTail) -> None:
    append(path, b"new\n")
    assert all_of(log) == b"new\n"
    append(path, b"newer\n")
    assert all_of(log) == b"newer\n"


def test_a_renamed_file_is_read_to_its_end_and_the_new_one_from_its_begin(
    path: Path, log: LogTail
) -> None:
    with path.open("ab") as writer:
        writer.write(b"before\n")
        writer.flush()
        path.rename(path.with_suffix(".1"))
        path.write_bytes(b"after\n")
        assert log.read() == b"before\n"
        assert log.read() == b""
        writer.write(b"late\n")  # whoever writes has not opened the new one yet
        writer.flush()
        assert all_of(log) == b"late\nafter\n"


@pytest.mark.parametrize(
    "new", [b"new\n", b"b line\n", b"a far longer one\nand another\n"], ids=len
)
def test_a_truncated_file_is_read_from_its_begin_however_far_it_has_grown_since(
    path: Path, log: LogTail, new: bytes
) -> None:
    append(path, b"a line\n")
    assert all_of(log) == b"a line\n"
    os.truncate(path, 0)
    append(path, b"old\n" + new)
    assert all_of(log) == b"old\n" + new


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_a_writer_that_does_not_append_leaves_a_hole_that_is_not_read(
    path: Path, log: LogTail, encoding: str, *, seen: bool
) -> None:
    old, new = ("old line\n" * 100_000).encode(encoding), "new\n".encode(encoding)
    with path.open("wb") as writer:
        writer.write(old)
        writer.flush()
        assert all_of(log) == old
        os.truncate(path, 0)
        assert not seen or log.read() == b""
        writer.write(new)
        writer.flush()
        reads = [log.read() for _ in range(3)]
    assert b"".join(reads) in {new, new.rjust(len(new) + 1, b"\0")}


def test_a_file_that_is_made_anew_is_read_from_its_begin(path: Path, log: LogTail) -> None:
    path.unlink()
    assert all_of(log) == b""
    path.write_bytes(b"again\n")
    assert all_of(log) == b"again\n"


def test_a_file_that_comes_later_is_read_from_its_begin(tmp_path: Path) -> None:
    path = tmp_path / "later.log"
    with closing(LogTail(path)) as log:
        with pytest.raises(FileNotFoundError):
            log.read()
        path.write_bytes(b"first\n")
        assert all_of(log) == b"first\n"


def test_after_a_failure_reading_goes_on_where_it_was(path: Path, log: LogTail) -> None:
    append(path, b"one\n")
    assert all_of(log) == b"one\n"
    log.close()
    append(path, b"two\n")
    assert all_of(log) == b"two\n"


def test_a_burst_comes_in_bounded_pieces(path: Path, log: LogTail) -> None:
    append(path, b"x" * (CHUNK + 5))
    assert [len(log.read()) for _ in range(3)] == [CHUNK, 5, 0]


def test_a_pipe_is_refused_and_waited_for_by_nobody(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with closing(LogTail(pipe)) as log, pytest.raises(OSError, match="not a regular file"):
        log.read()


def test_no_descriptor_is_left(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count
    log = LogTail(path)
    for number in range(50):
        log.read()
        path.rename(path.with_suffix(f".{number}"))
        path.write_bytes(b"x\n")
        all_of(log)
    log.close()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - likewise
