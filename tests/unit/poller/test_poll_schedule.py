# SPDX-License-Identifier: Apache-2.0
import math

import pytest

from ollama_exporter.poller.poll_schedule import JITTER, Cadence, next_poll
from ollama_exporter.residency.events import View

CADENCE = Cadence(interval=15.0)


def view(
    *deadlines: float, last_early: float | None = None, poll_requested_at: float | None = None
) -> View:
    return View((), 0, deadlines, last_early, 1000.0, poll_requested_at)


def due(seen: View, *, cadence: Cadence = CADENCE, failures: int = 0, jitter: float = 0.0) -> float:
    """Seconds from the last poll, at 1000, to the next."""
    return next_poll(cadence, seen, last_started=1000.0, failures=failures, jitter=jitter) - 1000.0


def test_quiet_is_polled_at_the_interval() -> None:
    assert due(view()) == 15.0
    assert due(view(math.inf, 1200.0)) == 15.0


@pytest.mark.parametrize(
    ("deadline", "expected"),
    [(1010.0, 9.4), (1000.9, 1.3), (999.5, 5.7), (1030.0, 15.0)],
    ids=["just before", "just after", "after a memory wait", "far"],
)
def test_deadlines_draw_polls(deadline: float, expected: float) -> None:
    assert due(view(deadline)) == pytest.approx(expected)


def test_alignment_can_be_left_out() -> None:
    assert due(view(1010.0), cadence=Cadence(15.0, aligned=False)) == 15.0


def test_after_an_early_unload_polls_are_denser_for_ten_minutes() -> None:
    assert due(view(last_early=995.0)) == 5.0
    assert due(view(last_early=399.0)) == 15.0
    assert due(view(last_early=995.0), cadence=Cadence(2.0)) == 2.0


def test_a_fact_asks_at_once_but_at_most_once_a_second() -> None:
    assert due(view(poll_requested_at=1007.0)) == pytest.approx(7.05)
    assert due(view(poll_requested_at=1000.2)) == 1.0


@pytest.mark.parametrize(
    ("failures", "expected"), [(1, 2.0), (2, 4.0), (3, 8.0), (4, 15.0), (99, 15.0)]
)
def test_failures_back_off_up_to_the_interval(failures: int, expected: float) -> None:
    assert due(view(1001.0), failures=failures) == expected


def test_jitter_only_shortens() -> None:
    assert due(view(), jitter=0.999) == pytest.approx(15.0 * (1 - JITTER), rel=1e-3)
