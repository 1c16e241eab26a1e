# SPDX-License-Identifier: Apache-2.0
"""The reasons on recordings of a real server, against the truth that its own log told."""

from pathlib import Path

import pytest

from bench.scoring import Score
from bench.truth import RECORDINGS, judge
from ollama_exporter.recording import read

NEW = ("agents-2", "batch-2", "faults-2", "mixed-3", "office-1", "stuck-2", "thrash-2")
ORDINARY = ("office-1", "batch-2")
SIZES = ("sizes-1",)
OLD = ("old-1",)


def judge_all(names: tuple[str, ...], *, requests: bool) -> Score:
    total = Score()
    for name in names:
        recording = read(RECORDINGS / f"{name}.jsonl.gz")
        truth = RECORDINGS / f"{name}.truth.jsonl"
        total += judge(recording, truth, interval=15.0, requests=requests)
    return total


@pytest.mark.parametrize(
    ("names", "requests", "right", "wrong"),
    [
        pytest.param(NEW, False, 0.83, 0.06, id="polls only, server 0.33"),
        pytest.param(SIZES, False, 0.76, 0.08, id="polls only, models of different sizes"),
        pytest.param(ORDINARY, False, 0.93, 0.015, id="polls only, ordinary use"),
        pytest.param(OLD, False, 0.78, 0.08, id="polls only, server 0.24"),
        pytest.param(NEW + SIZES, True, 0.97, 0.02, id="all requests seen, server 0.33"),
        pytest.param(OLD, True, 0.90, 0.06, id="all requests seen, server 0.24"),
    ],
)
def test_reasons_reach_their_accuracy(
    names: tuple[str, ...], *, requests: bool, right: float, wrong: float
) -> None:
    result = judge_all(names, requests=requests)
    assert result.right >= right * result.judged
    assert result.wrong <= wrong * result.judged


def test_every_visible_unload_is_said_and_none_is_invented() -> None:
    result = judge_all(NEW + SIZES + OLD, requests=False)
    assert (result.missed, result.invented) == (0, 0)


def test_an_expiry_is_called_nothing_else_and_an_eviction_hardly_ever_an_expiry() -> None:
    result = judge_all(NEW + SIZES + OLD, requests=False)
    assert result.said_instead("expired") == 0
    assert result.said_instead("evicted", "expired") <= 1


def test_the_recordings_are_the_project_s_own_copies() -> None:
    assert Path(__file__).parents[1] / "data" / "polls" == RECORDINGS
