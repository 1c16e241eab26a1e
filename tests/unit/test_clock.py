# SPDX-License-Identifier: Apache-2.0
import pytest

from ollama_exporter.clock import Timeline


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
    assert timeline.moment(wall[0]) == timeline.now()
