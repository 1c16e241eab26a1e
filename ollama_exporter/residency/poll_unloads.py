# SPDX-License-Identifier: Apache-2.0
"""Unloads that only polls show: what one poll listed and the next did not.

And what their reasons rest on: how much memory the server has, and which newcomers can have wanted
theirs. All unloads of one poll share one `Gap`, so that a long listing costs no square of it.
"""

import heapq
import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final, Self

from msgspec import Struct

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.evidence.requests import SeenRequest
from ollama_exporter.residency.facts import Snapshot
from ollama_exporter.residency.incarnation import Incarnation, Key
from ollama_exporter.residency.tolerances import Tolerances
from ollama_exporter.residency.unload import ModelUnload, PendingUnloads

SPARE: Final = 0.25  # 1 / 80 % - 1: the share of a newcomer's size that must be free (sched.go:544)
REMEMBERED: Final = 16
MOST_PENDING: Final = 256  # that are compared with one: a server holds a handful
ENOUGH: Final = 8  # of the models that appeared next, to find one of them again
NUMBERED: Final = re.compile(r"(\d{1,4})\.(\d{1,4})\.\d{1,4}")
UNNUMBERED: Final = "0.0.0"  # what a server says that was built without a version
LISTED_WHEN_LOADED: Final = (0, 30)


class Gap(Struct, frozen=True, eq=False):
    """The time between the last poll that listed some models and the first that did not."""

    high: float  # end of the first answered poll without them
    stayed: frozenset[Key] = frozenset()  # listed before and after
    lost: frozenset[Key] = frozenset()
    present: tuple[RunningModel, ...] = ()  # in memory just before, as far as polls can tell
    newcomers: frozenset[str] = frozenset()  # names that were not listed before
    restart: bool = False  # the connection was lost, and with it every deadline
    others_early: bool = False  # and of at least one model it had not come


class Arrivals(Struct, frozen=True, eq=False):
    """The first models to appear after a gap, or with it."""

    models: Mapping[Key, RunningModel]
    after: float  # end of the last poll before them
    fresh: frozenset[Key]  # those that were not listed before and after the gap
    strangers: frozenset[Key]  # those of them that were not lost in the gap
    names: Mapping[str, int]  # how many of them bear it

    @classmethod
    def of(cls, models: Mapping[Key, RunningModel], gap: Gap, after: float) -> Self:
        """Compare the models that appeared with those of the gap."""
        fresh = frozenset(models) - gap.stayed
        names = Counter(key[0] for key in models)
        return cls(models, after, fresh, fresh - gap.lost, names)


class PollUnload(ModelUnload, kw_only=True, eq=False):
    """An unload that only polls show: from the last that listed it to the first that did not."""

    gap: Gap
    arrivals: Arrivals | None = None
    needless: bool = False  # they are known to fit beside all that was loaded before
    demand: SeenRequest | None = None  # the oldest that was waiting for a load
    served: tuple[SeenRequest, ...] = ()  # requests whose loads began and ended within the bounds
    busy: bool = False  # it was serving a request
    condemned_for: SeenRequest | None = None  # it was told to leave while busy, for this one

    @classmethod
    def of(cls, life: Incarnation, gap: Gap) -> Self:
        """Return the unload of an incarnation that a poll lacks."""
        return cls(life, life.seen, gap.high, gap=gap)

    @property
    def back(self) -> RunningModel | None:
        """Return the same model if it is among those that appeared next."""
        return None if self.arrivals is None else self.arrivals.models.get(self.key)

    @property
    def others_appeared(self) -> bool:
        """Return whether another model appeared next."""
        return self.arrivals is not None and len(self.arrivals.models) > (self.back is not None)

    def agrees_with(self, listed: Mapping[Key, RunningModel]) -> bool:
        """Return whether a later listing has one of the models that appeared next, if any did."""
        models = {} if self.arrivals is None else self.arrivals.models
        if not models:
            return True
        appeared = islice(models.items(), ENOUGH)
        later = ((listed.get(key), model) for key, model in appeared)
        return any(now is not None and now.context == model.context for now, model in later)

    @property
    def expired_between(self) -> bool:
        """Return whether its deadline lies within the bounds."""
        error = timings.CLOCK_ERROR
        return self.low - error <= self.life.deadline() <= self.high + error

    @property
    def others_lost(self) -> int:
        """How many others were lost in the same gap."""
        return len(self.gap.lost) - (self.key in self.gap.lost)


class Sizes(Struct, frozen=True):
    """How many models, their sum, and the two largest of them."""

    count: int
    total: float
    largest: tuple[float, float]

    @classmethod
    def of(cls, models: Iterable[RunningModel]) -> Self:
        """Add up the sizes of some models."""
        sizes = [model.size for model in models]
        first, second = (*heapq.nlargest(2, sizes), 0, 0)[:2]
        return cls(len(sizes), sum(sizes), (first, second))

    def plus(self, model: RunningModel) -> "Sizes":
        """Add one of which only the sum matters."""
        return Sizes(self.count + 1, self.total + model.size, self.largest)

    def without(self, model: RunningModel | None) -> "Sizes":
        """Leave one of them out."""
        if model is None:
            return self
        first, second = self.largest
        largest = (second, 0.0) if model.size == first else (first, second)
        return Sizes(self.count - 1, self.total - model.size, largest)


