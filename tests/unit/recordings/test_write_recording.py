# SPDX-License-Identifier: Apache-2.0
import json
import math
from pathlib import Path
from typing import Any, cast

import pytest

from ollama_exporter.errors import FailureReason
from ollama_exporter.host.processes.reader import Process
from ollama_exporter.host.runner.slot_watcher import SlotLook
from ollama_exporter.host.runner.slots import Slot
from ollama_exporter.recordings.format import RecordedLook, moment_of
from ollama_exporter.recordings.read_recording import read_recording
from ollama_exporter.recordings.write_recording import RecordingWriter, line_of
from ollama_exporter.residency.facts import (
    LogKind,
    LogSaid,
    PollFailed,
    ProcessesSeen,
    ProcessExited,
    ProcessStarted,
    Snapshot,
    VersionAnswered,
    WeightsNamed,
)
from tests.support.machine import hexed


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz"])
def test_what_is_written_is_read_back(name: str, tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / name)
    writer.write_poll(
        started=1000.0,
        ended=1000.25,
        body=b'{"models":[]}\n',
        status=200,
        date="Mon, 23 Nov 2026 20:03:48 GMT",
        new_connection=True,
    )
    writer.write_failed_poll(started=1015.0, ended=1015.5, reason=FailureReason.TIMEOUT)
    writer.close()
    assert read_recording(tmp_path / name).polls == (
        Snapshot(1000.0, 1000.25, (), 1795464228.0, new_connection=True),
        PollFailed(1015.0, 1015.5, FailureReason.TIMEOUT),
    )


def test_what_is_seen_on_the_machine_is_written_as_it_is_read(tmp_path: Path) -> None:
    facts = (
        VersionAnswered(9.75, "0.33.1"),
        ProcessesSeen(10.0, seen=True),
        ProcessStarted(10.0, 1.5, 1, None),
        ProcessStarted(10.0, 9.5, 2, "sha256-1"),
        WeightsNamed(11.0, "a:latest", "sha256-1"),
        LogSaid(11.5, LogKind.EVICTING, 11.25, "a:latest", "sha256-1", 2, 4096),
        LogSaid(11.75, LogKind.IDLE, 11.5, "a:latest", "sha256-1", 2, 4096, math.inf),
        ProcessExited(12.0, 2),
        ProcessExited(13.0, 1, alive=12.0),
        ProcessesSeen(14.0, seen=False),
    )
    file = tmp_path / "r.jsonl.gz"
    writer = RecordingWriter(file)
    writer.write_poll(
        started=9.0, ended=9.5, body=b'{"models":[]}', status=200, date=None,
        new_connection=True,
    )  # fmt: skip
    for fact in facts:
        writer.write_fact(fact)
    writer.close()
    recording = read_recording(file)
    said = sorted([*recording.versions, *recording.processes, *recording.log], key=moment_of)
    back = [line_of(cast("Any", fact)) for fact in said]
    assert back == [line_of(fact) for fact in facts]


def test_a_pretty_printed_body_with_foreign_bytes_is_read_back(tmp_path: Path) -> None:
    body = (
        b'{\r\n  "models": [\n    {"name": "a", "digest": "d", "size": 7,\n'
        b'     "expires_at": "2030-01-01T00:00:00Z", "note": "na\xefve"}\n  ]\n}\n'
    )
    writer = RecordingWriter(tmp_path / "r.jsonl")
    writer.write_poll(started=1.0, ended=2.0, body=body, status=200, date=None, new_connection=True)
    writer.close()
    assert (tmp_path / "r.jsonl").read_text(encoding="utf-8").count("\n") == 1
    (poll,) = read_recording(tmp_path / "r.jsonl").polls
    assert isinstance(poll, Snapshot)
    assert [(model.name, model.size) for model in poll.models] == [("a:latest", 7)]


def test_looks_at_slots_are_read_back_and_hold_numbers_only(tmp_path: Path) -> None:
    command = ("llama-server", "--model", f"/b/{hexed('a')}", "--port", "1")
    process = Process(7, 1.0, 1.0, 1, command)
    used = Slot(0, 4096, busy=True, task=3, held=985, decoded=957)
    slots = (used, Slot(1, 4096, busy=False))
    file = tmp_path / "r.jsonl"
    writer = RecordingWriter(file)
    writer.write_failed_poll(started=1.0, ended=1.5, reason=FailureReason.TIMEOUT)
    writer.write_look(SlotLook("m", 10.0, 10.25, process, 200, slots))
    writer.write_look(SlotLook("m", 12.0, 12.3, process, None, None))
    writer.write_look(SlotLook("m", 14.0, 14.1, process, 501, None))
    writer.close()
    assert read_recording(file).looks == (
        RecordedLook(10.25, 10.0, 7, hexed("a"), slots),
        RecordedLook(12.3, 12.0, 7, hexed("a"), None),
        RecordedLook(14.1, 14.0, 7, hexed("a"), None),
    )
    assert [json.loads(line).get("error") for line in file.read_text().splitlines()] == [
        "timeout", None, "unanswered", "status"
    ]  # fmt: skip
