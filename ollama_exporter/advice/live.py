# SPDX-License-Identifier: Apache-2.0
"""The advice of a running exporter, and the use of models that it rests on.

Advice is computed on demand, and kept for each model until its use has changed.
"""

from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from ollama_exporter.advice.gap_counts import GapCounts, ModelGaps
from ollama_exporter.advice.idle_gaps import IdleGapDetector
from ollama_exporter.advice.keep_alive_advice import (
    Advice,
    CostInputs,
    advise,
    assumed_load,
    is_mostly_observed,
    surely_saved,
)
from ollama_exporter.advice.saved_usage import SavedUsage
from ollama_exporter.endpoint.server_clock import ServerClock
from ollama_exporter.host.runner.slot_usage import BriefUse, SlotUse
from ollama_exporter.metrics.collectors.advice_collector import AdviceRow
from ollama_exporter.metrics.labels import OTHER, ModelLabels
from ollama_exporter.residency.facts import PollFailed, Snapshot

MeasuredLoads = Mapping[str, tuple[float, int]]  # by label: seconds of all loads, their number


class LabelAdvice(Struct, frozen=True):
    """The advice on one label."""

    label: str
    inputs: CostInputs
    advice: Advice

    @property
    def keep_alive(self) -> float:
        """The advised value, seconds; inf: never unload."""
        return self.advice.keep_alive

    @property
    def samples(self) -> int:
        """Number of idle gaps that the advice rests on."""
        return self.advice.samples

    def is_surely_better(self, then: float, now: float) -> bool:
        """Return whether the keep-alive `then` is cheaper than `now` by more than chance."""
        return surely_saved(self.inputs, then, now) > 0


class LiveAdvice:
    """Advises on the models of one server.

    `loads`: returns the loads measured since the start; `blind`: see IdleGapDetector.
    """

    def __init__(
        self,
        counts: GapCounts,
        labels: ModelLabels,
        loads: Callable[[], MeasuredLoads],
        clock: ServerClock,
        *,
        blind: float,
    ) -> None:
        self.gaps = IdleGapDetector(clock, blind=blind)
        self._counts, self._labels, self._loads = counts, labels, loads
        self._loaded_before: dict[str, tuple[float, int]] = {}  # by an earlier process
        self._memory: dict[str, int] = {}
        self._since: dict[str, float] = {}  # when counting began, Unix seconds
        self._kept: dict[str, tuple[tuple[float, float, int], LabelAdvice]] = {}

    def on_poll(self, poll: Snapshot | PollFailed, _answer: object = None) -> None:
        """Process a poll. The tracker must have seen it before, because it keeps the clock."""
        if not isinstance(poll, Snapshot):
            return
        for model in poll.models:
            label = self._labels.label(model.name)
            if label != OTHER:
                self._counts.expect(label)
                self._since.setdefault(label, poll.started)
                self._memory[label] = model.size_vram or model.size
        for name, seconds in self.gaps.on_poll(poll):
            label = self._labels.label(name)
            if label != OTHER:
                self._counts.add(label, seconds, inferred=True)

    def on_slot_use(self, use: SlotUse | BriefUse) -> None:
        """Process what the slots of a model showed: work that began, ended, or both."""
        if isinstance(use, BriefUse):
            gap = self.gaps.on_slots_used(use.model, after=use.after, before=use.before)
        elif use.busy:
            gap = self.gaps.on_slots_busy(use.model, use.at)
        else:
            self.gaps.on_slots_idle(use.model, use.at)
            return
        label = self._labels.label(use.model)
        if gap is not None and label != OTHER:
            self._counts.add(label, gap, inferred=False)

    def advice(self) -> Iterator[LabelAdvice]:
        """Yield the advice on each model whose size is known."""
        for label, memory in list(self._memory.items()):
            load = self._load_seconds(label) or assumed_load(memory)
            rests_on = self._counts.samples(label), load, memory
            kept = self._kept.get(label)
            if kept is None or kept[0] != rests_on:
                gaps = self._counts.of(label)
                seen = is_mostly_observed(gaps.histogram.samples, gaps.inferred)
                inputs = CostInputs(gaps.histogram, load, memory, seen=seen)
                kept = rests_on, LabelAdvice(label, inputs, advise(inputs))
                self._kept[label] = kept
            yield kept[1]

    def by_label(self) -> Iterator[tuple[str, LabelAdvice]]:
        """Yield each label with its advice."""
        return ((each.label, each) for each in self.advice())

    def rows(self) -> Iterator[AdviceRow]:
        """Yield what `/metrics` shows of the advice."""
        for each in self.advice():
            yield AdviceRow(
                each.label,
                each.advice.keep_alive,
                each.advice.samples,
                each.inputs.load_seconds,
                each.inputs.memory_bytes,
                self.gaps.keep_alive(each.label),
                self._measured(each.label)[1],
                self._since.get(each.label),
            )

    def _load_seconds(self, label: str) -> float | None:
        seconds, count = self._measured(label)
        return seconds / count if count else None

    def _measured(self, label: str) -> tuple[float, int]:
        seconds, count = self._loads().get(label, (0.0, 0))
        before = self._loaded_before.get(label, (0.0, 0))
        return seconds + before[0], count + before[1]

    def saved(self) -> dict[str, SavedUsage]:
        """Return what a later process continues from, by label."""
        return {
            label: SavedUsage(
                gaps.histogram,
                gaps.inferred,
                *self._measured(label),
                memory=self._memory.get(label, 0),
                keep_alive=self.gaps.bounds(label),
                since=self._since.get(label),
            )
            for label, gaps in self._counts.items()
        }

    def restore(self, usage: Mapping[str, SavedUsage]) -> None:
        """Continue from what an earlier process has counted."""
        for name, saved in usage.items():
            if self._labels.label(name) != OTHER:
                self._counts.restore(name, ModelGaps(saved.gaps, saved.inferred))
                self._loaded_before[name] = (saved.load_seconds, saved.loads)
                if saved.memory:
                    self._memory[name] = saved.memory
                if saved.keep_alive is not None:
                    self.gaps.restore(name, saved.keep_alive)
                if saved.since is not None:
                    self._since[name] = saved.since