class Room:
    """How much the server has been seen to hold: a lower bound of what it can.

    Before a load the scheduler wants the newcomer to fit into 80 % of what is free. So a listing
    shows more room than its sum: the model loaded last had a quarter of its size to spare.
    """

    def __init__(self) -> None:
        self._most = 0
        self._bytes = 0.0

    def observe(self, models: Iterable[RunningModel], newcomers: Iterable[RunningModel]) -> None:
        """Learn from a listing and from what is new in it."""
        sizes = [model.size for model in models]
        self._most = max(self._most, len(sizes))
        spare = min((SPARE * model.size for model in newcomers), default=0.0)
        self._bytes = max(self._bytes, sum(sizes) + spare)

    def fits(self, held: Iterable[RunningModel], newcomers: Iterable[RunningModel]) -> bool:
        """Return whether the server is known to load the newcomers beside what it holds."""
        return self.holds(Sizes.of(held), Sizes.of(newcomers))

    def holds(self, held: Sizes, new: Sizes) -> bool:
        """Return the same for models that are known by their sizes only."""
        total = held.total + new.total + SPARE * new.largest[0]
        return held.count + new.count <= self._most and total <= self._bytes


class _Match(Struct, frozen=True):
    """What appeared after a gap, and the sizes that tell whether its room was needed."""

    arrivals: Arrivals
    new: Sizes
    held: Sizes  # beside what was lost
    one_each: bool  # one of those lost together may have been enough for all of it


class PollUnloads:
    """The pending unloads, and which of the models loaded after them wanted their room."""

    def __init__(self, pending: PendingUnloads, tolerances: Tolerances) -> None:
        self._tolerances = tolerances
        self.room = Room()
        self.swift = False  # a newcomer is listed in the instant in which room is made for it
        self._pending = pending
        self._settled: deque[PollUnload] = deque(maxlen=REMEMBERED)  # those that did not expire

    def on_version(self, version: str) -> None:
        """Note the server's version: before 0.30 a model is listed while it loads.

        A server that does not say its version is taken for a later one: listings alone do not
        show the difference. A load that ends as the next begins looks the same.
        """
        number = NUMBERED.match(version)
        if number is not None and number[0] != UNNUMBERED:
            self.swift = (int(number[1]), int(number[2])) < LISTED_WHEN_LOADED

    @property
    def pending(self) -> list[PollUnload]:
        """Those whose reason is not settled, oldest first."""
        return self._pending.of(PollUnload)

    def cancel(self, unload: PollUnload) -> None:
        """Remove an unload that turned out to be none."""
        self._pending.cancel(unload)

    def on_settled(self, unload: PollUnload) -> None:
        """Remember an unload whose reason is known: others may have left with it."""
        if unload.reason is not Reason.EXPIRED:
            self._settled.append(unload)

    def match(
        self,
        poll: Snapshot,
        arrived: Mapping[Key, RunningModel],
        before: Mapping[Key, RunningModel],
        *,
        last: float,
    ) -> None:
        """Give what a poll lists anew to the unloads that can have made room for it.

        `last`: start of the answered poll before. Older unloads are served first; what found room
        needs no victim; and a load takes time, unless the server is swift.
        """
        newcomers = [model for key, model in arrived.items() if key not in before]
        room = self.room.fits(before.values(), newcomers)
        pending = self.pending
        older = any(x.high < poll.ended and x.arrivals is None for x in pending)
        matches: dict[tuple[int, bool], _Match | None] = {}
        for unload in pending:
            if unload.arrivals is not None:
                continue
            slow = not self.swift and unload.high - unload.low < self._tolerances.least_load
            if unload.high == poll.ended and (older or room or slow):
                continue  # usually loaded before the unload: its own evictor is still to come
            patient = self.swift or not (unload.life.written or unload.life.at_now)
            same = id(unload.gap), patient
            if same not in matches:
                matches[same] = self._match(unload.gap, arrived, last, patient=patient)
            found = matches[same]
            if found is not None:
                self._give(unload, found)

    def _match(
        self, gap: Gap, arrived: Mapping[Key, RunningModel], last: float, *, patient: bool
    ) -> _Match | None:
        """Return what of the arrivals can have wanted the room of a gap. None: nothing yet."""
        fresh = {key: model for key, model in arrived.items() if key not in gap.stayed}
        if not fresh and patient:
            return None  # a reload of what stayed: what wanted the room is still to come
        models = fresh or dict(arrived)
        one_each = self.swift and len(gap.lost) > len(models)  # which one is not known
        held = (
            model
            for model in gap.present
            if model.key not in gap.lost and not (one_each and model.key in models)
        )
        arrivals = Arrivals.of(models, gap, last)
        return _Match(arrivals, Sizes.of(models.values()), Sizes.of(held), one_each)

    def _give(self, unload: PollUnload, found: _Match) -> None:
        """Note what appeared next, and whether it would have fitted beside the model that left."""
        unload.arrivals = found.arrivals
        new, held = found.new.without(unload.back), found.held
        if not (found.one_each and unload.back is not None):
            held = held.plus(unload.life.model)
        unload.needless = new.count > 0 and self.room.holds(held, new)

    def left_with_needless(self, unload: PollUnload) -> bool:
        """Return whether another left within one memory wait of it whose room was not needed.

        An out-of-memory drops all models at once, and they leave one wait after the other.
        """
        return any(
            other.needless
            and other is not unload
            and other.low - unload.high <= timings.MEMORY_WAIT
            and unload.low - other.high <= timings.MEMORY_WAIT
            for other in (*self._settled, *islice(self._pending, MOST_PENDING))
            if isinstance(other, PollUnload)
        )
