# SPDX-License-Identifier: Apache-2.0
import gzip
from pathlib import Path

import pytest

from ollama_exporter.errors import RecordingError
from ollama_exporter.recordings.server_log import read_server_log
from ollama_exporter.residency.facts import (
    LogKind,
    LogSaid,
)


def test_a_log_that_cannot_be_read_is_said_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "server.log.gz"
    whole = gzip.compress(b"time=2026-11-23T20:04:20.331Z level=INFO msg=x\n" * 2000)
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordingError, match="cannot be read"):
        read_server_log(file)


def test_a_log_s_facts_bear_the_moments_of_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "server.log"
    file.write_text(
        "Nov 23 20:04:20 host ollama[1]: time=2026-11-23T20:04:20.5Z level=DEBUG source=a.go:1 "
        "msg=reloading runner.pid=7\n"
        "something else\n"
        'time=2026-11-23T20:04:20.25Z level=INFO msg="llama-server started in 2.28 seconds"\n',
        encoding="utf-8",
    )
    begin = 1795464260.0
    done = LogSaid(begin + 0.25, LogKind.LOAD_DONE, begin + 0.25, seconds=2.28)
    again = LogSaid(begin + 0.5, LogKind.RELOADING, begin + 0.5, pid=7)
    assert read_server_log(file) == (done, again)
    assert read_server_log(file, debug=False) == (done,)


def test_a_container_s_log_is_read(tmp_path: Path) -> None:
    file = tmp_path / "0.log"
    file.write_text(
        "2026-11-23T20:04:20.5Z stderr P time=2026-11-23T20:04:20.5Z level=DEBUG msg=reloading r\n"
        "2026-11-23T20:04:20.5Z stderr F unner.pid=7\n"
        '{"log":"time=2026-11-23T20:04:21Z level=DEBUG msg=reloading runner.pid=8\\n",'
        '"stream":"stderr","time":"2026-11-23T20:04:21Z"}\n',
        encoding="utf-8",
    )
    assert [fact.pid for fact in read_server_log(file)] == [7, 8]


def test_gzip_whose_inside_is_damaged_is_said(tmp_path: Path) -> None:
    file = tmp_path / "server.log.gz"
    file.write_bytes(gzip.compress(b"x")[:10] + b"\xff" * 50)
    with pytest.raises(RecordingError, match="damaged gzip data"):
        read_server_log(file)
