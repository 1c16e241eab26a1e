# SPDX-License-Identifier: Apache-2.0
"""What seen requests testify about lives and losses: stops, crashes, out of memory, demands.

Each is a fact about one runner; `reasons.py` decides what it proves.
"""

from collections import deque
from collections.abc import Collection, Mapping
from typing import Final

from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.evidence.requests import (
    MOST_OPEN,
    SLOW_FIRST_BYTE,
    SeenRequest,
    SeenRequests,
)
from ollama_exporter.residency.facts import RequestAnswered, RequestEnded, RequestStarted, Snapshot
from ollama_exporter.residency.incarnation import (
    CLOCK_ERROR,
    EFFECT,
    Condemnation,
    Incarnation,
    Key,
)
from ollama_exporter.residency.poll_unloads import Demand, PollUnload, PollUnloads

SAME_MOMENT: Final = 0.1  # requests that fail of one crash fail together
LAST_WITH_ZERO: Final = "its last request ended with keep-alive 0"
OUT_OF_MEMORY: Final = "a request failed with out of memory"


class RequestEvidence:
    """Lays the requests seen on the lives and losses that it is given."""

    def __init__(self, lives: Mapping[Key, Incarnation], losses: PollUnloads) -> None:
        self.traffic = SeenRequests()
        self._told: float | None = None  # a request said that something changed
        self._silent: deque[SeenRequest] = deque()  # for listed models; nothing came of them yet
        self._polled = 0.0  # start of the last answered poll
        self._lives = lives
        self._losses = losses
        self._early: dict[str, float] = {}  # stop calls for what no poll has listed yet
        self._out_of_memory_at: float | None = None

    @property
    def asked(self) -> float | None:
        """When to look because of requests; it may lie ahead.

        Who waits for a listed model as long as for a load may be waiting for one: it was unloaded
        unseen, or is loaded again, and only while that lasts does a poll show it.
        """
        silent = self._silent
        while silent and (silent[0].heard or silent[0].fact.at + SLOW_FIRST_BYTE <= self._polled):
            silent.popleft()
        waited = silent[0].fact.at + SLOW_FIRST_BYTE if silent else None
        return waited if self._told is None else self._told

    def started(self, fact: RequestStarted) -> None:
        """Take a request's begin."""
        request = self.traffic.start(fact)
        life = self._youngest(fact.model)
        if life is not None and not fact.stop and len(self._silent) < MOST_OPEN:
            self._silent.append(request)
        if fact.stop:
            self._told = fact.at
            if life is not None:
                life.condemned = life.condemned or _stopped(fact.at)
            elif len(self._early) < MOST_OPEN:
                self._early[fact.model] = fact.at
        elif (
            life is not None
            and fact.keep_alive is not None
            and not self.traffic.forces_reload(fact, life)
        ):
            life.requested = fact.keep_alive  # who forces a reload never reaches this runner

    def answered(self, fact: RequestAnswered) -> None:
        """Take a request's first byte; a late one came behind a load."""
        request = self.traffic.answer(fact)
        if request is not None and fact.at - request.fact.at >= SLOW_FIRST_BYTE:
            self._told = fact.at

    def ended(self, fact: RequestEnded) -> None:
        """Take a request's end."""
        request = self.traffic.end(fact)
        if request is None or request.fact.stop:
            return
        if fact.failure is not None or request.fact.keep_alive == 0:
            self._told = fact.at
        life = self._youngest(request.model)
        if fact.failure is Failure.OUT_OF_MEMORY:
            self._condemn_all(fact.at)
        elif fact.failure is Failure.CRASHED:
            self._note_crash(request.model, life, fact.at)
        if life is not None:
            self._note_end(life, request, fact)

    def _note_end(self, life: Incarnation, request: SeenRequest, fact: RequestEnded) -> None:
        life.last_use = fact.at
        served = request.answered if fact.failure is None else None
        if life.crashed_at is not None and served and served > life.crashed_at + SAME_MOMENT:
            life.crashed_at = None  # it answers again: reloaded between two polls
        if life.requested == 0 and not self.traffic.of(request.model):
            life.condemned = life.condemned or Condemnation(
                Reason.STOPPED, fact.at, request.fact.at, LAST_WITH_ZERO
            )

    def _condemn_all(self, at: float) -> None:
        """One runner ran out of memory: the server expires them all."""
        self._out_of_memory_at = at
        why = Condemnation(Reason.OUT_OF_MEMORY, at, at, OUT_OF_MEMORY)
        recent = [loss.life for loss in self._losses.pending if loss.high >= at - EFFECT]
        for life in [*self._lives.values(), *recent]:
            life.condemned = life.condemned or why

    def _note_crash(self, name: str, life: Incarnation | None, at: float) -> None:
        if life is not None:
            life.crashed_at = at
        for loss in self._losses.pending:
            if loss.name == name and loss.high >= at - EFFECT:
                loss.life.crashed_at = at

    def _youngest(self, name: str) -> Incarnation | None:
        lives = [life for life in self._lives.values() if life.model.name == name]
        return max(lives, key=lambda life: life.since or 0.0, default=None)

    # -- around a poll ---------------------------------------------------------------------------

    def at_loss(
        self, loss: PollUnload, *, listed: Collection[Key], newcomers: Collection[str]
    ) -> None:
        """Freeze what the requests say at the moment of a loss."""
        mine = self.traffic.of(loss.name)
        loss.busy = any(r.answered is not None and r.fact.at < loss.low for r in mine)
        others = [name for name in newcomers if name != loss.name]
        loss.loaded = tuple(self.traffic.loaded_within(others, loss.low, swift=self._losses.swift))
        names = {key[0] for key in listed} | {key[0] for key in self._lives}
        for request in self.traffic.waiting(loss.high - CLOCK_ERROR):
            own = request.model == loss.name
            reload = own and (
                loss.life.crashed_at is not None
                or self.traffic.forces_reload(request.fact, loss.life)
            )
            if reload or (not own and request.model not in names):
                loss.demand = Demand(request, own=own)
                return

    def at_load(
        self,
        life: Incarnation,
        poll: Snapshot,
        *,
        since: float | None,
        was_listed: bool,
        counts: bool,
    ) -> bool:
        """Lay on a new life what was said of it before a poll listed it.

        Return whether a request for it was seen; `counts`: this load tells of the coverage.
        """
        name = life.model.name
        witnessed = counts and self.traffic.witness_load(name)
        open_ = [r for r in self.traffic.of(name) if not self.traffic.forces_reload(r.fact, life)]
        ended = [r for r in self.traffic.ended if r.model == name]
        for request in sorted([*open_, *ended], key=lambda r: r.fact.at):
            if request.fact.keep_alive is not None:
                life.requested = request.fact.keep_alive
            if request.ended is not None:
                life.last_use = max(request.ended, life.last_use or 0.0)
                if request.failure is Failure.CRASHED and not was_listed:
                    life.crashed_at = request.ended
        stop = self._early.get(name)
        if stop is not None and stop >= poll.started - CLOCK_ERROR:  # under way with that poll
            life.condemned = _stopped(stop)
        oom = self._out_of_memory_at
        if oom is not None and since is not None and since < oom <= poll.ended and not was_listed:
            life.condemned = Condemnation(Reason.OUT_OF_MEMORY, oom, oom, OUT_OF_MEMORY)
        elif ended and not self.traffic.of(name) and life.requested == 0:
            at, began = life.last_use or poll.ended, ended[-1].fact.at
            life.condemned = Condemnation(Reason.STOPPED, at, began, LAST_WITH_ZERO)
        return witnessed

    def polled(self, poll: Snapshot, continued: Mapping[Key, Incarnation]) -> None:
        """Take that a poll was compared; `continued`: the lives that it did not begin."""
        self.traffic.learn_contexts(continued.values())
        self._early = {
            name: at for name, at in self._early.items() if at > poll.started - CLOCK_ERROR
        }
        self._polled = poll.started
        if self._told is not None and self._told <= poll.started:
            self._told = None


def _stopped(at: float) -> Condemnation:
    return Condemnation(Reason.STOPPED, at, at, "a stop call")
