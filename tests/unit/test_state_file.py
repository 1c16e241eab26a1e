# SPDX-License-Identifier: Apache-2.0
import json
import math
import os
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import pytest

from ollama_exporter.actions.keep_warm.saved_history import SavedHistory, SavedKeepWarm
from ollama_exporter.actions.saved_actions import SavedActions
from ollama_exporter.advice.idle_histogram import IdleHistogram
from ollama_exporter.advice.saved_usage import SavedUsage
from ollama_exporter.clock import Timeline
from ollama_exporter.errors import ConfigError
from ollama_exporter.moments import is_moment
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.facts import Snapshot
from ollama_exporter.residency.tracker import Tracker
from ollama_exporter.state_file import OURS, SavedState, StateFile
from ollama_exporter.story.past import Past, PastEvent, SavedPast, Stay

URL = "http://127.0.0.1:11434"


def saved() -> SavedState:
    tracker = Tracker(window=60.0)
    model = RunningModel("a:latest", "d", float("inf"), 5)
    tracker.observe(Snapshot(1000.0, 1000.1, (model,)))
    usage = {"a:latest": SavedUsage(IdleHistogram.of([40.0]), 1.0, 5.0, 2, 7)}
    return SavedState(tracker.dump(), usage)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "state"
    StateFile(file, url=URL).write(saved())
    assert StateFile(file, url=URL).read() == saved()
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_long_past_is_written_in_pieces_that_make_the_whole() -> None:
    events = tuple(
        PastEvent(id=number, kind="loaded", at=1.0, low=0.0, text='a "b"\n')
        for number in range(450)
    )
    past = Past(events=events, stays=(Stay(id=451, model="m", start=1.0, end=2.0),))
    state = msgspec.structs.replace(saved(), past=SavedPast(at=3.0, past=past, most=7))
    pieces = list(state.pieces())
    assert SavedState.of(json.loads("".join(pieces))) == state
    assert max(map(len, pieces)) < 200 * len(json.dumps(msgspec.to_builtins(events[-1]))) + 500


# Seconds and other numbers in saved structures that are no moments on the timeline.
NO_MOMENTS = {
    "expires_at",  # by the server's clock
    "date",  # likewise
    "revealed",
    "requested",
    "inferred",
    "load_seconds",
    "counts",  # of a histogram, which has no moments
    "total",
    "truncated",
    "keep_alive",
    "early",
    "sure",
    "took",
    "parts",
    "skew",
}


