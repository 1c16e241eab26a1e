# SPDX-License-Identifier: Apache-2.0
"""Who would have to go, by the server's own order, if a model does not fit beside others. Pure.

Shortest configured keep-alive first, ties by the weights' name; not the least recently used. A
listing shows a deadline and no keep-alive: what is left until it is the least that it can be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

ADMITTED: Final = 0.8  # a model is loaded beside others only into so much of what is free


@dataclass(frozen=True, slots=True)
class Occupant:
    """A resident model: bytes of GPU memory, seconds of keep-alive at least, its weights' name."""

    name: str
    vram: int
    keep_alive: float
    weights: str = ""


def order(resident: Sequence[Occupant]) -> list[Occupant]:
    """Return them in the order in which they would go."""
    return sorted(resident, key=lambda held: (held.keep_alive, held.weights))


def victims(need: int, memory: int, resident: Sequence[Occupant]) -> list[Occupant] | None:
    """Return who would go for a model of `need` bytes; None: it is larger than what may be used.

    `memory`: bytes of the GPUs. Alone, a model may take more than they have: the rest runs on the
    CPU.
    """
    left = order(resident)
    gone: list[Occupant] = []
    while left and need > ADMITTED * (memory - sum(held.vram for held in left)):
        gone.append(left.pop(0))
    if not left and need > memory:
        return None
    return gone
