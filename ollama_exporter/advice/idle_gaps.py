# SPDX-License-Identifier: Apache-2.0
"""Detects idle gaps of models: from requests if they are observed, else from deadlines. Pure.

The server writes a deadline E when the last request ends, so that request ended at E minus the
keep-alive. Two deadlines show the time between two such ends even if the keep-alive is unknown.
Polls do not show all: of several uses between two polls only the last, nothing of how long an
answer took (it counts as idle time), and no use of a model that never expires.
"""

import math
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.endpoint.server_clock import ServerClock
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.facts import Snapshot
from ollama_exporter.residency.incarnation import slides
from ollama_exporter.residency.timings import BEHIND_ANOTHER

MOST_MODELS: Final = 1024
SLACK: Final = 0.5  # seconds by which the bounds of a keep-alive may be off
ROUND: Final = (3600, 1800, 900, 600, 300, 60, 30, 10, 5, 1)  # seconds: people choose round values


class ModelUse(Struct):
    """What is known about the use of one model. Moments on our timeline."""

    ended: float | None = None  # end of the last use, if it is certain
    deadline: float | None = None  # E that shows the last end once the keep-alive is known
    open: int = 0  # observed requests in progress
    by_slots: bool = False  # one of them is work that only the slots showed
    seen: float = -math.inf  # end of the last observed request, or of our own last use
    low: float = 0.0  # bounds of the keep-alive
    high: float = math.inf
    announced: float | None = None  # E as last listed, by the server's clock; None: not listed
    pinned: bool = False  # it never expired when it was last listed
    fresh: bool = False  # E may still slide: this is the first request after the load
    listed: float = 0.0  # the first poll that listed this E
    took: float = 0.0  # how long that one took, seconds
    before: float = -math.inf  # the poll before that one

    def end(self) -> float | None:
        """Return when the last use ended; None: not known."""
        if self.ended is not None or self.deadline is None:
            return self.ended
        return None if math.isinf(self.high) else self.deadline - self.keep_alive()

    def keep_alive(self) -> float:
        """Return the roundest value within the bounds."""
        for step in ROUND:
            value = math.floor(self.high / step) * step
            if value > self.low:
                return float(value)
        return (self.low + self.high) / 2

    def bound(self, low: float, high: float) -> bool:
        """Narrow the keep-alive down. Return whether the new bounds agree with the old ones."""
        low, high = max(0.0, low - SLACK), high + SLACK
        agrees = low <= self.high and self.low <= high
        if agrees:
            self.low, self.high = max(self.low, low), min(self.high, high)
        else:
            self.low, self.high = low, high
        return agrees

    def forget(self) -> None:
        """Drop the end of the last use."""
        self.ended = self.deadline = None


class PollPair(Struct, frozen=True):
    """Two consecutive polls. What the later one shows anew happened between them."""

    now: float
    since: float
    took: float  # duration of the later one, seconds

    def is_explained(self, use: ModelUse) -> bool:
        """Return whether an observed request, or a use of our own, explains the change."""
        return use.open > 0 or use.seen > self.since - BEHIND_ANOTHER


