# SPDX-License-Identifier: Apache-2.0
import gzip
import json
import math
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from ollama_exporter.cli import cli
from ollama_exporter.errors import FailureReason, RecordingError
from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.recordings.format import Writer, moment_of, read
from ollama_exporter.recordings.format_lines import line_of
from ollama_exporter.recordings.replayer import PollUsed, replay
from ollama_exporter.recordings.server_log import read_log
from ollama_exporter.residency.events import Loaded, Restarted, Unloaded
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
    Snapshot,
    WeightsNamed,
)
from ollama_exporter.residency.poll_schedule import Cadence
from tests.support.paths import DATA

OFFICE = DATA / "polls" / "office-1.jsonl.gz"
DATE = "Mon, 23 Nov 2026 20:03:48 GMT"
POLL = {"t": 1000.0, "kind": "poll", "took": 0.1, "status": 200, "date": DATE,
        "new_connection": True, "body": {"models": []}}  # fmt: skip


def written(tmp_path: Path, *records: object) -> Path:
    file = tmp_path / "r.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz"])
def test_what_is_written_is_read_back(name: str, tmp_path: Path) -> None:
    writer = Writer(tmp_path / name)
    writer.poll(
        started=1000.0,
        ended=1000.25,
        body=b'{"models":[]}\n',
        status=200,
        date="Mon, 23 Nov 2026 20:03:48 GMT",
        new_connection=True,
    )
    writer.failed_poll(started=1015.0, ended=1015.5, reason=FailureReason.TIMEOUT)
    writer.close()
    assert read(tmp_path / name).polls == (
        Snapshot(1000.0, 1000.25, (), 1795464228.0, new_connection=True),
        PollFailed(1015.0, 1015.5, FailureReason.TIMEOUT),
    )


