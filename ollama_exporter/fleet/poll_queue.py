# SPDX-License-Identifier: Apache-2.0
"""One queue for the polls of all targets, on one timer.

Targets that answer and targets that do not have a lane each. So a rack that hangs keeps its own
lane busy, and the polls of the others start when they are due.
"""

import asyncio
import heapq
import itertools
import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

# Polls at the same time. A lane that is full delays its polls and drops none.
MOST_ANSWERING: Final = 512
MOST_FAILING: Final = 256
STARTED_AT_ONCE: Final = 32  # polls begun in one turn of the loop: scrapes come in between
FIRST_SPACING: Final = 0.01  # seconds between the first polls of two targets
FIRST_SPREAD: Final = 15.0  # seconds in which all first polls start, whatever their number
LEAST_PAUSE: Final = 0.05  # seconds between two polls of a target
logger = logging.getLogger(__name__)


class QueuedTarget(Protocol):
    """What the queue needs to know of a target."""

    def due(self) -> float:
        """Return the moment of the next poll."""

    async def turn(self) -> None:
        """Poll."""

    @property
    def is_failing(self) -> bool:
        """Whether the last poll failed."""


class _Entry:
    """A target in the queue. `at`: the moment in the heap that counts; older ones are ignored."""

    __slots__ = ("at", "in_line", "is_new", "target", "task")

    def __init__(self, target: QueuedTarget, at: float) -> None:
        self.target, self.at = target, at
        self.task: asyncio.Task[None] | None = None
        self.in_line = False  # it waits for a place in its lane
        self.is_new = True  # until its first poll


class _Lane:
    """Polls at the same time, and those that wait for a place."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.running = 0
        self.waiting: deque[_Entry] = deque()


class PollQueue:
    """Starts the poll of each target when it is due, one at a time for each target."""

    def __init__(
        self,
        now: Callable[[], float],
        *,
        on_start: Callable[[float], None] = lambda _late: None,
        most_answering: int = MOST_ANSWERING,
        most_failing: int = MOST_FAILING,
    ) -> None:
        """`on_start` is told by how many seconds a poll starts late."""
        self._now, self._on_start = now, on_start
        self._answering, self._failing = _Lane(most_answering), _Lane(most_failing)
        self._entries: dict[QueuedTarget, _Entry] = {}
        self._heap: list[tuple[float, int, _Entry]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._closed = False

    def __len__(self) -> int:
        """Return the number of targets."""
        return len(self._entries)

    @property
    def pending(self) -> int:
        """The number of moments that are kept, also those that no longer count."""
        return len(self._heap)

    @property
    def running(self) -> int:
        """The number of polls under way."""
        return self._answering.running + self._failing.running

    def add(self, target: QueuedTarget, *, first: float) -> None:
        """Poll a target from now on, for the first time at the moment `first`."""
        entry = self._entries[target] = _Entry(target, first)
        self._push(entry, first)

    def remove(self, target: QueuedTarget) -> None:
        """Poll a target no more. A poll under way is cancelled."""
        entry = self._entries.pop(target, None)
        if entry is not None and entry.task is not None:
            entry.task.cancel()

    def changed(self, target: QueuedTarget) -> None:
        """Look again when a target is due."""
        entry = self._entries.get(target)
        if entry is not None and entry.task is None and not entry.in_line:
            due = target.due()
            if due < entry.at:
                self._push(entry, due)

    async def aclose(self) -> None:
        """Cancel everything."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        tasks = [each.task for each in self._entries.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _push(self, entry: _Entry, at: float) -> None:
        entry.at = at
        heapq.heappush(self._heap, (at, next(self._numbers), entry))
        if len(self._heap) > 4 * len(self._entries) + 64:  # moments that no longer count
            self._heap = [each for each in self._heap if self._counts(each[2], each[0])]
            heapq.heapify(self._heap)
        self._arm()

    def _counts(self, entry: _Entry, at: float) -> bool:
        is_ours = self._entries.get(entry.target) is entry
        return is_ours and entry.at == at and entry.task is None and not entry.in_line

    def _arm(self, at: float | None = None) -> None:
        """Set the timer for the first moment in the heap."""
        if self._closed or (at is None and not self._heap):
            return
        moment = self._heap[0][0] if at is None else at
        if self._timer is not None:
            if self._timer_at <= moment:
                return
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer_at = moment
        self._timer = loop.call_later(max(0.0, moment - self._now()), self._start_due)

    def _start_due(self) -> None:
        """Start what is due, but not too much in one turn of the loop."""
        self._timer, self._timer_at = None, math.inf
        now, started = self._now(), 0
        while self._heap and self._heap[0][0] <= now and started < STARTED_AT_ONCE:
            at, _, entry = heapq.heappop(self._heap)
            if not self._counts(entry, at):
                continue
            if not entry.is_new and (due := entry.target.due()) > now + LEAST_PAUSE:
                self._push(entry, due)  # somebody else has polled it
                continue
            lane = self._failing if entry.target.is_failing else self._answering
            if lane.running < lane.most:
                self._start(entry, lane)
                started += 1
            else:
                entry.in_line = True
                lane.waiting.append(entry)
        if self._heap:
            self._arm(now if self._heap[0][0] <= now else None)

    def _start(self, entry: _Entry, lane: _Lane) -> None:
        self._on_start(max(0.0, self._now() - entry.at))
        lane.running += 1
        entry.in_line = entry.is_new = False
        task = entry.task = asyncio.get_running_loop().create_task(entry.target.turn())
        task.add_done_callback(lambda done: self._ended(entry, lane, done))

    def _ended(self, entry: _Entry, lane: _Lane, task: asyncio.Task[None]) -> None:
        lane.running -= 1
        entry.task = None
        if not task.cancelled() and (err := task.exception()) is not None:
            logger.error("Poll of a target failed unexpectedly", exc_info=err)
        if self._closed:
            return
        while lane.waiting and lane.running < lane.most:
            following = lane.waiting.popleft()
            following.in_line = False
            if self._entries.get(following.target) is following:
                self._start(following, lane)
        if self._entries.get(entry.target) is entry:
            # Never at once: a due moment that does not move would spin.
            self._push(entry, max(entry.target.due(), self._now() + LEAST_PAUSE))


def first_polls(count: int, *, now: float, interval: float = FIRST_SPREAD) -> list[float]:
    """Return the moments of the first polls of so many targets, evenly spread."""
    spread = min(FIRST_SPACING * count, FIRST_SPREAD, interval)
    return [now + spread * number / count for number in range(count)]
