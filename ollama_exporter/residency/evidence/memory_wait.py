# SPDX-License-Identifier: Apache-2.0
"""How long this server waits after an unload before it starts what wanted the room. Learned.

What it rests on (the server's scheduler, see `timings.py`):

- a runner's process is killed and the model removed from the list in one step;
- then comes a wait for memory, in which nothing else is unloaded: what ends or expires meanwhile
  is unloaded at its end. There is none on a CPU; it takes about a second where the freed memory
  shows, else 5 s;
- what wanted the room is started when that wait is over, not sooner and not later;
- where no other runner is left, the GPU tells how much memory is free; else the sum of the runners'
  own accounts does, which does not move. So these gaps are learned apart.
"""

from collections import deque
from collections.abc import Collection
from typing import Final

from ollama_exporter.residency import timings

LEARNED: Final = 60  # latest gaps from which the wait is learned
FEW: Final = 3  # gaps that show whether there is a wait at all
ENOUGH: Final = 6  # gaps that show how long it is at most
RARELY: Final = 0.02  # share of the waits that time out at another moment on a machine at rest
MANY: Final = 12  # gaps that show the quick waits, too


class MemoryWait:
    """Learns the gaps between exits and births, and tells which gap is a usual one."""

    def __init__(self) -> None:
        self._apart = {alone: deque[float](maxlen=LEARNED) for alone in (True, False)}

    def learn(self, gap: float, *, alone: bool = False) -> None:
        """Note the time from an exit to the next birth. `alone`: no other runner was left."""
        self._apart[alone].append(max(0.0, gap))

    @property
    def _gaps(self) -> list[float]:
        return [*self._apart[True], *self._apart[False]]

    @property
    def none(self) -> bool:
        """Whether this server does not wait: it has no GPU of its own."""
        at_once = sum(gap < timings.MEMORY_WAIT_LEAST for gap in self._gaps)
        return len(self._gaps) >= FEW and at_once > len(self._gaps) / 2

    @property
    def typical(self) -> float:
        """The time between two unloads of one queue, as it usually is here."""
        low, high = timings.MEMORY_WAIT_TIMED_OUT
        timed_out = sorted(gap for gap in self._gaps if low <= gap <= high)
        if self.none:
            return 0.0
        return timed_out[len(timed_out) // 2] if timed_out else timings.MEMORY_WAIT_USUAL

    @property
    def longest(self) -> float:
        """The longest time between two unloads of one queue."""
        return timings.NO_MEMORY_WAIT if self.none else timings.MEMORY_WAIT

    def usual(self, gap: float, *, alone: bool = False, cpu: bool = False) -> bool | None:
        """Return whether a birth that long after an exit waited for it. None: it may have.

        `alone`: no other runner was left.
        `cpu`: the dead one held no memory of a GPU, so nothing is waited for.
        """
        gaps, (low, high) = self._apart[alone], timings.MEMORY_WAIT_TIMED_OUT
        known = len(gaps)
        slack = 0.03 + 0.1 * gap if gap <= timings.MEMORY_WAIT_QUICK else self._jitter()
        near = sum(-timings.BIRTH_EARLY <= gap - other <= slack for other in gaps)
        # An old server reads the vocabulary first, and a busy machine takes its time.
        if self.none or (cpu and known < ENOUGH):
            return gap <= timings.NO_MEMORY_WAIT or near >= max(2, 0.2 * known)
        if gap < timings.MEMORY_WAIT_LEAST - timings.BIRTH_EARLY:
            return known < FEW
        if near >= max(2, 0.05 * known) or gap <= timings.MEMORY_WAIT_FIRST_LOOK:
            return True
        if gap <= timings.MEMORY_WAIT_QUICK:
            return self._quick(gap, gaps)
        if low <= gap <= high:
            return True if known < ENOUGH else None if self._late() else False
        return None if known < ENOUGH else False

    def _late(self) -> bool:
        """Return whether this machine is busy enough to notice an exit late, or to start late."""
        low, high = timings.MEMORY_WAIT_TIMED_OUT
        timed_out = sorted(gap for gap in self._gaps if low <= gap <= high)
        middle = timed_out[len(timed_out) // 2] if timed_out else 0.0
        far = sum(abs(gap - middle) > timings.BIRTH_LATE for gap in timed_out)
        return far > RARELY * len(timed_out)

    def _jitter(self) -> float:
        """Return by how much waits that time out differ on this machine."""
        low, high = timings.MEMORY_WAIT_TIMED_OUT
        timed_out = sorted(gap for gap in self._gaps if low <= gap <= high)
        if len(timed_out) < ENOUGH:
            return 0.05
        middle = timed_out[len(timed_out) // 2]
        off = sorted(abs(gap - middle) for gap in timed_out)
        return max(timings.BIRTH_ERROR, 2 * off[int(0.8 * len(off))])

    @staticmethod
    def _quick(gap: float, gaps: Collection[float]) -> bool | None:
        """Judge a gap in the range of a wait that ends as the freed memory shows."""
        first, most = timings.MEMORY_WAIT_FIRST_LOOK, timings.MEMORY_WAIT_QUICK
        common = sum(first < other <= most for other in gaps) >= 0.1 * len(gaps)
        if len(gaps) < MANY:
            return True
        if not common:
            return False
        return True if gap <= 1.0 else None
