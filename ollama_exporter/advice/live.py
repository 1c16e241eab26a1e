# SPDX-License-Identifier: Apache-2.0
"""The advice of a running exporter: gaps from polls and requests, loads, sizes; what they come to.

Advice is computed when it is asked for, and again only for a model whose history is another now.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from ollama_exporter.advice.idle_gaps import Gaps
from ollama_exporter.advice.keep_alive_advice import (
    Advice,
    Habits,
    advise,
    assumed_load,
    mostly_seen,
)
from ollama_exporter.metrics.collectors.advice_collector import AdviceRow
from ollama_exporter.metrics.collectors.idle_gap_collector import IdleCollector
from ollama_exporter.metrics.labels import OTHER, ModelLabels
from ollama_exporter.poller.poller import Poll
from ollama_exporter.residency.facts import Snapshot
from ollama_exporter.residency.saved_state import Habit, Saved

Loads = Mapping[str, tuple[float, int]]  # by label: seconds of all measured loads, how many


class LiveAdvice:
    """Keeps what advice on the models of one server rests on."""

    def __init__(
        self,
        idle: IdleCollector,
        labels: ModelLabels,
        loads: Callable[[], Loads],
        *,
        blind: float,
    ) -> None:
        """`idle`: counts the gaps; `loads`: returns the loads measured since the start."""
        self.gaps = Gaps(blind=blind)
        self._idle, self._labels, self._loads = idle, labels, loads
        self._loaded_before: dict[str, tuple[float, int]] = {}  # by an earlier process
        self._memory: dict[str, int] = {}
        self._advice: dict[str, tuple[tuple[float, float, int], Habits, Advice]] = {}

    def on_poll(self, poll: Poll, _: object = None) -> None:
        """Process a poll."""
        if not isinstance(poll, Snapshot):
            return
        for model in poll.models:
            label = self._labels.label(model.name)
            if label != OTHER:
                self._idle.meet(label)
                self._memory[label] = model.size_vram or model.size
        for name, seconds in self.gaps.polled(poll):
            label = self._labels.label(name)
            if label != OTHER:
                self._idle.observe(label, seconds, inferred=True)

    def advice(self) -> Iterator[tuple[str, Habits, Advice]]:
        """Yield label, habits and advice of each model whose size is known."""
        for label, memory in list(self._memory.items()):
            load = self._load_seconds(label) or assumed_load(memory)
            gaps, inferred = self._idle.gaps[label], self._idle.inferred[label]
            rests_on = gaps.samples, load, memory
            known = self._advice.get(label)
            if known is None or known[0] != rests_on:
                seen = mostly_seen(gaps.samples, inferred)
                habits = Habits(gaps.copy(), load, memory, seen=seen)
                known = self._advice[label] = (rests_on, habits, advise(habits))
            yield label, known[1], known[2]

    def current(self) -> Iterator[tuple[str, Advice]]:
        """Yield label and advice."""
        return ((label, advice) for label, _, advice in self.advice())

    def rows(self) -> Iterator[AdviceRow]:
        """Yield what `/metrics` shows of it."""
        for label, habits, advice in self.advice():
            yield AdviceRow(
                label,
                advice.keep_alive,
                advice.samples,
                habits.load_seconds,
                habits.memory_bytes,
                self.gaps.keep_alive(label),
            )

    def _load_seconds(self, label: str) -> float | None:
        seconds, count = self._loaded(label)
        return seconds / count if count else None

    def _loaded(self, label: str) -> tuple[float, int]:
        seconds, count = self._loads().get(label, (0.0, 0))
        before = self._loaded_before.get(label, (0.0, 0))
        return seconds + before[0], count + before[1]

    def saved(self, saved: Saved) -> Saved:
        """Add what a later process goes on from."""
        idle = self._idle
        habits = {
            label: Habit(
                gaps.copy(),
                idle.inferred[label],
                *self._loaded(label),
                memory=self._memory.get(label, 0),
            )
            for label, gaps in idle.gaps.items()
        }
        return replace(saved, habits=habits)

    def restore(self, habits: Mapping[str, Habit]) -> None:
        """Go on from what an earlier process had counted."""
        for name, habit in habits.items():
            if self._labels.label(name) != OTHER:
                self._idle.restore(name, habit.gaps, inferred=habit.inferred)
                self._loaded_before[name] = (habit.load_seconds, habit.loads)
                if habit.memory:
                    self._memory[name] = habit.memory