class IdleGapDetector:
    """Gets requests and polls in order of time and returns each idle gap once.

    `clock`: the server's clock as the tracker learns it. `blind`: seconds without a successful poll
    after which uses may have been missed.
    """

    def __init__(self, clock: ServerClock | None = None, *, blind: float = 120.0) -> None:
        self._clock, self._blind = clock or ServerClock(), blind
        self._uses = BoundedDict[str, ModelUse](MOST_MODELS)
        self._polled = -math.inf  # the last successful poll

    def keep_alive(self, model: str) -> float | None:
        """Return the last keep-alive in effect, inf for never; None: deadlines do not show it."""
        use = self._uses.get(model)
        if use is None or use.pinned:
            return None if use is None else math.inf
        return None if math.isinf(use.high) else use.keep_alive()

    def bounds(self, model: str) -> tuple[float, float] | None:
        """Return the bounds of the last keep-alive; both are inf if it never expires."""
        use = self._uses.get(model)
        if use is None or (math.isinf(use.high) and not use.pinned):
            return None
        return (math.inf, math.inf) if use.pinned else (use.low, use.high)

    def restore(self, model: str, bounds: tuple[float, float]) -> None:
        """Continue with the keep-alive that an earlier process has found."""
        use = self._use(model)
        use.pinned = math.isinf(bounds[0])
        if not use.pinned:
            use.low, use.high = bounds

    # -- requests --------------------------------------------------------------------------------

    def on_request_start(self, model: str, at: float) -> float | None:
        """Add an observed request. Return for how long its model was idle; None: it was not."""
        use = self._use(model)
        end = use.end()
        gap = None if end is None or use.open else max(0.0, at - end)
        use.open += 1
        return gap

    def on_request_end(self, model: str, at: float, *, used: bool) -> None:
        """Note the end of an observed request; `used`: a runner served it."""
        use = self._use(model)
        use.open, use.seen, use.fresh = max(0, use.open - 1), at, False
        if used:
            use.ended, use.deadline = at, None

    def on_slots_busy(self, model: str, at: float) -> float | None:
        """Add work that a look at the slots found; return as for a request.

        A request that was observed itself is more exact: its work counts once.
        """
        if self._use(model).open:
            return None
        gap = self.on_request_start(model, at)
        self._use(model).by_slots = True
        return gap

    def on_slots_idle(self, model: str, at: float) -> None:
        """Note that the slots work no longer."""
        use = self._use(model)
        if use.by_slots:
            use.by_slots = False
            self.on_request_end(model, at, used=True)

    def on_slots_used(self, model: str, *, after: float, before: float) -> float | None:
        """Add work that began and ended between two looks; return as for a request.

        A use that ended between the looks is this one, and known more exactly.
        """
        use, at = self._use(model), (after + before) / 2
        end = use.end()
        if use.open or (end is not None and end >= after):
            return None
        gap = self.on_request_start(model, at)
        self.on_request_end(model, at, used=True)
        return gap

    def on_own_use(self, model: str, at: float) -> None:
        """Note that the exporter renewed or loaded the model: this is not a use of it."""
        use = self._use(model)
        use.ended, use.deadline, use.seen, use.fresh = use.end(), None, at, False

    def _use(self, model: str) -> ModelUse:
        use = self._uses.get(model) or ModelUse()
        self._uses[model] = use  # as the newest
        return use

    # -- polls -----------------------------------------------------------------------------------

    def on_poll(self, poll: Snapshot) -> list[tuple[str, float]]:
        """Add a successful poll. Return the gaps that it shows: model and seconds."""
        now, since = (poll.started + poll.ended) / 2, self._polled
        self._polled = now
        blind = now - since > self._blind
        listed = _youngest(poll.models)
        for name, use in self._uses.items():
            if name not in listed:
                _absent(use, (since + now) / 2, blind=blind)
        found: list[tuple[str, float]] = []
        for name, model in listed.items():
            use = self._uses.get(name) or self._use(name)
            use.pinned = math.isinf(model.expires_at)
            pair = PollPair(now, since, poll.ended - poll.started)
            if use.announced is None:
                gap = _arrived(use, model.expires_at, pair)
            else:
                gap = self._stayed(use, model.expires_at, use.announced, pair)
            use.announced = model.expires_at
            if gap is not None and not blind:
                found.append((name, max(0.0, gap)))
        return found

    def _stayed(self, use: ModelUse, raw: float, known: float, pair: PollPair) -> float | None:
        """Process an entry that the previous poll listed as well, with the deadline `known`."""
        ours = self._clock.ours(raw, self._clock.epoch)
        if raw == known:
            if use.fresh:  # E does not slide, so it was written before it was first listed
                _written(use, ours, PollPair(use.listed, use.before, 0.0))
            return None
        either = (use.took + pair.took) / 2  # `now` and `listed` are in the middle of their polls
        slid = slides(raw - known, pair.now - use.listed, before=either, took=either)
        use.listed, use.before, use.took = pair.now, pair.since, pair.took
        if use.fresh and slid:
            use.bound(ours - pair.now, ours - pair.now)
            return None
        if math.isinf(raw):  # pinned: later uses do not show
            use.forget()
            use.low, use.high = 0.0, math.inf
        if math.isinf(raw) or ours <= pair.now:
            return None  # a stop set E to a moment in the past; no request ended
        if pair.is_explained(use):
            use.bound(ours - pair.now, ours - pair.since)
            return None
        gap = _renewed(use, ours, pair)
        # The old deadline fell between the polls, so the model may have been unloaded and loaded
        # again. Then the new one slides until the first request ends, which is no second gap.
        use.fresh = pair.since < self._clock.ours(known, self._clock.epoch) <= pair.now
        return gap


def _renewed(use: ModelUse, deadline: float, pair: PollPair) -> float | None:
    """Process a deadline that was written between the polls: a request ended there."""
    fresh, earlier, before = use.fresh, use.end(), use.deadline
    agrees = _written(use, deadline, pair)
    if fresh:
        return None  # the gap was counted when the model was loaded
    if before is not None and agrees:
        return deadline - before  # the same keep-alive, whatever it is
    end = use.end()
    return None if earlier is None or end is None else end - earlier


def _written(use: ModelUse, deadline: float, pair: PollPair) -> bool:
    """Note that E was written between the polls. Return whether the keep-alive agrees."""
    use.forget()
    use.fresh = False
    if math.isinf(deadline):
        return False
    use.deadline = deadline
    return use.bound(deadline - pair.now, deadline - pair.since)


def _arrived(use: ModelUse, raw: float, pair: PollPair) -> float | None:
    """Process an entry that the previous poll did not list: a load, or the first poll."""
    explained, end, expired = pair.is_explained(use), use.end(), use.deadline
    use.took = pair.took
    use.listed, use.before, use.fresh = pair.now, pair.since, not explained and math.isfinite(raw)
    if explained:
        return None
    use.forget()
    if end is None:
        return None
    begun = (pair.since + pair.now) / 2
    if expired is not None and begun < expired < pair.now:
        begun = pair.now  # it was resident until then
    return begun - end


def _absent(use: ModelUse, at: float, *, blind: bool) -> None:
    """Note that a model is not listed; `at`: between the polls."""
    if use.announced is not None:
        if use.fresh and not use.open:
            use.ended = at  # it left when its first request ended
        use.announced, use.fresh = None, False
    elif blind and not use.open:
        use.forget()


def _youngest(models: Iterable[RunningModel]) -> dict[str, RunningModel]:
    """Return one entry for each name. A name has two while its weights are replaced."""
    return {model.name: model for model in sorted(models, key=lambda model: model.expires_at)}
