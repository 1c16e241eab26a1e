# SPDX-License-Identifier: Apache-2.0
"""The faults that the simulated server makes on demand.

In the same process use the methods and attributes here, and `Simulator.restart`. From outside use
`POST /_simulator/fault`, if enabled (`control.py`).
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field, replace

from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.simulator.calls import CallPlan


@dataclass(frozen=True, slots=True)
class AnswerFault:
    """How the next answer of a model goes wrong."""

    crash_after: int | None = None  # tokens
    cut_after: int | None = None  # tokens
    out_of_memory: bool = False
    repeats: bool = False


@dataclass(slots=True)
class Faults:
    """The faults in force, and those for the next answer of a model."""

    clock_offset: float = 0.0  # seconds by which Date, created_at and expires_at are ahead
    slow_ps: float = 0.0  # seconds that each `/api/ps` takes
    ps_hangs: bool = False  # `/api/ps` does not answer until this is cleared
    _cleared: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: dict[str, deque[AnswerFault]] = field(default_factory=dict)

    def fail_next_answer(self, model: str, fault: AnswerFault) -> None:
        """Let the next answer of a model go wrong."""
        self._waiting.setdefault(normalise(model), deque(maxlen=64)).append(fault)

    def apply_to(self, name: str, plan: CallPlan) -> CallPlan:
        """Apply the next fault of a model to its plan."""
        waiting = self._waiting.get(name)
        if not waiting:
            return plan
        fault = waiting.popleft()
        return replace(
            plan,
            crash_after=fault.crash_after,
            cut_after=fault.cut_after,
            out_of_memory=fault.out_of_memory,
            repeats=fault.repeats,
        )

    async def delay_ps(self) -> None:
        """Delay `/api/ps`."""
        if self.slow_ps > 0:
            await asyncio.sleep(self.slow_ps)
        if self.ps_hangs:
            await self._cleared.wait()

    def hang_ps(self) -> None:
        """Let `/api/ps` hang until `clear`."""
        self.ps_hangs = True
        self._cleared.clear()

    def clear(self) -> None:
        """End all faults except the clock's."""
        self.slow_ps = 0.0
        self.ps_hangs = False
        self._cleared.set()
        self._waiting.clear()
