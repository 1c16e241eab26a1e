# SPDX-License-Identifier: Apache-2.0
"""Exits of runner processes until their reasons are settled, and the queues that they form."""

import math
from collections import deque
from typing import Final, Self

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.evidence.memory_wait import MemoryWait
from ollama_exporter.residency.evidence.runner_processes import RunnerProcess
from ollama_exporter.residency.incarnation import Incarnation, Key
from ollama_exporter.residency.unload import ModelUnload, PendingUnloads

MOST_EXITS: Final = 128


class ProcessExit(ModelUnload, kw_only=True, eq=False):
    """A runner that a poll had listed, or that is known to have been loaded, has exited."""

    runner: RunnerProcess
    polled: float | None = None  # start of the last answered poll since that could tell
    seen_dead: float | None = None  # start of the first poll that still listed it
    alone_at: float | None = None  # start of the first scan since: it found no successor
    dead_at: float | None = None  # start of a poll that did, too, and began clearly later
    removed: float | None = None  # end of the first poll that did not

    @classmethod
    def of(cls, life: Incarnation, runner: RunnerProcess, at: float) -> Self:
        """Return the exit of an incarnation's process, noticed at that moment."""
        low = at - timings.NOTICED_AT_ONCE if runner.alive is None else runner.alive
        return cls(life, low, at, runner=runner)

    @property
    def at(self) -> float:
        """When it exited, or when that was noticed."""
        return self.high

    @property
    def known_at(self) -> float:
        """When it was known, or when polls last told something of it."""
        return max(self.high, self.polled or 0.0)

    @property
    def listed_dead(self) -> bool:
        """Whether it was listed clearly after its exit: the server did not end it."""
        return self.dead_at is not None

    @property
    def left(self) -> float:
        """When the server removed it, as far as known: at its exit, or when polls showed it."""
        return self.at if not self.listed_dead or self.removed is None else self.removed

    def is_same_entry(self, model: RunningModel) -> bool:
        """Return whether a listed model is the dead one, by its deadline, and not a successor.

        The deadline is the one that it had, or was written as its requests failed with it.
        """
        life = self.life
        if life.first_seen > self.at:
            return False  # no listing before its exit had it
        if life.is_back(model):
            return True
        keep_alive = life.keep_alive
        if keep_alive is None or not 0 < keep_alive < math.inf:
            return False
        expires = model.expires_at + life.expires - life.model.expires_at  # on our timeline
        return abs(expires - keep_alive - self.at) <= timings.PROMPT


class ProcessExits:
    """Recent exits, and those that may be listed still."""

    def __init__(self, pending: PendingUnloads) -> None:
        self._pending = pending
        self.listed: dict[Key, ProcessExit] = {}  # no poll has shown yet that they are not
        self.memory_wait = MemoryWait()
        self.out_of_memory: deque[float] = deque(maxlen=16)  # when a runner ran out of memory
        self.server_died: float | None = None
        self.died_with_server = False  # runners that it had not ended before
        self._recent: deque[ProcessExit] = deque(maxlen=MOST_EXITS)

    def add(self, exited: ProcessExit) -> None:
        """Add an exit."""
        while self._recent and self._recent[0].at < exited.at - timings.EXITS_KEPT:
            self._recent.popleft()
        self._recent.append(exited)
        self._pending.add(exited)
        self.listed[exited.key] = exited

    def on_out_of_memory(self, at: float) -> None:
        """Note that a runner ran out of memory. Each of its requests tells the same."""
        if all(abs(at - known) > timings.SAME_MOMENT for known in self.out_of_memory):
            self.out_of_memory.append(at)

    @property
    def pending(self) -> list[ProcessExit]:
        """Those whose reason is not settled, oldest first."""
        return self._pending.of(ProcessExit)

    @property
    def recent(self) -> list[ProcessExit]:
        """The recent ones in order of time, settled or not."""
        return sorted(self._recent, key=lambda exited: exited.at)

    def after(self, exited: ProcessExit) -> list[ProcessExit]:
        """Return those that a server that went on unloaded after it.

        Those that were listed after their exit were not unloaded, nor those that ended with the
        server.
        """
        return [
            other
            for other in self.recent
            if other.at > exited.at + timings.SAME_MOMENT
            and not other.listed_dead
            and other.reason is not Reason.SERVER_RESTARTED
        ]

    def queue_start(self, exited: ProcessExit, births: list[float]) -> float:
        """Return since when one unload had followed the other without a pause when it exited.

        `births`: a birth at the usual moment shows that the wait before it was over.
        """
        start, same = exited.at, timings.SAME_MOMENT
        earlier = sorted((x for x in self.recent if _before(x, exited)), key=_end, reverse=True)
        for other in earlier:
            end = _end(other)
            if start - end > self.memory_wait.longest:
                break
            latest = min(start - same, end + timings.MEMORY_WAIT)
            over = (born for born in births if end + same < born < latest)
            if any(self.memory_wait.usual(born - end) for born in over):
                break
            start = end
        return min(start, exited.at)


def _before(other: ProcessExit, exited: ProcessExit) -> bool:
    if other.at >= exited.at:
        return False
    if not other.listed_dead:
        return True
    return other.removed is not None and other.removed < exited.at + timings.REMOVAL_SEEN_LATE


def _end(exited: ProcessExit) -> float:
    """Return when its unload began. To remove a dead runner takes a wait, too."""
    if not exited.listed_dead or exited.removed is None:
        return exited.at
    return max(exited.polled or exited.at, exited.removed - 1.0)
