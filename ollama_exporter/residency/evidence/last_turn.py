# SPDX-License-Identifier: Apache-2.0
"""What `queue_replay.py` replays, where only polls show the unloads: the last turn of the queue.

A runner that is condemned while busy leaves as its last request ends, and that moment is seen. If
the oldest request waited for a load already when the load before was over, no other model was idle
then, and none has left since, then the scheduler was waiting for a busy victim.
"""

import math
from collections.abc import Collection

from msgspec import Struct

from ollama_exporter.residency import timings
from ollama_exporter.residency.evidence.requests import SeenRequest, SeenRequests, precedes
from ollama_exporter.residency.incarnation import Incarnation
from ollama_exporter.residency.poll_unloads import PollUnload


class Served(Struct, frozen=True):
    """The requests that a runner served until it left."""

    requests: tuple[SeenRequest, ...]
    ended: float  # the last of them


def served(unload: PollUnload, requests: SeenRequests) -> Served | None:
    """Return what it served, if all of that had ended as it left."""
    life, since = unload.life, unload.life.since or -math.inf
    mine = [
        r
        for r in requests.history_of(unload.name)
        if not r.fact.stop
        and r.answered is not None
        and r.answered >= since
        and r.fact.at <= unload.high
        and not requests.forces_reload(r.fact, life)
    ]
    ends = [math.inf if r.ended is None else r.ended for r in mine]
    latest = max(ends, default=math.inf)
    if not unload.low - timings.BEHIND_ANOTHER <= latest <= unload.high:
        return None
    return Served(tuple(mine), latest)


def ended_with_zero(unload: PollUnload, mine: Served, requests: SeenRequests) -> SeenRequest | None:
    """Return the request that left keep-alive 0 behind, if its last ones did.

    Where several came at the same moment, E shows which was the last: it is now.
    """
    named = [r for r in mine.requests if r.fact.keep_alive == 0]
    known = requests.keep_alives(unload.name, at=mine.ended, since=unload.life.since)
    zero = known == {0.0} or (0.0 in known and unload.life.at_now)
    return named[-1] if named and zero else None


class Turn(Struct, frozen=True):
    """What is known around the last turn of the queue before a model left.

    `beside`: what is resident beside it. `lost`: bounds of the latest unloads that polls showed.
    `ran_out`: when a runner last ran out of memory, which condemns all.
    """

    unload: PollUnload
    mine: Served
    beside: Collection[Incarnation]
    requests: SeenRequests
    lost: Collection[tuple[float, float]]
    ran_out: float | None

    def condemned_for(self) -> SeenRequest | None:
        """Return the request for which it was told to leave while it was busy."""
        head = self._head()
        if head is None or self._went_on or self._all_dropped:
            return None
        ends = (_load_end(life, self.requests) for life in self._resident)
        since = max([head.fact.at, *(end for end in ends if end < self.mine.ended)])
        if head.model == self.unload.name:
            return head
        stalled = self.mine.ended - since > timings.PROMPT and not self._another_left(since)
        return head if stalled and self._was_victim(since) else None

    @property
    def _resident(self) -> tuple[Incarnation, ...]:
        return (*self.beside, self.unload.life)

    def _head(self) -> SeenRequest | None:
        """Return the oldest request that waited for a load, unless it is for another listed one."""
        resident = {life.model.name: life for life in self._resident}
        for request in self.requests.waiting(self.mine.ended):
            life = resident.get(request.model)
            if life is None:
                return request
            if self.requests.forces_reload(request.fact, life):
                return request if life is self.unload.life else None
        return None

    @property
    def _went_on(self) -> bool:
        """Whether it was listed after its last request, and no other unload kept it."""
        at = self.mine.ended
        kept = any(at - timings.BEHIND_ANOTHER < m <= at + timings.EFFECT for _, m in self.lost)
        return at < self.unload.low - timings.CLOCK_ERROR and not kept

    @property
    def _all_dropped(self) -> bool:
        since, at = self.unload.life.since or -math.inf, self.mine.ended
        return self.ran_out is not None and since < self.ran_out < at - timings.PROMPT

    def _another_left(self, since: float) -> bool:
        """Return whether another model left after that moment, listed or not: perhaps for it."""
        at, names = self.mine.ended, {life.model.name for life in self._resident}
        dropped = self.ran_out is not None and abs(self.ran_out - at) <= timings.PROMPT
        if any(high >= since and not (dropped and low <= at) for low, high in self.lost):
            return True
        return any(
            r.model not in names and r.answered is not None and since <= (r.ended or at) <= at
            for r in self.requests.history
            if not r.fact.stop
        )

    def _was_victim(self, since: float) -> bool:
        """Return whether it was busy, as all others were, and the first of them to be taken."""
        busy = any(r.fact.at <= since < (r.ended or 0.0) for r in self.mine.requests)
        renewed = any(r.fact.at > since and r.fact.keep_alive for r in self.mine.requests)
        if not busy or renewed:
            return False
        known, default = self.requests.keep_alives, self.requests.default_keep_alive
        mine = known(self.unload.name, at=since, since=self.unload.life.since)
        for life in self.beside:
            others = known(life.model.name, at=since, since=life.since)
            first = [precedes(x, y, default, tie=False) for x in mine for y in others]
            comes_first = any(first) if mine == {0.0} else all(first)
            if not comes_first or not self.requests.may_be_served(life.model.name, since):
                return False
        return True


def _load_end(life: Incarnation, requests: SeenRequests) -> float:
    """Return when its load was over, at the latest."""
    since = life.since or -math.inf
    answers = (
        r.answered
        for r in requests.history_of(life.model.name)
        if r.answered is not None and not r.fact.stop
    )
    return min([life.first_seen, *(m for m in answers if m > since)])
