# SPDX-License-Identifier: Apache-2.0
import json
import logging
from pathlib import Path

import pytest

from ollama_exporter.log import LONGEST, Formatter, setup
from ollama_exporter.metrics.collectors.exporter_collector import LogCounter


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


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    "foreign",
    [
        "\x9b2J",
        "a\u202eb",
        "a\u2028b",
        "a\u0085b",
        "a\x7fb",
        "\x1b]0;x\x07",
        "a\nlevel=error",
        "\ud83d",
    ],
)
def test_a_line_holds_nothing_that_a_terminal_acts_on(foreign: str, *, as_json: bool) -> None:
    line = Formatter(as_json=as_json).format(record("Model loaded", model=foreign))
    assert line.isprintable()
    assert line.encode()
    if as_json:
        assert json.loads(line)["model"] == foreign


def test_names_of_all_languages_stay_readable() -> None:
    line = Formatter(as_json=True).format(record("Model loaded", model="größe-模型"))
    assert "größe-模型" in line


def test_long_values_are_cut_and_user_info_is_masked() -> None:
    err = ValueError("https://ops:hunter2@host " + "x" * LONGEST)
    line = Formatter(as_json=False).format(record("Failed", err=err))
    assert "hunter2" not in line
    assert len(line) < LONGEST + 200
