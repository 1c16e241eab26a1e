# SPDX-License-Identifier: Apache-2.0
"""What the simulated server is told to do wrong.

In process: the methods and attributes here and `Simulator.restart`. From outside, where it was
enabled: `POST /_simulator/fault` with an object that names the fault (`control.py`).
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field, replace

from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.simulator.calls import CallPlan


@dataclass(frozen=True, slots=True)
class Bend:
    """How the next answer of a model differs from what was asked for."""

    crash_after: int | None = None  # tokens
    cut_after: int | None = None  # tokens
    out_of_memory: bool = False
    repeats: bool = False


@dataclass(slots=True)
class Faults:
    """The faults in force, and those that wait for their request."""

    clock_offset: float = 0.0  # seconds that Date, created_at and expires_at are ahead of the clock
    slow_ps: float = 0.0  # seconds that each `/api/ps` takes
    hung_ps: bool = False  # `/api/ps` does not answer until this is cleared
    _cleared: asyncio.Event = field(default_factory=asyncio.Event)
    _bends: dict[str, deque[Bend]] = field(default_factory=dict)

    def bend_next(self, model: str, bend: Bend) -> None:
        """Let the next answer of a model go wrong."""
        self._bends.setdefault(normalise(model), deque(maxlen=64)).append(bend)

    def bend(self, name: str, plan: CallPlan) -> CallPlan:
        """Apply what waits for the installed name."""
        waiting = self._bends.get(name)
        if not waiting:
            return plan
        bend = waiting.popleft()
        return replace(
            plan,
            crash_after=bend.crash_after,
            cut_after=bend.cut_after,
            out_of_memory=bend.out_of_memory,
            repeats=bend.repeats,
        )

    async def delay_ps(self) -> None:
        """Hold `/api/ps` back."""
        if self.slow_ps > 0:
            await asyncio.sleep(self.slow_ps)
        if self.hung_ps:
            await self._cleared.wait()

    def hang_ps(self) -> None:
        """Let `/api/ps` hang until `clear`."""
        self.hung_ps = True
        self._cleared.clear()

    def clear(self) -> None:
        """End the faults that last; the clock stays where it was put."""
        self.slow_ps = 0.0
        self.hung_ps = False
        self._cleared.set()
        self._bends.clear()
