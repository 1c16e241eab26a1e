# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

from click.testing import CliRunner

from ollama_exporter.cli import cli
from ollama_exporter.poller.poll_schedule import Cadence
from ollama_exporter.recordings.read_recording import read_recording
from ollama_exporter.recordings.replayer import PollUsed, replay
from ollama_exporter.residency.events import Evidence, Loaded, Restarted, Unloaded
from tests.support.recordings import OFFICE, POLL, write_records


def test_replay_says_the_same_in_text_and_in_json() -> None:
    as_json = CliRunner().invoke(cli, ["replay", str(OFFICE), "--json", "--without-requests"])
    records = [json.loads(line) for line in as_json.output.splitlines()]
    as_text = CliRunner().invoke(cli, ["replay", str(OFFICE), "--without-requests"])
    unloads = [record for record in records if record["event"] == "unloaded"]
    assert as_text.output.count("  unloaded  ") == len(unloads) > 30
    fields = "event model reason not_before not_after settled_at evidence by sure"
    assert {frozenset(record) for record in unloads} == {frozenset(fields.split())}
    used = [record["t"] for record in records if record["event"] == "poll"]
    recorded = {poll.started for poll in read_recording(OFFICE).polls}
    assert set(used) <= recorded
    assert f"{len(used)} of {len(recorded)} polls used" in as_text.output


def test_a_longer_interval_uses_fewer_polls_and_alignment_more() -> None:
    recording = read_recording(OFFICE)

    def used(cadence: Cadence) -> int:
        return sum(
            isinstance(event, PollUsed) for event in replay(recording, cadence, requests=False)
        )

    assert used(Cadence(60, aligned=False)) < used(Cadence(15, aligned=False)) < used(Cadence(15))


def test_at_the_interval_of_the_recording_every_poll_is_used_whatever_its_jitter(
    tmp_path: Path,
) -> None:
    """A poll comes up to a twentieth of the interval early, so that a fleet does not poll in step.

    Of polls that are denser, the first one that is due is used.
    """
    moments = [1000.0, 1014.3, 1029.3, 1043.9, 1058.2]
    recording = read_recording(
        write_records(tmp_path, *(POLL | {"t": moment} for moment in moments))
    )
    said = replay(recording, Cadence(15.0), jittered=True)
    assert [x.t for x in said if isinstance(x, PollUsed)] == moments
    dense = read_recording(
        write_records(tmp_path, *(POLL | {"t": 1000.0 + 0.3 * each} for each in range(180)))
    )
    said = replay(dense, Cadence(15.0), jittered=True)
    used = [x.t for x in said if isinstance(x, PollUsed)]
    assert used == [1000.0, 1015.0, 1030.0, 1045.0]


def test_a_connection_lost_in_a_poll_left_out_is_not_lost(tmp_path: Path) -> None:
    model = {"name": "a", "digest": "d", "expires_at": "2030-01-01T00:00:00Z", "size": 1}
    polls = [
        POLL | {"t": 1000.0, "body": {"models": [model]}},
        {"t": 1005.0, "kind": "poll", "took": 0.1, "error": "refused"},
        POLL | {"t": 1010.0, "new_connection": True},
        POLL | {"t": 1020.0, "new_connection": False},
    ]
    said = list(replay(read_recording(write_records(tmp_path, *polls)), Cadence(15.0)))
    assert any(isinstance(event, Restarted) for event in said)
    assert [event.reason for event in said if isinstance(event, Unloaded)] == ["server_restarted"]


def test_a_connection_that_the_recorder_gave_up_is_no_restart(tmp_path: Path) -> None:
    polls = [
        POLL | {"t": 1000.0},
        {"t": 1005.0, "kind": "poll", "took": 0.1, "error": "timeout"},
        POLL | {"t": 1010.0, "new_connection": True},
        POLL | {"t": 1020.0, "new_connection": False},
    ]
    said = list(replay(read_recording(write_records(tmp_path, *polls)), Cadence(15.0)))
    assert not any(isinstance(event, Restarted | Loaded) for event in said)


def test_a_request_brings_a_poll_forward(tmp_path: Path) -> None:
    stop = {"t": 1003.0, "kind": "request_start", "id": 1, "path": "/api/generate", "model": "a",
            "has_keep_alive": True, "keep_alive": 0, "num_ctx": None, "empty": True}  # fmt: skip
    polls = [POLL | {"t": 1000.0 + n, "new_connection": n == 0} for n in range(20)]
    said = list(replay(read_recording(write_records(tmp_path, *polls, stop)), Cadence(15.0)))
    assert [event.t for event in said if isinstance(event, PollUsed)][:2] == [1000.0, 1004.0]


def test_replay_lays_a_log_beside_a_recording() -> None:
    log = OFFICE.with_name("faults-2.log.gz")
    recording = OFFICE.with_name("faults-2.jsonl.gz")
    shown = CliRunner().invoke(cli, ["replay", str(recording), "--log", str(log)])
    assert shown.exit_code == 0, shown.output
    assert Evidence.LOG_EXPIRED in shown.output
    assert Evidence.LOG_EVICTED in shown.output
    without = CliRunner().invoke(cli, ["replay", str(recording)])
    assert "the log" not in without.output
    assert Evidence.LISTED_AFTER_EXIT in without.output


def test_a_name_of_somebody_else_forges_no_line_and_no_escape(tmp_path: Path) -> None:
    name = "\x1b]0;own\x07a\n2026-01-01 00:00:00  unloaded  forged:latest  crashed\u009b"
    model = {"name": name, "digest": "d", "expires_at": "2030-01-01T00:00:00Z", "size": 1}
    polls = [
        POLL | {"t": 1000.0, "body": {"models": [model]}},
        POLL | {"t": 1020.0, "new_connection": False},
        POLL | {"t": 1200.0, "new_connection": False},
    ]
    shown = CliRunner().invoke(cli, ["replay", str(write_records(tmp_path, *polls))])
    assert shown.exit_code == 0, shown.output
    assert all(line.isprintable() for line in shown.output.splitlines())
    assert not any(line.startswith("2026-01-01") for line in shown.output.splitlines())
    assert shown.output.count("\n") == 3
