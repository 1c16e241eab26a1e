# SPDX-License-Identifier: Apache-2.0
"""Losses: what one poll listed and the next did not, until their reasons are settled.

And what the losses rest on: how much room the server has, and which newcomers can have wanted it.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.evidence.requests import SeenRequest
from ollama_exporter.residency.facts import Snapshot
from ollama_exporter.residency.incarnation import Incarnation, Key

SPARE: Final = 0.25  # 1 / 80 % - 1: the share of a newcomer's size that must be free besides
MIN_LOAD: Final = 2.0  # an eviction, the wait for memory and a load take longer than this
MEMORY_WAIT: Final = 5.5  # between two unloads of one condemnation, with the kill
REMEMBERED: Final = 16


@dataclass(frozen=True, slots=True)
class Demand:
    """The oldest request that waited for a load when the model vanished."""

    request: SeenRequest
    own: bool  # for the very model that vanished: other options, or it had crashed


@dataclass(slots=True)
class PollUnload:
    """An unload whose reason is not settled yet. It happened within [low, high]."""

    life: Incarnation
    low: float  # start of the last poll that listed it
    high: float  # end of the first answered poll that did not
    stayed: frozenset[Key]  # listed before and after
    together: frozenset[Key]  # lost in the same interval
    present: tuple[RunningModel, ...]  # in memory just before it, as far as polls can tell
    arrivals: dict[Key, RunningModel] = field(default_factory=dict)  # the first after (or with) it
    arrived: float | None = None  # end of the last poll before them
    demand: Demand | None = None
    loaded: tuple[SeenRequest, ...] = ()  # requests whose loads began and ended within the bounds
    busy: bool = False  # a request seen was being served by it
    newcomers: frozenset[str] = frozenset()  # names that were not listed before it
    needless: bool = False  # the arrivals are known to fit beside all that was loaded before it

    @property
    def key(self) -> Key:
        """Name and digest of what was lost."""
        return self.life.model.key

    @property
    def name(self) -> str:
        """Name of what was lost."""
        return self.life.model.name


class Room:
    """How much the server has been seen to hold: a lower bound of what it can.

    Before a load the scheduler wants the newcomer to fit into 80 % of what is free, so a listing
    shows more room than its sum: whoever came last had a quarter of its size to spare.
    """

    def __init__(self) -> None:
        self._most = 0
        self._bytes = 0.0

    def observe(self, models: Iterable[RunningModel], newcomers: Iterable[RunningModel]) -> None:
        """Take a listing and which of it is new since the one before."""
        sizes = [model.size for model in models]
        self._most = max(self._most, len(sizes))
        spare = min((SPARE * model.size for model in newcomers), default=0.0)
        self._bytes = max(self._bytes, sum(sizes) + spare)

    def fits(self, held: Iterable[RunningModel], newcomers: Iterable[RunningModel]) -> bool:
        """Tell whether the server is known to load these beside those."""
        new = [model.size for model in newcomers]
        sizes = [*(model.size for model in held), *new]
        return len(sizes) <= self._most and sum(sizes) + SPARE * max(new, default=0) <= self._bytes


class PollUnloads:
    """The pending losses, and their matching with what is loaded after them."""

    def __init__(self) -> None:
        self.pending: list[PollUnload] = []
        self.room = Room()
        self.swift = False  # a newcomer is listed in the instant that room is made for it
        self._settled: deque[PollUnload] = deque(maxlen=REMEMBERED)
        self._vacant = 0  # losses whose room nobody has taken yet, as far as is seen

    def settle(self, loss: PollUnload, *, expired: bool) -> None:
        """Take a loss from the pending ones."""
        self.pending.remove(loss)
        if not expired:
            self._settled.append(loss)

    def match(
        self,
        poll: Snapshot,
        arrived: Mapping[Key, RunningModel],
        before: Mapping[Key, RunningModel],
        *,
        last: float,
    ) -> None:
        """Give what a poll lists anew to the losses that can have made room for it.

        `last`: start of the answered poll before. Older losses are served first; what found room
        needs no victim; and a load takes time, unless the server is swift.
        """
        newcomers = [model for key, model in arrived.items() if key not in before]
        room = self.room.fits(before.values(), newcomers)
        older = any(loss.high < poll.ended for loss in self.pending)
        for loss in [x for x in self.pending if not x.arrivals]:
            slow = not self.swift and loss.high - loss.low < MIN_LOAD
            if loss.high == poll.ended and (older or room or slow):
                continue  # usually loaded before the loss: its own evictor is still to come
            fresh = {key: model for key, model in arrived.items() if key not in loss.stayed}
            idle = loss.life.written or loss.life.at_now
            if not fresh and (self.swift or not idle):
                continue  # a reload of what stayed: the newcomer that wanted room is still to come
            loss.arrivals, loss.arrived = fresh or dict(arrived), last
            loss.needless = self._needless(loss)

    def count(
        self,
        poll: Snapshot,
        listed: Mapping[Key, RunningModel],
        before: Mapping[Key, RunningModel],
        *,
        last: float,
    ) -> None:
        """Learn from a listing how fast a newcomer follows on a loss."""
        gone, came = len(before.keys() - listed.keys()), len(listed.keys() - before.keys())
        if gone and came and not self._vacant and poll.ended - last < MIN_LOAD:
            self.swift = True
        taken = came if self._vacant else came - gone
        self._vacant = max(0, self._vacant - max(0, taken)) + (
            gone if self._vacant else max(0, gone - came)
        )

    def restart(self) -> None:
        """Forget whose room is vacant: the server began anew."""
        self._vacant = 0

    def left_with_needless(self, loss: PollUnload) -> bool:
        """Tell whether another left within one memory wait of it that nobody needed to leave.

        An out-of-memory condemns all at once, and they go one wait after the other.
        """
        return any(
            other.needless
            and other is not loss
            and other.low - loss.high <= MEMORY_WAIT
            and loss.low - other.high <= MEMORY_WAIT
            for other in [*self.pending, *self._settled]
        )

    def _needless(self, loss: PollUnload) -> bool:
        """Tell whether the arrivals are known to fit beside it and all that stayed.

        Of those lost in one interval one may have been enough, and which is not known.
        """
        strangers = [model for key, model in loss.arrivals.items() if key != loss.key]
        one_each = self.swift and len(loss.together) >= len(loss.arrivals)
        held = [
            model
            for model in loss.present
            if model.key not in loss.together and not (one_each and model.key in loss.arrivals)
        ]
        return bool(strangers) and self.room.fits(held, strangers)
