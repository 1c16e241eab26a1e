# SPDX-License-Identifier: Apache-2.0
"""A loss: a model that was listed by one poll and not by the next, until its reason is settled;
and the room that the server has shown to have."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.lives import Life
from ollama_exporter.residency.traffic import Request

Key = tuple[str, str]

FULL: float = 1.02  # sizes vary a little between two loads of one model


@dataclass(frozen=True, slots=True)
class Demand:
    """The oldest request that waited for a load when the model vanished."""

    request: Request
    own: bool  # for the very model that vanished: other options, or it had crashed


@dataclass(slots=True)
class Loss:
    """An unload whose reason is not settled yet. It happened within [low, high]."""

    life: Life
    low: float  # start of the last poll that listed it
    high: float  # end of the first answered poll that did not
    stayed: frozenset[Key]  # listed before and after
    together: frozenset[Key]  # lost in the same interval
    arrivals: dict[Key, RunningModel] = field(default_factory=dict)  # the first after (or with) it
    arrived_low: float | None = None  # they arrived within [arrived_low, arrived_high]
    arrived_high: float | None = None
    demand: Demand | None = None
    roomy: bool = False  # the list was shorter before than the server can hold
    spare: bool = False  # an earlier loss had already made room enough for the arrivals
    busy: bool = False  # a request seen was being served by it

    @property
    def key(self) -> Key:
        """Name and digest of what was lost."""
        return self.life.model.key

    @property
    def name(self) -> str:
        """Name of what was lost."""
        return self.life.model.name


class Room:
    """How much the server has been seen to hold at once."""

    def __init__(self) -> None:
        self.most = 0
        self.biggest = 0

    def observe(self, models: Iterable[RunningModel]) -> None:
        """Take a listing."""
        sizes = [model.size for model in models]
        self.most = max(self.most, len(sizes))
        self.biggest = max(self.biggest, sum(sizes))

    def holds(self, models: Iterable[RunningModel]) -> bool:
        """Tell whether it has been seen to hold as many and as much as these."""
        sizes = [model.size for model in models]
        return len(sizes) <= self.most and sum(sizes) <= FULL * self.biggest
