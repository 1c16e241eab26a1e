# SPDX-License-Identifier: Apache-2.0
"""A loss: a model that was listed by one poll and not by the next, until its reason is settled;
and the room that the server has shown to have."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.lives import Life
from ollama_exporter.residency.traffic import Request

Key = tuple[str, str]

SAME_SIZE: Final = 1.0  # sizes vary a little between two loads of one model
SPARE: Final = 0.25  # 1 / 80 % - 1


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
    present: tuple[RunningModel, ...]  # in memory just before it, as far as polls can tell
    arrivals: dict[Key, RunningModel] = field(default_factory=dict)  # the first after (or with) it
    arrived_low: float | None = None  # they arrived within [arrived_low, arrived_high]
    arrived_high: float | None = None
    demand: Demand | None = None
    loaded: tuple[Request, ...] = ()  # requests whose loads began and ended within the bounds
    needless: bool = False  # the arrivals are known to fit beside all that was loaded before it
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
        wanted = sum(sizes) + SPARE * max(new, default=0)
        return len(sizes) <= self._most and wanted <= SAME_SIZE * self._bytes
