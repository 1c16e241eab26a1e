# SPDX-License-Identifier: Apache-2.0
"""The requests seen: who waits for a load, which context each would get, how many of all they are.

Half-seen traffic is worse than none where an absence is to prove something, so the coverage is
learned: the share of the latest loads that had a seen request.
"""

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.residency.facts import RequestAnswered, RequestEnded, RequestStarted
from ollama_exporter.residency.incarnation import Incarnation

COVERAGE_LOADS: Final = 20  # the latest loads that the coverage is learned from
COVERAGE_LEAST: Final = 3  # fewer prove nothing
COVERAGE_SHARE: Final = 0.95  # from this share on, the requests seen count as all
SLOW_FIRST_BYTE: Final = 1.0  # seconds: whoever waited longer waited for a load
MOST_OPEN: Final = 4096  # requests in flight that are remembered; the server queues 512
MOST_CONTEXTS: Final = 1024
MOST_RECENT: Final = 1024  # requests that are remembered after their end
REMEMBERED: Final = 120.0  # seconds for which
K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class SeenRequest:
    """One request seen, as far as it has come."""

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
        """Something came of it."""
        return self.answered is not None or self.ended is not None


class SeenRequests:
    """Requests in flight, those that ended since the last poll, and what was learned from them."""

    def __init__(self) -> None:
        self.open: dict[Hashable, SeenRequest] = {}
        self.ended: list[SeenRequest] = []  # since the last answered poll
        self._answered: list[SeenRequest] = []  # likewise
        self._recent: deque[SeenRequest] = deque(maxlen=MOST_RECENT)  # ended, latest last
        self._witnessed: deque[bool] = deque(maxlen=COVERAGE_LOADS)
        self._explicit: dict[tuple[str, int], int | None] = {}  # (digest, num_ctx) -> context got
        self._automatic: dict[str, int | None] = {}  # digest -> context without num_ctx
        self._default = 0  # largest automatic context of any model

    def start(self, fact: RequestStarted) -> SeenRequest:
        """Note a request that began."""
        request = SeenRequest(fact)
        self.open[fact.id] = request
        if len(self.open) > MOST_OPEN:  # its end was missed: the oldest is forgotten
            del self.open[next(iter(self.open))]
        return request

    def answer(self, fact: RequestAnswered) -> SeenRequest | None:
        """Note its first byte; None: it is not known."""
        request = self.open.get(fact.id)
        if request is not None:
            request.answered = fact.at
            if len(self._answered) < MOST_OPEN:
                self._answered.append(request)
        return request

    def end(self, fact: RequestEnded) -> SeenRequest | None:
        """Note its end; None: it is not known."""
        request = self.open.pop(fact.id, None)
        if request is not None:
            request.ended, request.failure = fact.at, fact.failure
            self._recent.append(request)
            while (self._recent[0].ended or 0.0) < fact.at - REMEMBERED:
                self._recent.popleft()
            if not request.fact.stop and len(self.ended) < MOST_OPEN:
                self.ended.append(request)
        return request

    @property
    def history(self) -> list[SeenRequest]:
        """Return those in flight and those that ended lately, oldest begin first."""
        return sorted([*self._recent, *self.open.values()], key=lambda r: r.fact.at)

    def of(self, name: str) -> list[SeenRequest]:
        """Return the requests in flight for a model, stop calls aside."""
        return [r for r in self.open.values() if r.model == name and not r.fact.stop]

    def waiting(self, before: float) -> list[SeenRequest]:
        """Return those that had no byte yet at that moment, oldest first."""
        waiting = (
            r
            for r in self.open.values()
            if not r.fact.stop and r.answered is None and r.fact.at <= before
        )
        return sorted(waiting, key=lambda r: r.fact.at)

    def loaded_within(self, names: Iterable[str], low: float, *, swift: bool) -> list[SeenRequest]:
        """Return the requests for models listed anew whose loads began after `low`.

        Loads run one at a time in the order of their requests, so at most the oldest request can
        have been loading at that moment; the others came after it.
        """
        oldest: list[SeenRequest] = []
        for name in names:
            mine = [r for r in [*self.of(name), *self.ended] if r.model == name]
            waited = [r for r in mine if r.answered is None or r.answered > low]
            if waited:
                oldest.append(min(waited, key=lambda r: r.fact.at))
        oldest.sort(key=lambda r: r.fact.at)
        return oldest[1:] if oldest and oldest[0].fact.at <= low and not swift else oldest

    # -- contexts --------------------------------------------------------------------------------

    def forces_reload(self, request: RequestStarted, life: Incarnation) -> bool:
        """Tell whether that request cannot be served by that runner, as far as is known."""
        digest, context = life.model.digest, life.model.context
        if request.num_ctx is not None:
            return self._explicit.get((digest, request.num_ctx), request.num_ctx) != context
        automatic = self._automatic.get(digest, self._default or None)
        return automatic is not None and context is not None and automatic != context

    def learn_contexts(self, resident: Iterable[Incarnation]) -> None:
        """After a poll: which context the requests answered since the last one must have had."""
        lives = {life.model.name: life.model for life in resident}
        for request in self._answered:
            model = lives.get(request.model)
            if model is None:
                continue
            if request.fact.num_ctx is not None:
                self._explicit[model.digest, request.fact.num_ctx] = model.context
            else:
                self._automatic[model.digest] = model.context
                self._default = max(self._default, model.context or 0)
        _bound(self._explicit)
        _bound(self._automatic)
        self._answered = []
        self.ended = []

    # -- coverage --------------------------------------------------------------------------------

    def witness_load(self, name: str) -> bool:
        """Note a load and tell whether a request for it was seen."""
        seen = bool(self.of(name)) or any(r.model == name for r in self.ended)
        self._witnessed.append(seen)
        return seen

    @property
    def complete(self) -> bool:
        """The requests seen are (nearly) all there are."""
        known = len(self._witnessed)
        return known >= COVERAGE_LEAST and sum(self._witnessed) >= COVERAGE_SHARE * known


def _bound(known: dict[K, int | None]) -> None:
    while len(known) > MOST_CONTEXTS:
        del known[next(iter(known))]
