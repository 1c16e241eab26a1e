# SPDX-License-Identifier: Apache-2.0
import math

import pytest

from ollama_exporter.endpoint.server_clock import KEPT_STEPS, ServerClock


def observe(clock: ServerClock, at: float, *, offset: float) -> None:
    """An answer at our moment `at` from a server whose clock is ahead by `offset`."""
    clock.observe(math.floor(at + offset), started=at, ended=at + 0.002)


def test_unknown_clocks_are_taken_as_ours() -> None:
    assert ServerClock().ours(1234.5, 0) == 1234.5


def test_a_synchronised_clock_needs_no_correction() -> None:
    clock = ServerClock()
    for at in (100.0, 107.31, 115.77):
        observe(clock, at, offset=0.0)
    assert clock.ours(500.0, clock.epoch) == 500.0


@pytest.mark.parametrize("offset", [3600.0, -42.37, 0.53])
def test_many_answers_narrow_the_offset(offset: float) -> None:
    clock = ServerClock()
    for number in range(40):
        observe(clock, 100.0 + number * 15.13, offset=offset)
    assert clock.ours(5000.0 + offset, clock.epoch) == pytest.approx(5000.0, abs=0.05)


def test_a_step_begins_an_epoch_and_leaves_older_moments_alone() -> None:
    clock = ServerClock()
    for at in (100.0, 107.3, 115.6):
        observe(clock, at, offset=0.0)
    before = clock.epoch
    for at in (130.0, 137.3, 145.6):
        observe(clock, at, offset=3600.0)
    assert clock.epoch == before + 1
    assert clock.ours(200.0, before) == 200.0
    assert clock.ours(3800.0, clock.epoch) == pytest.approx(200.0, abs=1.0)


def test_steps_are_kept_up_to_a_limit() -> None:
    clock = ServerClock()
    for step in range(100):
        observe(clock, 100.0 + step * 15, offset=step * 100.0)
    assert clock.epoch == 99
    assert clock.ours(0.0, 0) == clock.ours(0.0, clock.epoch - KEPT_STEPS + 1)


def test_drift_is_no_step() -> None:
    clock = ServerClock()
    for number in range(2000):
        at = 100.0 + number * 15.13
        observe(clock, at, offset=at * 20e-6)
    assert clock.epoch == 0
