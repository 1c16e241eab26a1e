# SPDX-License-Identifier: Apache-2.0
"""The slots of one simulated runner: what works in them, and what the runner has counted. Pure.

Seen of llama.cpp b10488: a slot keeps its tokens after a request, as prompt cache. Prompts are
counted when they have been read, generated tokens when the request ends. The last token of an
answer is not in the cache.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

KEPT: Final = 4  # tokens at the beginning that a context shift keeps: --keep


@dataclass(slots=True)
class SimulatedSlot:
    """One slot. Counts are tokens."""

    number: int
    context: int
    busy: bool = False
    task: int | None = None  # None: never used
    held: int = 0  # prompt and answer
    processed: int = 0  # of the prompt, without those from the cache; 0 after the end
    cached: int = 0
    decoded: int = 0  # 0 after the end
    prompt: str = ""
    words: tuple[str, ...] = ()  # of the prompt, to find what the next one has in common

    @property
    def last_task(self) -> int:
        """The number of its last task, -1 if it had none."""
        return -1 if self.task is None else self.task

    def common(self, words: tuple[str, ...]) -> int:
        """Return how many words a prompt has in common with the one before."""
        pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(self.words, words))  # noqa: B905 - the shorter one decides
        return sum(1 for _ in pairs)


@dataclass(slots=True)
class TokenTotals:
    """What `GET /metrics` of a runner counts: tokens, and seconds."""

    prompt: int = 0  # without those from the cache
    cached: int = 0
    prompt_seconds: float = 0.0
    generated: int = 0
    generated_seconds: float = 0.0
    decodes: int = 0
    longest: int = 0  # most tokens that a slot held


@dataclass(slots=True)
class RunnerSlots:
    """The slots of one runner. `context`: tokens of one slot; `shift`: a full one drops tokens."""

    count: int
    context: int
    shift: bool = True
    totals: TokenTotals = field(default_factory=TokenTotals)
    slots: list[SimulatedSlot] = field(init=False)
    _tasks: Iterator[int] = field(default_factory=itertools.count, init=False)

    def __post_init__(self) -> None:
        self.slots = [SimulatedSlot(number, self.context) for number in range(self.count)]

    @property
    def busy(self) -> int:
        """The number of slots that work."""
        return sum(slot.busy for slot in self.slots)

    @contextmanager
    def working(self, prompt: str, tokens: int) -> Iterator["SlotWork"]:
        """Occupy a slot with a request of `tokens` prompt tokens, until the block ends."""
        words = tuple(prompt.split())
        idle = [slot for slot in self.slots if not slot.busy]
        # the one whose cache helps most, else the one that was used least recently
        slot = max(idle, key=lambda each: (each.common(words), -each.last_task))
        held = min(tokens, self.context - 1)
        cached = min(slot.common(words), held - 1)  # at least one token is read
        slot.busy, slot.task, slot.cached = True, next(self._tasks), cached
        slot.prompt, slot.words = prompt, words
        slot.held, slot.processed, slot.decoded = held, 0, 0
        work = SlotWork(self, slot)
        try:
            yield work
        finally:
            self.totals.generated += slot.decoded
            self.totals.generated_seconds += work.seconds
            slot.held -= 1 if slot.decoded else 0
            slot.busy, slot.processed, slot.cached, slot.decoded = False, 0, 0, 0


@dataclass(slots=True)
class SlotWork:
    """The work of one request in its slot."""

    runner: RunnerSlots
    slot: SimulatedSlot
    seconds: float = 0.0  # spent on generating

    def read_prompt(self, seconds: float) -> None:
        """Count the prompt as read."""
        totals, slot = self.runner.totals, self.slot
        slot.processed = slot.held - slot.cached
        totals.prompt += slot.processed
        totals.cached += slot.cached
        totals.prompt_seconds += seconds
        totals.decodes += 1

    def generate(self, seconds: float) -> None:
        """Count one token, which took `seconds`. A full context drops half of what may go."""
        totals, slot = self.runner.totals, self.slot
        if slot.held >= slot.context:
            slot.held -= (slot.held - KEPT) // 2 if self.runner.shift else 1
        slot.held += 1
        slot.decoded += 1
        self.seconds += seconds
        totals.decodes += 1
        totals.longest = max(totals.longest, slot.held)
