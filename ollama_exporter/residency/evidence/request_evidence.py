# SPDX-License-Identifier: Apache-2.0
"""What requests say about the incarnations and unloads that polls show.

Keep-alives, the ends of requests, and which request was waiting for a load. `rules/` decides what
each of them proves.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from ollama_exporter.residency import timings
from ollama_exporter.residency.evidence.polled_queue import queue_before
from ollama_exporter.residency.evidence.queue_replay import condemned
from ollama_exporter.residency.evidence.requests import MOST_OPEN, SeenRequest, SeenRequests
from ollama_exporter.residency.facts import RequestAnswered, RequestEnded, RequestStarted, Snapshot
from ollama_exporter.residency.incarnation import Incarnation, Key
from ollama_exporter.residency.poll_unloads import Gap, PollUnload, PollUnloads
from ollama_exporter.residency.tolerances import Tolerances

MOST_LOST: Final = 16


class RequestEvidence:
    """Attaches the requests seen to the incarnations and unloads that it is given."""

    def __init__(
        self, lives: Mapping[Key, Incarnation], unloads: PollUnloads, tolerances: Tolerances
    ) -> None:
        self.requests = SeenRequests(tolerances)
        self._changed: float | None = None  # when a request said that something changed
        self._silent: deque[SeenRequest] = deque()  # for listed models, without an answer so far
        self._polled = 0.0  # start of the last answered poll
        self._lives = lives
        self._unloads = unloads
        self._lost: deque[PollUnload] = deque(maxlen=MOST_LOST)  # the latest

    @property
    def poll_requested_at(self) -> float | None:
        """When a request wants the next poll; it may lie ahead.

        A request that waits for a listed model as long as for a load may be waiting for one: the
        model was unloaded unseen, or is being reloaded, and a poll shows it only while that lasts.
        """
        silent, slow = self._silent, timings.SLOW_FIRST_BYTE
        while silent and (silent[0].heard or silent[0].fact.at + slow <= self._polled):
            silent.popleft()
        waited = silent[0].fact.at + slow if silent else None
        return waited if self._changed is None else self._changed

    def on_start(self, fact: RequestStarted) -> None:
        """Note a request that started."""
        request = self.requests.on_start(fact)
        life = self._youngest(fact.model)
        if life is not None and not fact.stop and len(self._silent) < MOST_OPEN:
            self._silent.append(request)
        if fact.stop:
            self._changed = fact.at
        else:
            self._note_keep_alive(life, fact)

    def on_response(self, fact: RequestAnswered) -> None:
        """Note a first byte. A late one means that a load was waited for."""
        request = self.requests.on_response(fact)
        if request is None:
            return
        self._note_keep_alive(self._youngest(request.model), request.fact)
        if fact.at - request.fact.at >= timings.SLOW_FIRST_BYTE:
            self._changed = fact.at

    def _note_keep_alive(self, life: Incarnation | None, fact: RequestStarted) -> None:
        """Note the keep-alive that a request gives its runner, unless it needs another runner."""
        named = life is not None and fact.keep_alive is not None
        if life is not None and named and not self.requests.forces_reload(fact, life):
            life.requested = fact.keep_alive

    def on_end(self, fact: RequestEnded) -> None:
        """Note the end of a request."""
        request = self.requests.on_end(fact)
        if request is None or request.fact.stop:
            return
        if fact.failure is not None or request.fact.keep_alive == 0:
            self._changed = fact.at
        life = self._youngest(request.model)
        if life is not None:
            life.last_use = fact.at

    def _youngest(self, name: str) -> Incarnation | None:
        lives = [life for life in self._lives.values() if life.model.name == name]
        return max(lives, key=lambda life: life.since or 0.0, default=None)

    # -- around a poll ---------------------------------------------------------------------------

    def on_unloads(
        self, unloads: Iterable[PollUnload], gap: Gap, *, resident: Collection[str]
    ) -> None:
        """Attach what the requests say at the moment of the unloads of one gap.

        `resident`: names that are listed now, or were until now.
        """
        requests = self.requests
        if not requests.open and not requests.ended:
            return
        asked = {request.model for request in [*requests.open.values(), *requests.ended]}
        newcomers = gap.newcomers & asked
        waiting = requests.waiting(gap.high - timings.CLOCK_ERROR)
        alone = len(gap.lost) == 1
        for unload in unloads:
            if alone:
                queue = queue_before(unload, self._lives.values(), self._lost, requests)
                unload.condemned_for = None if queue is None else condemned(queue)
            if unload.name in asked:
                own = requests.of(unload.name)
                unload.busy = any(r.answered is not None and r.fact.at < unload.low for r in own)
            others = newcomers - {unload.name}
            loaded = requests.loaded_within(others, unload.low, swift=self._unloads.swift)
            unload.served = tuple(loaded)
            unload.demand = requests.demand(
                waiting, unload.life, lambda request: request.model not in resident
            )
            self._lost.append(unload)

    def on_load(self, life: Incarnation, *, counts: bool) -> bool:
        """Attach to a new incarnation what requests said about it before a poll listed it.

        `counts`: this load tells about the coverage. Return whether a request for it was seen.
        """
        name = life.model.name
        open_ = [r for r in self.requests.of(name) if not self.requests.forces_reload(r.fact, life)]
        ended = [r for r in self.requests.ended if r.model == name]
        for request in sorted([*open_, *ended], key=lambda r: r.fact.at):
            if request.fact.keep_alive is not None:
                life.requested = request.fact.keep_alive
            if request.ended is not None:
                life.last_use = max(request.ended, life.last_use or 0.0)
        return counts and self.requests.witness_load(name)

    def on_poll(self, poll: Snapshot, continued: Mapping[Key, Incarnation]) -> None:
        """Note that a poll was compared. `continued`: the incarnations that it did not begin."""
        self.requests.learn_contexts(continued.values())
        self._polled = poll.started
        if self._changed is not None and self._changed <= poll.started:
            self._changed = None
