# SPDX-License-Identifier: Apache-2.0
"""Which models the server would evict to fit another one. Pure.

The scheduler takes the first idle model, or the first of all if none is idle; the shortest
configured keep-alive comes first, ties by the name of the weights, not the least recently used
model. `/api/ps` lists deadlines, not keep-alives: the time until the deadline is a lower bound of
the keep-alive.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

USABLE_SHARE: Final = 0.8  # of the free memory, for a model that is loaded beside others


class Occupant(Struct, frozen=True):
    """A resident model: bytes of GPU memory, least seconds of keep-alive, name of its weights."""

    name: str
    vram: int
    keep_alive: float
    weights: str = ""
    busy: bool = False  # a request runs: idle models go first


def eviction_order(resident: Sequence[Occupant]) -> list[Occupant]:
    """Return the models in the order in which the server evicts them."""
    return sorted(resident, key=lambda model: (model.busy, model.keep_alive, model.weights))


def victims(need: int, memory: int, resident: Sequence[Occupant]) -> list[Occupant] | None:
    """Return the models to evict for one of `need` bytes; None: it does not fit even alone.

    `memory`: bytes of all GPUs. A model that is alone may need more than the free share: the rest
    runs on the CPU.
    """
    left = eviction_order(resident)
    evicted: list[Occupant] = []
    while left and need > USABLE_SHARE * (memory - sum(model.vram for model in left)):
        evicted.append(left.pop(0))
    if not left and need > memory:
        return None
    return evicted