def test_all_kinds_are_read_and_unknown_ones_skipped(tmp_path: Path) -> None:
    file = written(
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
    recording = read(file)
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
        (json.dumps(POLL | {"body": {"models": [{"size": "x"}]}}).encode(), 1),
        (json.dumps(POLL | {"t": "x"}).encode(), 1),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_with_its_line(lines: bytes, line: int, tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_bytes(lines)
    with pytest.raises(RecordingError) as caught:
        read(file)
    assert caught.value.line == line
    run = CliRunner().invoke(cli, ["replay", str(file)])
    assert run.exit_code == 2
    assert run.output.count("\n") == 1


def test_cut_and_damaged_gzip_is_said(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl.gz"
    whole = OFFICE.read_bytes()
    file.write_bytes(whole[:3000])
    with pytest.raises(RecordingError, match="cannot be read"):
        read(file)
    file.write_bytes(whole[:2000] + bytes(500) + whole[2500:])
    with pytest.raises(RecordingError):
        read(file)


def test_replay_says_the_same_in_text_and_in_json() -> None:
    as_json = CliRunner().invoke(cli, ["replay", str(OFFICE), "--json", "--without-requests"])
    records = [json.loads(line) for line in as_json.output.splitlines()]
    as_text = CliRunner().invoke(cli, ["replay", str(OFFICE), "--without-requests"])
    unloads = [record for record in records if record["event"] == "unloaded"]
    assert as_text.output.count("  unloaded  ") == len(unloads) > 30
    assert {frozenset(record) for record in unloads} == {
        frozenset(
            ("event", "model", "reason", "not_before", "not_after", "settled_at", "evidence", "by")
        )
    }
    used = [record["t"] for record in records if record["event"] == "poll"]
    recorded = {poll.started for poll in read(OFFICE).polls}
    assert set(used) <= recorded
    assert f"{len(used)} of {len(recorded)} polls used" in as_text.output


def test_a_longer_interval_uses_fewer_polls_and_alignment_more() -> None:
    recording = read(OFFICE)

    def used(cadence: Cadence) -> int:
        return sum(
            isinstance(event, PollUsed) for event in replay(recording, cadence, requests=False)
        )

    assert used(Cadence(60, aligned=False)) < used(Cadence(15, aligned=False)) < used(Cadence(15))


def test_a_connection_lost_in_a_poll_left_out_is_not_lost(tmp_path: Path) -> None:
    model = {"name": "a", "digest": "d", "expires_at": "2030-01-01T00:00:00Z", "size": 1}
    polls = [
        POLL | {"t": 1000.0, "body": {"models": [model]}},
        {"t": 1005.0, "kind": "poll", "took": 0.1, "error": "refused"},
        POLL | {"t": 1010.0, "new_connection": True},
        POLL | {"t": 1020.0, "new_connection": False},
    ]
    said = list(replay(read(written(tmp_path, *polls)), Cadence(15.0)))
    assert any(isinstance(event, Restarted) for event in said)
    assert [event.reason for event in said if isinstance(event, Unloaded)] == ["server_restarted"]


def test_a_connection_that_the_recorder_gave_up_is_no_restart(tmp_path: Path) -> None:
    polls = [
        POLL | {"t": 1000.0},
        {"t": 1005.0, "kind": "poll", "took": 0.1, "error": "timeout"},
        POLL | {"t": 1010.0, "new_connection": True},
        POLL | {"t": 1020.0, "new_connection": False},
    ]
    said = list(replay(read(written(tmp_path, *polls)), Cadence(15.0)))
    assert not any(isinstance(event, Restarted | Loaded) for event in said)


def test_a_request_brings_a_poll_forward(tmp_path: Path) -> None:
    stop = {"t": 1003.0, "kind": "request_start", "id": 1, "path": "/api/generate", "model": "a",
            "has_keep_alive": True, "keep_alive": 0, "num_ctx": None, "empty": True}  # fmt: skip
    polls = [POLL | {"t": 1000.0 + n, "new_connection": n == 0} for n in range(20)]
    said = list(replay(read(written(tmp_path, *polls, stop)), Cadence(15.0)))
    assert [event.t for event in said if isinstance(event, PollUsed)][:2] == [1000.0, 1004.0]


def test_gzip_is_recognised_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "no-suffix"
    file.write_bytes(gzip.compress(json.dumps(POLL).encode()))
    assert len(read(file).polls) == 1


def test_what_is_seen_on_the_machine_is_written_as_it_is_read(tmp_path: Path) -> None:
    facts = (
        ProcessesSeen(10.0, seen=True),
        ProcessStarted(10.0, -90.0, 1, None),
        ProcessStarted(10.0, 9.5, 2, "sha256-1"),
        WeightsNamed(11.0, "a:latest", "sha256-1"),
        LogSaid(11.5, LogKind.EVICTING, 11.25, "a:latest", "sha256-1", 2, 4096),
        LogSaid(11.75, LogKind.IDLE, 11.5, "a:latest", "sha256-1", 2, 4096, math.inf),
        ProcessExited(12.0, 2),
        ProcessExited(13.0, 1, alive=12.0),
        ProcessesSeen(14.0, seen=False),
    )
    file = tmp_path / "r.jsonl.gz"
    writer = Writer(file)
    writer.poll(
        started=9.0, ended=9.5, body=b'{"models":[]}', status=200, date=None,
        new_connection=True,
    )  # fmt: skip
    for fact in facts:
        writer.fact(fact)
    writer.close()
    recording = read(file)
    said = sorted([*recording.processes, *recording.log], key=moment_of)
    back = [line_of(cast("Any", fact)) for fact in said]
    assert back == [line_of(fact) for fact in facts]


def test_a_log_that_cannot_be_read_is_said_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "server.log.gz"
    whole = gzip.compress(b"time=2026-11-23T20:04:20.331Z level=INFO msg=x\n" * 2000)
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordingError, match="cannot be read"):
        read_log(file)


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
    assert read_log(file) == (done, again)
    assert read_log(file, debug=False) == (done,)


def test_replay_lays_a_log_beside_a_recording() -> None:
    log = OFFICE.with_name("faults-2.log.gz")
    recording = OFFICE.with_name("faults-2.jsonl.gz")
    shown = CliRunner().invoke(cli, ["replay", str(recording), "--log", str(log)])
    assert shown.exit_code == 0, shown.output
    assert "the log: its timer expired" in shown.output
    assert "the log: it was condemned to make room" in shown.output
    without = CliRunner().invoke(cli, ["replay", str(recording)])
    assert "the log" not in without.output
    assert "its process died while it was listed" in without.output
