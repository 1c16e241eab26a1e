# SPDX-License-Identifier: Apache-2.0
"""The requests seen: which wait for a load, which context each gets, and how many of all they are.

Traffic that is half seen is worse than none where the absence of a request is to prove something.
So the coverage is learned: the share of the latest loads for which a request was seen.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import chain
from typing import Final

from msgspec import Struct

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.residency import timings
from ollama_exporter.residency.facts import RequestAnswered, RequestEnded, RequestStarted
from ollama_exporter.residency.incarnation import Incarnation
from ollama_exporter.residency.tolerances import Tolerances

COVERAGE_LOADS: Final = 20  # the latest loads from which the coverage is learned
COVERAGE_LEAST: Final = 3  # fewer prove nothing
MOST_OPEN: Final = 4096  # requests in flight that are remembered; the server queues 512
MOST_CONTEXTS: Final = 1024
MOST_RECENT: Final = 1024  # requests that are remembered after their end
MOST_FAILED: Final = 64  # likewise, of those that failed as their runner did, for longer


class SeenRequest(Struct):
    """One request, as far as it has come."""

    fact: RequestStarted
    answered: float | None = None
    ended: float | None = None
    failure: Failure | None = None

    @property
    def model(self) -> str:
        """Normalised name."""
        return self.fact.model

    @property
    def heard(self) -> bool:
        """Whether it was answered or has ended."""
        return self.answered is not None or self.ended is not None

    @property
    def taken(self) -> float:
        """When its runner took it, at the latest: what waits in the queue is overtaken by others.

        Its keep-alive counts from then on.
        """
        return self.fact.at if self.answered is None else self.answered

    @property
    def named(self) -> float | None:
        """The keep-alive that it names. A stop sets it to 0."""
        return 0.0 if self.fact.stop else self.fact.keep_alive

    def was_answered(self, at: float) -> bool:
        """Return whether it had its first byte by then."""
        return self.answered is not None and self.answered <= at

    def was_over(self, at: float) -> bool:
        """Return whether it had ended by then."""
        return self.ended is not None and self.ended <= at


def last_served(requests: Sequence[SeenRequest]) -> list[SeenRequest]:
    """Return which of some requests may have been the last that the runner took."""
    latest = max((r.taken for r in requests), default=0.0) - timings.SAME_DECISION
    return [r for r in requests if r.taken >= latest]


def precedes(mine: float | None, other: float | None, default: float | None, *, tie: bool) -> bool:
    """Return whether the scheduler evicts the runner with this keep-alive before the other one.

    None is the server's default; one that is not known is hardly ever 0. `tie`: the answer for two
    of the same keep-alive.
    """
    if mine == other:
        return tie
    mine, other = default if mine is None else mine, default if other is None else other
    if mine is None or other is None:
        return mine == 0
    return mine < other


class SeenRequests:
    """Requests in flight, those that ended since the last poll, and what they have taught."""

    def __init__(self, tolerances: Tolerances) -> None:
        self._tolerances = tolerances
        self.open: BoundedDict[Hashable, SeenRequest] = BoundedDict(MOST_OPEN)
        self.ended: list[SeenRequest] = []  # since the last answered poll
        self._answered: list[SeenRequest] = []  # likewise
        self._recent: deque[SeenRequest] = deque(maxlen=MOST_RECENT)  # ended, latest last
        self._history: list[SeenRequest] | None = None  # until one begins or ends
        self._by_model: dict[str, list[SeenRequest]] = {}  # of the history
        self.failures: deque[SeenRequest] = deque(maxlen=MOST_FAILED)
        self._witnessed: deque[bool] = deque(maxlen=COVERAGE_LOADS)
        # (digest, num_ctx) -> context got, and digest -> context without num_ctx
        self._explicit: BoundedDict[tuple[str, int], int | None] = BoundedDict(MOST_CONTEXTS)
        self._automatic: BoundedDict[str, int | None] = BoundedDict(MOST_CONTEXTS)
        self._default = 0  # largest automatic context of any model
        self.default_keep_alive: float | None = None  # that the server gives where none is named

    def on_start(self, fact: RequestStarted) -> SeenRequest:
        """Add a request that started."""
        request = SeenRequest(fact)
        self.open[fact.id], self._history = request, None
        return request

    def on_response(self, fact: RequestAnswered) -> SeenRequest | None:
        """Note the first byte of its answer. Return None if the request is not known."""
        request = self.open.get(fact.id)
        if request is not None:
            request.answered = fact.at
            if len(self._answered) < MOST_OPEN:
                self._answered.append(request)
        return request

    def on_end(self, fact: RequestEnded) -> SeenRequest | None:
        """Note its end. Return None if the request is not known."""
        request = self.open.pop(fact.id, None)
        if request is not None:
            request.ended, request.failure = fact.at, fact.failure
            if fact.failure in (Failure.CRASHED, Failure.OUT_OF_MEMORY):
                self.failures.append(request)
            self._recent.append(request)
            self._history = None
            while (self._recent[0].ended or 0.0) < fact.at - timings.REQUESTS_KEPT:
                self._recent.popleft()
            if not request.fact.stop and len(self.ended) < MOST_OPEN:
                self.ended.append(request)
        return request

    @property
    def history(self) -> Sequence[SeenRequest]:
        """Those in flight and those that ended lately, in order of their starts."""
        if self._history is None:
            # A queue may be thousands long, and an unload asks for this dozens of times.
            both = [*self._recent, *self.open.values()]
            self._history = sorted(both, key=lambda r: r.fact.at)
            self._by_model = {}
            for request in self._history:
                self._by_model.setdefault(request.model, []).append(request)
        return self._history

    def history_of(self, *names: str) -> Sequence[SeenRequest]:
        """Return those of the history that are for one of these models."""
        if not self.history:
            return ()
        found = [self._by_model[name] for name in {*names} if name in self._by_model]
        if len(found) == 1:
            return found[0]
        return sorted(chain.from_iterable(found), key=lambda r: r.fact.at)

    @property
    def out_of_memory(self) -> list[float]:
        """When requests failed because a runner ran out of memory."""
        failed = [r for r in self.failures if r.failure is Failure.OUT_OF_MEMORY]
        return [r.ended for r in failed if r.ended is not None]

    def of(self, name: str) -> list[SeenRequest]:
        """Return the requests in flight for a model, without stop calls, oldest first."""
        return [r for r in self.history_of(name) if r.ended is None and not r.fact.stop]

    def waiting(self, at: float, *, late: float = 0.0) -> list[SeenRequest]:
        """Return those that had no answer yet at that moment, oldest first.

        `late`: seconds by which a request may be seen to start too late.
        """
        return [
            r
            for r in self.history
            if not r.fact.stop
            and r.fact.at <= at + late
            and not r.was_answered(at)
            and not r.was_over(at)
        ]

    def demand(
        self,
        waiting: Iterable[SeenRequest],
        life: Incarnation,
        is_absent: Callable[[SeenRequest], bool],
    ) -> SeenRequest | None:
        """Return the oldest that wants a load: of a model that is absent, or to reload this one.

        A request to renew it is announced: it has the context that it has, so other options.
        """
        for request in waiting:
            if request.model != life.model.name:
                if is_absent(request):
                    return request
            elif request.fact.announced or self.forces_reload(request.fact, life):
                return request
        return None

    def loaded_within(self, names: Iterable[str], low: float, *, swift: bool) -> list[SeenRequest]:
        """Return the requests for newly listed models whose loads began after `low`.

        Loads run one at a time in the order of their requests, so at most the oldest request can
        have been loading at that moment; the others came after it.
        """
        oldest: list[SeenRequest] = []
        for name in names if self.open or self.ended else ():
            mine = [r for r in [*self.of(name), *self.ended] if r.model == name]
            waited = [r for r in mine if r.answered is None or r.answered > low]
            if waited:
                oldest.append(min(waited, key=lambda r: r.fact.at))
        oldest.sort(key=lambda r: r.fact.at)
        return oldest[1:] if oldest and oldest[0].fact.at <= low and not swift else oldest

    # -- contexts --------------------------------------------------------------------------------

    def forces_reload(self, request: RequestStarted, life: Incarnation) -> bool:
        """Return whether that runner cannot serve that request, as far as is known."""
        return self.wants_other(request, life.model.digest, life.model.context)

    def wants_other(self, request: RequestStarted, digest: str, context: int | None) -> bool:
        """Return the same for a runner of these weights that was loaded with that context."""
        if request.num_ctx is not None:
            return self._explicit.get((digest, request.num_ctx), request.num_ctx) != context
        automatic = self._automatic.get(digest, self._default or None)
        return automatic is not None and context is not None and automatic != context

    def knows_context(self, request: RequestStarted, digest: str) -> bool:
        """Return whether an earlier answer showed which context such a request gets."""
        return request.num_ctx is not None or digest in self._automatic

    def learn_contexts(self, resident: Iterable[Incarnation]) -> None:
        """Learn from a poll which context the requests answered since the last one had.

        And which keep-alive a model has for which no request named one.
        """
        lives = {life.model.name: life for life in resident}
        for known in lives.values():
            if known.requested is None and known.revealed is not None:
                self.default_keep_alive = known.revealed
        for request in self._answered:
            life = lives.get(request.model)
            if life is None:
                continue
            model = life.model
            if request.fact.num_ctx is not None:
                self._explicit[model.digest, request.fact.num_ctx] = model.context
            else:
                self._automatic[model.digest] = model.context
                self._default = max(self._default, model.context or 0)
        self._answered = []
        self.ended = []

    # -- coverage --------------------------------------------------------------------------------

    def witness_load(self, name: str) -> bool:
        """Note a load; return whether a request for it was seen."""
        mine = [*self.of(name), *(r for r in self.ended if r.model == name)]
        if not mine or not all(request.fact.announced for request in mine):
            self._witnessed.append(bool(mine))
        return bool(mine)

    @property
    def complete(self) -> bool:
        """Whether the requests seen are (nearly) all there are."""
        known = len(self._witnessed)
        enough = self._tolerances.coverage * known
        return known >= COVERAGE_LEAST and sum(self._witnessed) >= enough
