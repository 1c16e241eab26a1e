# SPDX-License-Identifier: Apache-2.0
"""What holds of idle gaps whatever the requests, the keep-alive and the polls."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ollama_exporter.advice.idle_gaps import IdleGapDetector
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.facts import Snapshot

START: Final = 1_800_000_000.0
NAME: Final = "m:latest"
Uses = list[tuple[float, float]]  # begin and end of each time in use


@st.composite
def uses(draw: st.DrawFn) -> Uses:
    """Draw times in use, one after the other."""
    lengths = st.tuples(st.floats(1.0, 4000.0), st.floats(0.5, 60.0))
    at, found = START + 20.0, Uses()
    for idle, busy in draw(st.lists(lengths, min_size=1, max_size=8)):
        at += idle
        found.append((at, at + busy))
        at += busy
    return found


def polls(used: Uses, keep_alive: float, dt: float) -> Iterator[Snapshot]:
    """Yield what polls show of a server whose loads take no time."""
    until = used[-1][1] + keep_alive + 3 * dt
    for number in range(int((until - START) / dt)):
        at = START + number * dt
        deadline = _deadline(used, keep_alive, at)
        models = () if deadline is None else (RunningModel(NAME, "d", deadline),)
        yield Snapshot(at, at, models)


def _deadline(used: Uses, keep_alive: float, at: float) -> float | None:
    """Return what is listed at a moment; None: nothing."""
    written: float | None = None
    for begin, end in used:
        if at < begin:
            break
        warm = written is not None and written > begin
        if at < end:
            return written if warm else at + keep_alive
        written = end + keep_alive
    return written if written is not None and at < written else None


def idle(used: Uses) -> list[float]:
    return [later[0] - earlier[1] for earlier, later in pairwise(used)]


SLOWLY: Final = settings(deadline=None)  # other tests run beside
KEEP: Final = st.sampled_from([60.0, 300.0, 450.0, 3600.0])
EVERY: Final = st.sampled_from([5.0, 15.0, 30.0])


@SLOWLY
@example([(START + 21.0, START + 22.0), (START + 82.0, START + 86.0)], 60.0, 5.0)
@given(uses(), KEEP, EVERY)
def test_polls_invent_no_gap_and_none_is_negative(used: Uses, keep: float, dt: float) -> None:
    gaps, found = IdleGapDetector(blind=math.inf), list[float]()
    for poll in polls(used, keep, dt):
        found += [gap for _, gap in gaps.on_poll(poll)]
    assert len(found) <= len(idle(used))
    assert all(gap >= 0 for gap in found)
    assert sum(found) <= used[-1][1] - used[0][0] + 2 * dt


@SLOWLY
@given(uses(), KEEP, EVERY)
def test_long_gaps_are_told_within_a_poll_interval_and_the_time_in_use(
    used: Uses, keep: float, dt: float
) -> None:
    slow = max(end - begin for begin, end in used)
    real = [gap for gap in idle(used) if gap > keep + 2 * dt + slow]
    gaps, found = IdleGapDetector(blind=math.inf), list[float]()
    for poll in polls(used, keep, dt):
        found += [gap for _, gap in gaps.on_poll(poll)]
    told = sorted(found, reverse=True)[: len(real)]
    for one, other in zip(told, sorted(real, reverse=True), strict=True):
        assert one == pytest.approx(other, abs=2 * dt + slow)
        assert one > keep


@SLOWLY
@given(uses(), KEEP, EVERY)
def test_where_every_request_is_seen_gaps_are_exact_and_polls_add_none(
    used: Uses, keep: float, dt: float
) -> None:
    gaps, seen = IdleGapDetector(blind=math.inf), list[float]()
    steps: list[tuple[float, int, object]] = [(p.started, 2, p) for p in polls(used, keep, dt)]
    steps += [(begin, 0, "begin") for begin, _ in used] + [(end, 1, "end") for _, end in used]
    for at, _, what in sorted(steps, key=lambda step: step[:2]):
        if isinstance(what, Snapshot):
            assert gaps.on_poll(what) == []
        elif what == "begin":
            gap = gaps.on_request_start(NAME, at)
            seen += [] if gap is None else [gap]
        else:
            gaps.on_request_end(NAME, at, used=True)
    assert seen == pytest.approx(idle(used))


@SLOWLY
@given(uses(), KEEP)
def test_the_keep_alive_is_found(used: Uses, keep: float) -> None:
    apart = [(b[1] - a[1]) % 15.0 for a, b in pairwise(used)]
    assume(all(1.0 < each < 14.0 for each in apart))  # else a deadline moves as if it slid
    gaps = IdleGapDetector(blind=math.inf)
    for poll in polls(used, keep, 15.0):
        gaps.on_poll(poll)
    assert gaps.keep_alive(NAME) in (keep, None)
