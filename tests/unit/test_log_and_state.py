# SPDX-License-Identifier: Apache-2.0
import json
import logging
from pathlib import Path

import pytest

from ollama_exporter.advice.idle_histogram import IdleHistogram
from ollama_exporter.advice.saved_usage import SavedUsage
from ollama_exporter.clock import Timeline
from ollama_exporter.errors import ConfigError
from ollama_exporter.log import Formatter, setup
from ollama_exporter.metrics.collectors.exporter_collector import LogCounter
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.facts import Snapshot
from ollama_exporter.residency.tracker import Tracker
from ollama_exporter.state_file import SavedState, StateFile

URL = "http://127.0.0.1:11434"


def record(message: str, **values: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {
            "name": "ollama_exporter.poller.poller",
            "msg": message,
            "levelname": "INFO",
            "created": 0.5,
        }
    )
    vars(made).update(values)
    return made


def test_logfmt_quotes_what_needs_it() -> None:
    line = Formatter(as_json=False).format(
        record("Two words", model="a:b", err='x "y"\nz', none="")
    )
    assert line == (
        "time=1970-01-01T00:00:00.500Z level=info logger=poller "
        'msg="Two words" model=a:b err="x \\"y\\"\\nz" none=""'
    )


def test_json_is_one_object_a_line() -> None:
    line = Formatter(as_json=True).format(record("Two words", number=3, path=Path("x")))
    assert "\n" not in line
    assert json.loads(line)["number"] == 3
    assert json.loads(line)["path"] == "x"


def test_a_traceback_is_one_value(capsys: pytest.CaptureFixture[str]) -> None:
    counter = LogCounter()
    logger = logging.getLogger("ollama_exporter.test")
    setup(level="info", as_json=False, counter=counter)
    try:
        raise ValueError("no")  # noqa: TRY301 - there must be one to log
    except ValueError:
        logger.exception("Failed")
    logger.debug("Not said")
    logger.critical("Bad")
    logging.getLogger("ollama_exporter").handlers = []
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "ValueError: no" in lines[0]
    values = {
        s.labels["level"]: s.value
        for f in counter.lines.collect()
        for s in f.samples
        if s.name.endswith("total")
    }
    assert values == {"debug": 0, "info": 0, "warning": 0, "error": 2}


def test_the_timeline_runs_with_the_wall_clock() -> None:
    timeline = Timeline()
    first, second = timeline.now(), timeline.now()
    assert first <= second
    assert timeline.wall(first) == pytest.approx(first, abs=0.1)


def test_a_stepped_wall_clock_moves_nothing_on_the_timeline() -> None:
    wall, monotonic = [1_800_000_000.0], [50.0]
    timeline = Timeline(wall=lambda: wall[0], monotonic=lambda: monotonic[0])
    before = timeline.now()
    wall[0] += 3600.0  # somebody sets the clock
    monotonic[0] += 15.0
    assert timeline.now() - before == 15.0
    assert timeline.wall(timeline.now()) == wall[0]


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
    [b"", b"{", b"[]", b"\xff", b'{"version":1}', b'{"version":99,"url":"u","state":{}}',
     b'{"version":1,"url":"http://127.0.0.1:11434","state":{"last":5}}'],
)  # fmt: skip
def test_a_damaged_or_foreign_file_is_set_aside(
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
