# SPDX-License-Identifier: Apache-2.0
"""Deaths of runners until their reasons are settled, and the scheduler's rhythm around them.

What the rhythm rests on (the server's scheduler):

- a runner's process is killed and the model taken off the list in one step;
- then comes a wait for memory, in which nothing else is unloaded: what ends or expires meanwhile
  dies at its end. It is none on a CPU, about a second where the freed memory shows, else 5 s;
- whoever wanted the room is started when that wait is over, not sooner and not later.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.evidence.runner_processes import SAME, RunnerProcess
from ollama_exporter.residency.incarnation import Incarnation, Key

LONGEST_WAIT: Final = 5.6  # for memory: the server's time-out, a look at the GPUs and a kill
SHORTEST_WAIT: Final = 0.2  # the first look at the freed memory comes after 0.25 s
QUICK_WAIT: Final = 1.6  # where the freed memory shows it has done so by then
TIMED_OUT: Final = (4.85, 5.3)  # the time-out, until its exact length is known
FIRST_LOOK: Final = 0.36  # found free at the first look
BRIEF: Final = 0.5  # between two unloads where nothing is waited for
SEEN_LATE: Final = 0.7  # a poll a moment after a removal may be the first to show it
LEARNED: Final = 60  # latest gaps that the wait is learned from
BIRTH_EARLY: Final = 0.05  # the recorded birth of a process may lie before its cause
LEAST_JITTER: Final = 0.02  # the birth of a process is known to 10 ms
ENOUGH: Final = 6  # so many gaps show whether there is a wait and how long it is at most
MANY: Final = 12  # so many show the quick waits, too
KEPT: Final = 128
KEPT_FOR: Final = 300.0


@dataclass(slots=True, eq=False)
class ProcessExit:
    """A runner that a poll had listed, or that is known to have been loaded, is dead."""

    life: Incarnation
    runner: RunnerProcess
    at: float
    polled: float | None = None  # start of the last answered poll since that could tell
    listed_dead: bool = False  # that poll still listed it
    seen_dead: float | None = None  # start of the first poll that did
    removed: float | None = None  # end of the first poll that did not
    reason: Reason | None = None
    by: str | None = None

    @property
    def key(self) -> Key:
        """Name and digest of what died."""
        return self.life.model.key

    @property
    def name(self) -> str:
        """Name of what died."""
        return self.life.model.name


class MemoryWait:
    """How long this server waits after an unload before it starts what wanted the room. Learned."""

    def __init__(self) -> None:
        self._gaps: deque[float] = deque(maxlen=LEARNED)

    def learn(self, gap: float) -> None:
        """Take the time from a death to the next birth."""
        self._gaps.append(max(0.0, gap))

    @property
    def none(self) -> bool:
        """There is no wait: no GPU of its own."""
        at_once = sum(gap < SHORTEST_WAIT for gap in self._gaps)
        return len(self._gaps) >= 3 and at_once > len(self._gaps) / 2  # noqa: PLR2004

    @property
    def longest(self) -> float:
        """The longest time between two unloads of one queue."""
        return BRIEF if self.none else LONGEST_WAIT

    def usual(self, gap: float, *, slower: bool = False, cpu: bool = False) -> bool | None:
        """Tell whether a birth that long after a death waited for it. None: cannot be told.

        `slower`: a dead runner is still listed; asking it slows the look at the memory down.
        `cpu`: the dead one held no memory of a GPU; then nothing is waited for.
        """
        known = len(self._gaps)
        slack = 0.2 if slower else 0.03 + 0.1 * gap if gap <= QUICK_WAIT else self._jitter()
        near = sum(-BIRTH_EARLY <= gap - other <= slack for other in self._gaps)
        # An old server reads the vocabulary first, a busy machine takes its time.
        if self.none or (cpu and known < ENOUGH):
            return gap <= BRIEF or near >= max(2, 0.2 * known)
        if gap < SHORTEST_WAIT:
            return known < 3  # noqa: PLR2004
        if near >= max(2, 0.05 * known) or gap <= FIRST_LOOK:
            return True
        if gap <= QUICK_WAIT:
            return self._quick(gap)
        if TIMED_OUT[0] <= gap <= TIMED_OUT[1]:
            return known < ENOUGH
        return None if known < ENOUGH else False

    def _jitter(self) -> float:
        """Return by how much waits that time out differ here."""
        timed_out = sorted(gap for gap in self._gaps if TIMED_OUT[0] <= gap <= TIMED_OUT[1])
        if len(timed_out) < ENOUGH:
            return 0.05
        middle = timed_out[len(timed_out) // 2]
        off = sorted(abs(gap - middle) for gap in timed_out)
        return max(LEAST_JITTER, 2 * off[int(0.8 * len(off))])

    def _quick(self, gap: float) -> bool | None:
        """Judge a gap in the range of a wait that ends as the freed memory shows."""
        quick = sum(SHORTEST_WAIT < other <= QUICK_WAIT for other in self._gaps)
        common = quick >= 0.1 * len(self._gaps)
        if len(self._gaps) < MANY:
            return True
        if gap <= 1.0:
            return True if common else None
        return None if common else False


class ProcessExits:
    """Recent deaths, those whose reason is pending, and those that are listed still."""

    def __init__(self) -> None:
        self.pending: list[ProcessExit] = []
        self.listed: dict[Key, ProcessExit] = {}  # perhaps listed still: no poll has said otherwise
        self.rhythm = MemoryWait()
        self.out_of_memory: deque[float] = deque(maxlen=16)  # when a runner ran out of memory
        self.server_died: float | None = None
        self._recent: deque[ProcessExit] = deque(maxlen=KEPT)

    def add(self, death: ProcessExit) -> None:
        """Take a death."""
        while self._recent and self._recent[0].at < death.at - KEPT_FOR:
            self._recent.popleft()
        self._recent.append(death)
        self.pending.append(death)
        self.listed[death.key] = death

    def settle(self, death: ProcessExit, reason: Reason, by: str | None) -> None:
        """Note its reason."""
        death.reason, death.by = reason, by
        self.pending.remove(death)

    @property
    def recent(self) -> list[ProcessExit]:
        """The recent ones in order of time, settled or not."""
        return sorted(self._recent, key=lambda death: death.at)

    def after(self, death: ProcessExit) -> list[ProcessExit]:
        """Those that were unloaded after it, by a server that went on.

        The dead that were listed still were not, and those that died with the server neither.
        """
        return [
            other
            for other in self.recent
            if other.at > death.at + SAME
            and not other.listed_dead
            and other.reason is not Reason.SERVER_RESTARTED
        ]

    def queue_start(self, death: ProcessExit, births: list[float]) -> float:
        """Return since when one unload had followed the other without a pause when it died.

        `births`: a birth at the usual moment shows that the wait before it was over.
        """
        start = death.at
        for other in sorted((x for x in self.recent if _before(x, death)), key=_end, reverse=True):
            end = _end(other)
            if start - end > self.rhythm.longest:
                break
            over = (b for b in births if end + SAME < b < start - SAME and b - end < LONGEST_WAIT)
            if any(self.rhythm.usual(born - end) for born in over):
                break
            start = end
        return min(start, death.at)


def _before(other: ProcessExit, death: ProcessExit) -> bool:
    if other.at >= death.at:
        return False
    if not other.listed_dead:
        return True
    return other.removed is not None and other.removed < death.at + SEEN_LATE


def _end(death: ProcessExit) -> float:
    """When its unload began: to tidy a dead one away takes a wait, too."""
    if not death.listed_dead or death.removed is None:
        return death.at
    return max(death.polled or death.at, death.removed - 1.0)