def saved_types(kind: object, found: set[type[msgspec.Struct]]) -> set[type[msgspec.Struct]]:
    """Return the structures that one holds, at any depth."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in found:
        found.add(kind)
        for hint in get_type_hints(kind).values():
            saved_types(hint, found)
    for inner in get_args(kind):
        saved_types(inner, found)
    return found


def test_each_number_that_is_saved_is_a_moment_or_known_to_be_none() -> None:
    """A new field that holds a moment must say so, or it stays behind when others are moved."""
    unclear = {
        f"{kind.__name__}.{name}"
        for kind in saved_types(SavedState, set())
        for name, hint in get_type_hints(kind, include_extras=True).items()
        if "float" in str(hint) and not is_moment(hint) and name not in NO_MOMENTS
    }
    assert unclear == set()


@pytest.mark.parametrize(
    ("saved_skew", "skew", "now", "later"),
    [
        (0.0, 0.0, 5000.0, 0.0),
        (28_800.0, 0.0, 40_000.0, 28_800.0),  # it was suspended for a night
        (0.0, 28_800.0, 5000.0, -28_800.0),
        (1.7e9, 0.0, 1.8e9, 1.7e9),  # it started before its clock was set
        (0.0, 0.0, 400.0, -600.1),  # the clock was set back, or is not set yet: written just now
    ],
)
def test_moments_are_moved_to_the_timeline_of_the_next_process(
    saved_skew: float, skew: float, now: float, later: float
) -> None:
    history = SavedHistory(loads=(900.0, 950.0), held_until=1300.0, failures=3)
    before = msgspec.structs.replace(
        saved(),
        actions=SavedActions(SavedKeepWarm({"a:latest": history})),
        past=SavedPast(at=1000.0, past=Past(stays=(Stay(id=1, model="a:latest", start=990.0),))),
        skew=saved_skew,
    )
    timeline = Timeline(wall=lambda: now + skew, monotonic=lambda: now)
    timeline._offset = 0.0  # noqa: SLF001 - the clock was stepped since its start
    after = before.on(timeline)
    assert after.residency.last is not None
    assert after.residency.last.ended == pytest.approx(1000.1 + later)
    [life] = after.residency.lives
    assert life.first_seen == pytest.approx(1000.0 + later)
    assert life.expires == math.inf
    [held] = after.actions.keep_warm.models.values()
    assert held.loads == pytest.approx((900.0 + later, 950.0 + later))
    assert held.held_until == pytest.approx(1300.0 + later)
    assert held.failures == 3
    [stay] = after.past.past.stays
    assert (stay.start, after.past.at) == pytest.approx((990.0 + later, 1000.0 + later))
    assert after.usage == before.usage


def test_nothing_is_written_when_nothing_changed(tmp_path: Path) -> None:
    file = tmp_path / "state"
    state = StateFile(file, url=URL)
    state.write(saved())
    file.unlink()
    state.write(saved())
    assert not file.exists()


def test_no_file_is_no_state(tmp_path: Path) -> None:
    assert StateFile(tmp_path / "state", url=URL).read() is None


@pytest.mark.parametrize(
    "content",
    [OURS, OURS + b' "version": 1}', OURS + b' "version": 99, "url": "u", "state": {}}',
     b'{"version": 99, "url": "u", "state": {}}',
     b'{"version": 1, "url": "http://127.0.0.1:11434", "state": {"last": 5}}',
     OURS + b' "version": 1, "a": ' + b"[" * 100_000],
)  # fmt: skip
def test_a_damaged_state_or_one_of_another_version_is_set_aside(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "state"
    file.write_bytes(content)
    assert StateFile(file, url=URL).read() is None
    assert (tmp_path / "state.bad").read_bytes() == content
    assert [r.getMessage() for r in caplog.records] == ["State file set aside"]


def test_another_server_s_state_is_set_aside(tmp_path: Path) -> None:
    file = tmp_path / "state"
    StateFile(file, url="http://other:11434").write(saved())
    assert StateFile(file, url=URL).read() is None


def test_a_failing_disk_is_logged_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    state = StateFile(folder / "state", url=URL)
    state.write(saved())
    state.write(saved())
    assert [r.getMessage() for r in caplog.records] == ["State file cannot be written"]
    folder.mkdir()
    state.write(saved())
    assert (folder / "state").exists()


def test_a_place_that_cannot_be_written_is_said_at_the_start(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing" / "state"):
        with pytest.raises(ConfigError, match=r"state\.file"):
            StateFile(place, url=URL).check()
    with pytest.raises(ConfigError, match=r"state\.file"):
        StateFile(tmp_path, url=URL).read()


def test_what_was_set_aside_before_stays(tmp_path: Path) -> None:
    file = tmp_path / "state"
    (tmp_path / "state.bad").write_bytes(b"precious")
    for number in range(2, 12):
        file.write_bytes(OURS + b"%d" % number)
        assert StateFile(file, url=URL).read() is None
    assert (tmp_path / "state.bad").read_bytes() == b"precious"
    assert (tmp_path / "state.bad.2").read_bytes() == OURS + b"2"
    assert (tmp_path / "state.bad.9").read_bytes() == OURS + b"9"
    assert file.read_bytes() == OURS + b"11"  # too many: it stays, until it is replaced


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"\xff\xfe", b"[mysqld]\nport=1\n", b"x" * 100,
     b'{"version": ', b'{"version": 3, "packages": {}}', b'{"version": 1}',
     b'{"version": "1", "url": "http://127.0.0.1:11434", "state": {}}',
     b'{"version": 1, "url": "x", "state": {}, "serial": 4}',
     b'{"version": 1, "url": "http://127.0.0.1:11434", "state": {',
     b'{"version": ' + b"[" * 100_000],
)  # fmt: skip
def test_a_file_of_another_program_is_refused_and_never_touched(
    content: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "my.cnf"
    file.write_bytes(content)
    state = StateFile(file, url=URL)
    for use in (state.check, state.read):
        with pytest.raises(ConfigError, match="no exporter wrote it"):
            use()
    state.write(saved())
    assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_an_empty_file_is_no_state_and_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.touch()
    state = StateFile(file, url=URL)
    state.check()
    assert state.read() is None
    state.write(saved())
    assert state.read() == saved()


def special(kind: str, path: Path) -> None:
    """Put something at a path that is no regular file."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path.parent / "victim")


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_only_regular_files_are_used(kind: str, tmp_path: Path) -> None:
    file, victim = tmp_path / "state", tmp_path / "victim"
    victim.write_text("precious", encoding="utf-8")
    special(kind, file)
    before = file.lstat()
    state = StateFile(file, url=URL)
    for use in (state.check, state.read):
        with pytest.raises(ConfigError, match=r"state\.file"):
            use()
    state.write(saved())
    assert file.lstat().st_ino == before.st_ino
    assert victim.read_text(encoding="utf-8") == "precious"


def test_a_device_is_neither_read_nor_renamed() -> None:
    state = StateFile(Path("/dev/full"), url=URL)
    with pytest.raises(ConfigError, match="not a regular file"):
        state.read()
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_what_stands_in_the_place_of_the_new_file_is_neither_followed_nor_waited_for(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, victim = tmp_path / "state", tmp_path / "victim"
    victim.write_text("precious", encoding="utf-8")
    special(kind, tmp_path / "state.tmp")
    before = (tmp_path / "state.tmp").lstat()
    StateFile(file, url=URL).write(saved())
    assert victim.read_text(encoding="utf-8") == "precious"
    assert (tmp_path / "state.tmp").lstat() == before
    assert StateFile(file, url=URL).read() == saved()
    assert not caplog.records


def test_a_file_of_another_program_in_the_place_of_the_new_one_stays(tmp_path: Path) -> None:
    file = tmp_path / "state"
    (tmp_path / "state.tmp").write_bytes(b'{"version": 1, "lock": true}')
    StateFile(file, url=URL).write(saved())
    assert (tmp_path / "state.tmp").read_bytes() == b'{"version": 1, "lock": true}'
    assert StateFile(file, url=URL).read() == saved()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_killed_exporter_left_half_written_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "state"
    (tmp_path / "state.tmp").write_bytes(OURS + b"half")
    StateFile(file, url=URL).write(saved())
    assert StateFile(file, url=URL).read() == saved()
    assert list(tmp_path.iterdir()) == [file]


def test_a_name_that_is_too_long_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"state\.file"):
        StateFile(tmp_path / ("a" * 300), url=URL).check()
