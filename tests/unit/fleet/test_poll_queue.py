# SPDX-License-Identifier: Apache-2.0
"""The queue of a fleet's polls, on the virtual clock."""

import asyncio
import itertools
import random
from collections.abc import Callable
from typing import Final

from ollama_exporter.fleet.poll_queue import STARTED_AT_ONCE, PollQueue, first_polls
from ollama_exporter.poller.poll_schedule import Cadence, next_poll
from ollama_exporter.residency.events import View
from tests.support.virtual import now, run_virtually

INTERVAL: Final = 15.0
TIMEOUT: Final = 10.0
EMPTY: Final = View((), 0, (), None, None)


class Target:
    """A target that answers after a while, or never within its time."""

    def __init__(self, *, takes: float = 0.0, spread: float = 0.5) -> None:
        self.takes = takes
        self.started: list[float] = []
        self.failures = 0
        self._cadence = Cadence(INTERVAL, spread=spread)
        self._random = random.Random(id(self))  # noqa: S311 - jitter
        self._jitter = 0.0
        self.earlier: float | None = None

    def due(self) -> float:
        if self.earlier is not None:
            return self.earlier
        last = self.started[-1] if self.started else 0.0
        return next_poll(
            self._cadence, EMPTY, last_started=last, failures=self.failures, jitter=self._jitter
        )

    @property
    def is_failing(self) -> bool:
        return self.failures > 0

    async def turn(self) -> None:
        self.started.append(now())
        self.earlier, self._jitter = None, self._random.random()
        await asyncio.sleep(min(self.takes, TIMEOUT))
        self.failures = self.failures + 1 if self.takes >= TIMEOUT else 0


def running(
    targets: list[Target],
    seconds: float,
    check: Callable[[PollQueue], None],
    *,
    act: Callable[[PollQueue], None] | None = None,
    failing: int = 256,
) -> None:
    async def main() -> None:
        queue = PollQueue(now, most_failing=failing, most_answering=512)
        moments = first_polls(len(targets), now=now())
        for target, first in zip(targets, moments, strict=True):
            queue.add(target, first=first)
        for _ in range(10):
            await asyncio.sleep(seconds / 10)
            if act is not None:
                act(queue)
        check(queue)
        await queue.aclose()
        assert queue.running == 0

    run_virtually(main())


def latest_gap(target: Target) -> float:
    return max(b - a for a, b in itertools.pairwise(target.started))


def test_first_polls_are_spread_and_all_within_fifteen_seconds() -> None:
    assert first_polls(1, now=5.0) == [5.0]
    assert first_polls(10, now=0.0)[-1] < 0.1
    moments = first_polls(3000, now=0.0)
    assert moments[-1] < 15.0
    assert max(b - a for a, b in itertools.pairwise(moments)) < 0.006
    assert first_polls(0, now=0.0) == []


def test_targets_that_hang_cost_those_that_answer_nothing() -> None:
    good = [Target(takes=0.01) for _ in range(20)]
    bad = [Target(takes=1000.0) for _ in range(400)]

    def check(queue: PollQueue) -> None:
        for target in good:
            assert len(target.started) >= 300 / INTERVAL - 1
            assert latest_gap(target) <= INTERVAL + 0.1
        assert all(target.started for target in bad)
        assert queue.running <= 20 + 512

    running([*bad, *good], 300.0, check, failing=16)


def test_hanging_targets_are_never_more_than_their_lane_takes() -> None:
    bad, most = [Target(takes=1000.0) for _ in range(100)], list[int]()

    def check(_: PollQueue) -> None:
        assert max(most[3:]) <= 8
        assert min(len(target.started) for target in bad) >= 2  # in turn, none is forgotten

    running(bad, 400.0, check, act=lambda queue: most.append(queue.running), failing=8)


def test_after_an_outage_the_targets_do_not_come_back_together() -> None:
    targets = [Target(takes=0.01) for _ in range(1000)]

    async def main() -> None:
        queue = PollQueue(now)
        for target in targets:
            queue.add(target, first=now() + 1.0)
        await asyncio.sleep(30.0)
        for target in targets:  # the network was away: each one failed at the same moment
            target.failures, target.started[-1:] = 3, [now()]
            queue.changed(target)
        await asyncio.sleep(20.0)
        again = sorted(target.started[-1] for target in targets)
        busiest = max(sum(at <= each < at + 0.5 for each in again) for at in again)
        assert busiest < len(targets) / 5
        await queue.aclose()

    run_virtually(main())


def test_a_deadline_brings_a_poll_forward_and_a_removed_target_is_polled_no_more() -> None:
    target, other = Target(), Target()

    async def main() -> None:
        queue = PollQueue(now)
        queue.add(target, first=0.0)
        queue.add(other, first=0.0)
        await asyncio.sleep(1.0)
        target.earlier = 3.0
        queue.changed(target)
        await asyncio.sleep(4.0)
        assert target.started == [0.0, 3.0]
        queue.remove(other)
        queue.changed(other)
        await asyncio.sleep(100.0)
        assert len(other.started) == 1
        assert len(queue) == 1
        await queue.aclose()

    run_virtually(main())


def test_a_poll_that_somebody_else_made_is_not_made_again() -> None:
    target = Target()

    async def main() -> None:
        queue = PollQueue(now)
        queue.add(target, first=0.0)
        await asyncio.sleep(14.0)
        await target.turn()  # a scrape's
        await asyncio.sleep(10.0)
        assert len(target.started) == 2
        await queue.aclose()

    run_virtually(main())


def test_many_that_are_due_at_once_leave_room_for_others() -> None:
    targets = [Target() for _ in range(10 * STARTED_AT_ONCE)]

    async def main() -> None:
        queue = PollQueue(now)
        for target in targets:
            queue.add(target, first=1.0)
        await asyncio.sleep(1.0)
        counts = []
        while not all(target.started for target in targets):
            counts.append(sum(bool(target.started) for target in targets))
            await asyncio.sleep(0)
        assert len(counts) >= 5  # turns of the loop in which others ran too
        await queue.aclose()

    run_virtually(main())


def test_a_poll_that_raises_is_logged_and_the_target_is_polled_again() -> None:
    class Broken(Target):
        async def turn(self) -> None:
            await super().turn()
            raise RuntimeError

    target = Broken()
    running([target], 100.0, lambda _: None)
    assert len(target.started) > 3


def test_the_heap_does_not_grow_with_changes() -> None:
    target = Target()

    async def main() -> None:
        queue = PollQueue(now)
        queue.add(target, first=0.0)
        await asyncio.sleep(1.0)
        for number in range(10_000):
            target.earlier = 14.0 - number / 1000
            queue.changed(target)
        assert queue.pending < 100
        await queue.aclose()

    run_virtually(main())


def test_a_target_that_leaves_while_it_is_polled_is_polled_no_more() -> None:
    target, other = Target(takes=8.0), Target()

    def act(queue: PollQueue) -> None:
        queue.remove(target)
        queue.remove(target)  # twice is once

    def check(queue: PollQueue) -> None:
        assert queue.running == 0
        assert len(target.started) == 1
        assert len(other.started) > 1

    running([target, other], 60.0, check, act=act)
