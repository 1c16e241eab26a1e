# SPDX-License-Identifier: Apache-2.0
import json
import math

import pytest

from ollama_exporter.protocol import keepalive
from tests.support.answers import body_of


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0.0),
        (0.0, 0.0),
        ("0", 0.0),
        ("0s", 0.0),
        (300, 300.0),
        (0.5, 0.5),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("+5m", 300.0),
        ("250ms", 0.25),
        (-1, math.inf),
        (-0.1, math.inf),
        ("-1s", math.inf),
        ("-5m", math.inf),
        (1e12, 0.0),
    ],
)
def test_accepted_keep_alives(value: object, seconds: float) -> None:
    assert keepalive.parse(value) == pytest.approx(seconds)


def test_an_absent_keep_alive_is_none() -> None:
    assert keepalive.parse(None) is None


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        ("300", "keepalive-string-number-400"),
        ("-1", "keepalive-string-minus-one-400"),
        (True, "keepalive-bool-400"),
    ],
)
def test_refused_keep_alives_say_what_the_server_says(value: object, raw: str) -> None:
    with pytest.raises(keepalive.KeepAliveError) as caught:
        keepalive.parse(value)
    assert str(caught.value) == json.loads(body_of(raw))["error"]


@pytest.mark.parametrize("value", ["", "m", "5", "5x", "5m3", "1e3s", {}, [], "9999999h", "--1s"])
def test_other_keep_alives_are_refused(value: object) -> None:
    with pytest.raises(keepalive.KeepAliveError):
        keepalive.parse(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (300, "5m0s"),
        (5400, "1h30m0s"),
        (1.5, "1.5s"),
        (0.25, "250ms"),
        (0, "0s"),
        (math.inf, "-1"),
        (25e-6, "25µs"),
        (3e-9, "3ns"),
    ],
)
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert keepalive.render(seconds) == text


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (1500.01, 1500.96, 1500.96),
        (60.0, 61.0, 60),  # 60 s, and almost a second of the server's clock
        (1499.96, 1500.96, 1500),
        (298.7, 299.7, 299),
        (3570, 3601, 3600),
        (-0.7, 0.3, 0.3),
        (math.inf, math.inf, math.inf),
    ],
)
def test_the_keep_alive_that_people_write_is_the_likely_one(
    low: float, high: float, found: float
) -> None:
    assert keepalive.roundest(low, high) == found
