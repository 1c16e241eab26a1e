# SPDX-License-Identifier: Apache-2.0
"""When models were used, from requests where they are seen and from deadlines where they are not.

A deadline E is written when the last request ends, so that request ended at E less the keep-alive,
and two deadlines tell the time between two ends even where the keep-alive is not known. What polls
cannot tell: uses between two polls but for the last one, how long an answer took (it counts as idle
time), and any use of a model that is kept for ever. Pure.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.facts import Snapshot
from ollama_exporter.residency.server_clock import ServerClock

MOST_MODELS: Final = 1024
LATE: Final = 6.0  # a deadline may be written this long after the request's end: a wait for memory
SLIDE_ERROR: Final = 0.02  # as in lives.py: E moves with the clock until it is first written
SLACK: Final = 0.5  # of our clock against the server's, and of what is read as a bound
ROUND: Final = (3600, 1800, 900, 600, 300, 60, 30, 10, 5, 1)  # people give round values


@dataclass(slots=True)
class Use:
    """What is known of the use of one model. Moments on our timeline."""

    ended: float | None = None  # end of the last use, where it is certain
    deadline: float | None = None  # E that tells of the last end, the keep-alive being known later
    open: int = 0  # requests seen that have not ended
    seen: float = -math.inf  # end of the last request seen, or when we touched the model ourselves
    low: float = 0.0  # bounds of the keep-alive
    high: float = math.inf
    announced: float | None = None  # E as last listed, the server's clock; None: not listed
    pinned: bool = False  # it was last listed as kept for ever
    fresh: bool = False  # E may still slide: the first request after the load
    listed: float = 0.0  # the first poll that listed this E
    before: float = -math.inf  # the poll before that one

    def end(self) -> float | None:
        """Return when the last use ended, as far as is known."""
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
        """Learn of the keep-alive; return whether that agrees with what was known of it."""
        low, high = max(0.0, low - SLACK), high + SLACK
        agrees = low <= self.high and self.low <= high
        if agrees:
            self.low, self.high = max(self.low, low), min(self.high, high)
        else:
            self.low, self.high = low, high
        return agrees

    def forget(self) -> None:
        """Know of no end any more."""
        self.ended = self.deadline = None


@dataclass(frozen=True, slots=True)
class Look:
    """Two polls in a row: between them lies what the later one shows anew."""

    now: float
    since: float
    error: float  # by which moments may be off

    def explains(self, use: Use) -> bool:
        """Tell whether a request that was seen, or a deed of ours, explains what changed."""
        return use.open > 0 or use.seen > self.since - LATE


class Gaps:
    """Takes requests and polls in order of time, returns each idle gap once.

    `blind`: seconds without an answered poll after which uses may have been missed.
    """

    def __init__(self, *, blind: float = 120.0) -> None:
        self._blind = blind
        self._clock = ServerClock()
        self._uses: dict[str, Use] = {}
        self._polled = -math.inf  # the last answered poll

    def keep_alive(self, model: str) -> float | None:
        """Return the keep-alive last in force, inf for ever; None: deadlines do not tell it."""
        use = self._uses.get(model)
        if use is None or use.pinned:
            return None if use is None else math.inf
        return None if math.isinf(use.high) else use.keep_alive()

    # -- requests --------------------------------------------------------------------------------

    def started(self, model: str, at: float) -> float | None:
        """Take a request that was seen; return how long its model had been idle, if it was."""
        use = self._use(model)
        end = use.end()
        gap = None if end is None or use.open else max(0.0, at - end)
        use.open += 1
        return gap

    def finished(self, model: str, at: float, *, used: bool) -> None:
        """Take its end; `used`: a runner had to do with it."""
        use = self._use(model)
        use.open, use.seen, use.fresh = max(0, use.open - 1), at, False
        if used:
            use.ended, use.deadline = at, None

    def touched(self, model: str, at: float) -> None:
        """Take that we renewed or loaded the model ourselves: what polls show of it is no use."""
        use = self._use(model)
        use.ended, use.deadline, use.seen, use.fresh = use.end(), None, at, False

    def _use(self, model: str) -> Use:
        use = self._uses.pop(model, None) or Use()
        self._uses[model] = use
        if len(self._uses) > MOST_MODELS:
            del self._uses[next(iter(self._uses))]
        return use

    # -- polls -----------------------------------------------------------------------------------

    def polled(self, poll: Snapshot) -> list[tuple[str, float]]:
        """Take an answered poll; return the gaps that it shows: model and seconds."""
        if poll.date is not None:
            self._clock.observe(poll.date, started=poll.started, ended=poll.ended)
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
            look = Look(now, since, SLIDE_ERROR + poll.ended - poll.started)
            if use.announced is None:
                gap = _arrived(use, model.expires_at, look)
            else:
                gap = self._stayed(use, model.expires_at, use.announced, look)
            use.announced = model.expires_at
            if gap is not None and not blind:
                found.append((name, max(0.0, gap)))
        return found

    def _stayed(self, use: Use, raw: float, known: float, look: Look) -> float | None:
        """Take an entry that the poll before had as well, with the deadline `known`."""
        ours = self._clock.ours(raw, self._clock.epoch)
        if raw == known:
            if use.fresh:  # it does not slide, so it was written before it was first listed
                _written(use, ours, Look(use.listed, use.before, 0.0))
            return None
        slides = abs(raw - known - (look.now - use.listed)) <= look.error
        use.listed, use.before = look.now, look.since
        if use.fresh and slides:
            use.bound(ours - look.now, ours - look.now)
            return None
        if math.isinf(raw):  # pinned: what is used from now on does not show
            use.forget()
            use.low, use.high = 0.0, math.inf
        if math.isinf(raw) or ours <= look.now:
            return None  # in the past: a stop set it, no request ended
        if look.explains(use):
            use.bound(ours - look.now, ours - look.since)
            return None
        gap = _renewed(use, ours, look)
        # Its deadline fell due between the polls: it may have gone and been loaded again, and then
        # this one slides until the first request has ended, which is no second gap.
        use.fresh = look.since < self._clock.ours(known, self._clock.epoch) <= look.now
        return gap


def _renewed(use: Use, deadline: float, look: Look) -> float | None:
    """Take a deadline that was written between the polls: a request ended there."""
    fresh, earlier, before = use.fresh, use.end(), use.deadline
    agrees = _written(use, deadline, look)
    if fresh:
        return None  # its gap was counted when the model was loaded
    if before is not None and agrees:
        return deadline - before  # the same keep-alive, whatever it is
    end = use.end()
    return None if earlier is None or end is None else end - earlier


def _written(use: Use, deadline: float, look: Look) -> bool:
    """Learn that it was written between the polls; return whether the keep-alive agrees."""
    use.forget()
    use.fresh = False
    if math.isinf(deadline):
        return False
    use.deadline = deadline
    return use.bound(deadline - look.now, deadline - look.since)


def _arrived(use: Use, raw: float, look: Look) -> float | None:
    """Take an entry that the poll before did not have: a load, or found at the first poll."""
    explained, end, expired = look.explains(use), use.end(), use.deadline
    use.listed, use.before, use.fresh = look.now, look.since, not explained and math.isfinite(raw)
    if explained:
        return None
    use.forget()
    if end is None:
        return None
    begun = (look.since + look.now) / 2
    if expired is not None and begun < expired < look.now:
        begun = look.now  # it was there until then
    return begun - end


def _absent(use: Use, at: float, *, blind: bool) -> None:
    """Take that a model is not listed; `at`: between the polls."""
    if use.announced is not None:
        if use.fresh and not use.open:
            use.ended = at  # it went as its first request ended
        use.announced, use.fresh = None, False
    elif blind and not use.open:
        use.forget()


def _youngest(models: Iterable[RunningModel]) -> dict[str, RunningModel]:
    """Return one entry for each name: two are possible while weights are replaced."""
    return {model.name: model for model in sorted(models, key=lambda model: model.expires_at)}
