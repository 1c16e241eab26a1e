# SPDX-License-Identifier: Apache-2.0
import gzip
import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from ollama_exporter.cli import cli
from ollama_exporter.errors import FailureReason, RecordingError
from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.recordings.read_recording import read_recording
from ollama_exporter.recordings.server_log import read_server_log
from ollama_exporter.residency.facts import (
    LogKind,
    LogSaid,
    PollFailed,
    ProcessesSeen,
    ProcessExited,
    ProcessStarted,
    RequestAnswered,
    RequestEnded,
    RequestStarted,
    WeightsNamed,
)
from tests.support.growth import assert_linear
from tests.support.recordings import OFFICE, POLL, write_records


def test_all_kinds_are_read_and_unknown_ones_skipped(tmp_path: Path) -> None:
    file = write_records(
        tmp_path,
        POLL,
        {"kind": "weather", "t": 1.0},
        {"t": 1001.0, "kind": "request_start", "id": 1, "path": "/api/generate", "model": "a",
         "has_keep_alive": True, "keep_alive": 0, "num_ctx": 2048, "empty": True, "new": 1},
        {"t": 1002.0, "kind": "request_start", "id": 2, "path": "/v1/embeddings", "model": "a",
         "has_keep_alive": True, "keep_alive": "5m", "num_ctx": 2048, "empty": False},
        {"t": 1002.5, "kind": "request_start", "id": 3, "path": "/api/chat", "model": "a",
         "has_keep_alive": True, "keep_alive": "300", "num_ctx": None, "empty": False},
        {"t": 1003.0, "kind": "request_end", "id": 2, "start": 1002.0, "ttft": 0.5,
         "error": "model runner has unexpectedly stopped"},
        {"t": 1003.0, "kind": "request_end", "id": 1, "start": 1001.0, "ttft": None},
        {"t": 1004.0, "kind": "process", "event": "started", "role": "runner", "pid": 7,
         "blob": "sha256-1", "started_at": 1003.9},
        {"t": 1005.0, "kind": "process", "event": "exited", "role": "runner", "pid": 7,
         "blob": "sha256-1"},
        {"t": 1005.5, "kind": "process", "event": "exited", "pid": 8, "alive": 1004.5},
        {"t": 1005.5, "kind": "process", "event": "hidden"},
        {"t": 1005.5, "kind": "log", "said": "load_done", "written": 1005.4, "seconds": 2.28},
        {"t": 1005.6, "kind": "log", "said": "idle", "model": "library/a", "pid": 7,
         "blob": "sha256:1", "num_ctx": 4096, "seconds": -1, "new": 1},
        {"t": 1005.6, "kind": "log", "said": "something_new"},
        {"t": 1005.0, "kind": "show", "model": "a", "blob": "sha256:1"},
        {"t": 1005.0, "kind": "show", "model": "a", "blob": None},
        {"t": 1006.0, "kind": "poll", "took": 0.1, "error": "ConnectError"},
        {"t": 1007.0, "kind": "poll", "took": 0.1, "error": "SomethingNew"},
    )  # fmt: skip
    recording = read_recording(file)
    assert recording.requests == (
        RequestStarted(1001.0, 1, "a:latest", 0.0, 2048, stop=True),
        RequestStarted(1002.0, 2, "a:latest"),
        RequestStarted(1002.5, 3, "a:latest"),
        RequestAnswered(1002.5, 2),
        RequestEnded(1003.0, 2, Failure.CRASHED),
        RequestEnded(1003.0, 1),
    )
    assert recording.processes == (
        ProcessStarted(1004.0, 1003.9, 7, "sha256-1"),
        ProcessExited(1005.0, 7),
        WeightsNamed(1005.0, "a:latest", "sha256-1"),
        ProcessExited(1005.5, 8, alive=1004.5),
        ProcessesSeen(1005.5, seen=False),
    )
    assert recording.log == (
        LogSaid(1005.5, LogKind.LOAD_DONE, 1005.4, seconds=2.28),
        LogSaid(1005.6, LogKind.IDLE, 1005.6, "a:latest", "sha256-1", 7, 4096, math.inf),
    )
    failures = [poll.reason for poll in recording.polls if isinstance(poll, PollFailed)]
    assert failures == [FailureReason.REFUSED, FailureReason.RESET]


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (b"", 0), (b"\n\n", 0), (b"hello\n", 1), (b"[]\n", 1), (b'{"kind":"poll"}\n', 1),
        (b"\xff\xfe\n", 1),
        (b'{"a":1}\n', 1), (json.dumps(POLL).encode() + b"\n" + b'{"kind":"poll","t":1,', 2),
        (json.dumps(POLL | {"body": {"models": 5}}).encode(), 1),
        (json.dumps(POLL | {"t": "x"}).encode(), 1),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_with_its_line(lines: bytes, line: int, tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_bytes(lines)
    with pytest.raises(RecordingError) as caught:
        read_recording(file)
    assert caught.value.line == line
    run = CliRunner().invoke(cli, ["replay", str(file)])
    assert run.exit_code == 2
    assert run.output.count("\n") == 1


def test_cut_and_damaged_gzip_is_said(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl.gz"
    whole = OFFICE.read_bytes()
    file.write_bytes(whole[:3000])
    with pytest.raises(RecordingError, match="cannot be read"):
        read_recording(file)
    file.write_bytes(whole[:2000] + bytes(500) + whole[2500:])
    with pytest.raises(RecordingError):
        read_recording(file)


BOMBS = {
    "blank lines": b"\n" * (20 << 20),
    "blank lines behind a poll": json.dumps(POLL).encode() + b"\n" * (20 << 20),
    "one long line": json.dumps(POLL).encode() + b"\n" + b" " * (20 << 20),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_unpacks_to_far_more_than_a_recording_is_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl.gz"
    file.write_bytes(gzip.compress(BOMBS[name], 9))
    assert file.stat().st_size < 200_000
    with pytest.raises(RecordingError, match=r"unpacks to more than 16 MiB|10000 blank lines"):
        read_recording(file)
    with pytest.raises(RecordingError, match=r"unpacks to more than 16 MiB|10000 blank lines"):
        read_server_log(file)


def test_gzip_is_recognised_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "no-suffix"
    file.write_bytes(gzip.compress(json.dumps(POLL).encode()))
    assert len(read_recording(file).polls) == 1


DEEP = b"[" * 50_000 + b"]" * 50_000
HUGE = b"9" * 400


def poll_with(**fields: bytes) -> bytes:
    """Return the line of a poll with fields of foreign bytes."""
    line = {"kind": b'"poll"', "t": b"1", "took": b"0", "body": b'{"models":[]}'} | fields
    return b"{" + b",".join(b'"' + k.encode() + b'":' + v for k, v in line.items()) + b"}"


@pytest.mark.parametrize(
    "line",
    [
        *(poll_with(body=b'{"x":' + DEEP + b"}"), DEEP),
        *(poll_with(t=HUGE), poll_with(t=b"1e308"), poll_with(t=b"1e18"), poll_with(t=b"-1")),
        *(poll_with(took=HUGE), poll_with(took=b"1e308"), poll_with(took=b"-1")),
        b'{"kind":"request_end","t":1,"id":[1]}',
        b'{"kind":"request_end","t":1,"id":{}}',
        b'{"kind":"request_end","t":1,"id":1,"start":1,"ttft":' + HUGE + b"}",
        b'{"kind":"request_start","t":1,"id":1,"path":"/api/chat","model":"a","num_ctx":{}}',
        b'{"kind":"process","t":1,"event":"exited"}',
        b'{"kind":"process","t":1,"event":"exited","pid":' + HUGE + b"}",
        b'{"kind":"process","t":1,"event":"exited","pid":1,"alive":1e300}',
        b'{"kind":"process","t":1,"event":"started","role":"server","pid":1,"started_at":"x"}',
        b'{"kind":"log","t":1,"said":"idle","seconds":' + HUGE + b"}",
        b'{"kind":"log","t":1,"said":"idle","written":' + HUGE + b"}",
        b'{"kind":"log","t":1,"said":"idle","num_ctx":' + DEEP + b"}",
        b'{"kind":"version","t":1,"version":{}}',
        b'{"kind":"show","t":' + DEEP + b',"model":"a","blob":"sha256:1"}',
    ],
)
def test_a_hostile_line_is_one_error_and_no_traceback(line: bytes, tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_bytes(json.dumps(POLL).encode() + b"\n" + line + b"\n")
    run = CliRunner().invoke(cli, ["replay", str(file)])
    assert run.exit_code == 2, run.output
    assert f"{file}, line 2: " in run.output
    assert run.output.count("\n") == 1
    assert len(run.output) < 500


def test_an_unknown_field_may_be_as_deep_as_it_likes(tmp_path: Path) -> None:
    """From Python 3.14 on it is skipped, before it is an error."""
    file = tmp_path / "r.jsonl"
    file.write_bytes(json.dumps(POLL).encode() + b"\n" + poll_with(x=DEEP) + b"\n")
    run = CliRunner().invoke(cli, ["replay", str(file)])
    assert run.output.startswith((f"Error: {file}, line 2: ", "2 of 2 polls used"))
    assert len(run.output) < 500


@pytest.mark.parametrize(
    "line",
    [
        poll_with(date=b'"Mon, 23 Nov 99999999999 20:03:48 GMT"'),
        poll_with(date=b'"' + HUGE + b'"'),
        poll_with(date=b"[[]]"),
        poll_with(body=b'{"models":[],"x":"\xff"}'),
        b'{"kind":"request_start","t":1,"id":1,"path":"/api/chat","model":"a",'
        b'"has_keep_alive":true,"keep_alive":-' + HUGE + b"}",
        b'{"kind":"request_start","t":1,"id":"\\u0000","path":[],"model":{}}',
        b'{"kind":"request_end","t":1,"id":true,"error":["x"],"outcome":7}',
        b'{"kind":"log","t":1,"said":["idle"]}',
        b'{"kind":"weather","t":[]}',
    ],
)
def test_odd_values_that_decide_nothing_are_read_over(line: bytes, tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_bytes(json.dumps(POLL).encode() + b"\n" + line + b"\n")
    run = CliRunner().invoke(cli, ["replay", str(file)])
    assert run.exit_code == 0, run.output


def test_another_file_is_named_as_no_recording(tmp_path: Path) -> None:
    file = tmp_path / "hostname"
    file.write_text("debian\n", encoding="utf-8")
    run = CliRunner().invoke(cli, ["replay", str(file)])
    assert f"{file}, line 1: not a recording of `ollama-exporter record`: not JSON" in run.output


def models(count: int) -> bytes:
    entry = {"name": "m", "digest": "d", "size": 1, "details": {"family": "f" * 100}}
    return json.dumps({"models": [entry] * (count // 150)}).encode()


@pytest.mark.parametrize(
    "make",
    [
        lambda size: poll_with(body=models(size)),
        lambda size: poll_with(x=b'"' + b'\\"' * (size // 2) + b'"'),
        lambda size: poll_with(x=b"[" * size),
        lambda size: poll_with(date=b'"' + b"9" * size + b'"'),
        lambda size: b"\n" * size,
        lambda size: poll_with() + b"\n" + b"{" * size,
        lambda size: b"\n".join([poll_with()] * (size // 80)),
    ],
)
def test_reading_takes_linear_time(make: Callable[[int], bytes], tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"

    def work(body: bytes) -> None:
        file.write_bytes(body)
        with suppress(RecordingError):
            read_recording(file)

    assert_linear(work, make)


def test_gzip_whose_inside_is_damaged_is_said(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl.gz"
    file.write_bytes(gzip.compress(b"{}")[:10] + b"\xff" * 50)
    with pytest.raises(RecordingError, match="damaged gzip data"):
        read_recording(file)
