# SPDX-License-Identifier: Apache-2.0
"""From looks at the slots of runners to what each model did: pure, moments are arguments.

Between two looks a slot counts as busy for all of the time, half of it or none, as both, one or
none of the looks found it busy. Each change is off by at most half the time between the looks, in
either direction. Of a request that begins and ends between two looks only that is seen: its slot
has another task, and its tokens may all be its prompt.
"""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct, field

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.host.runner.runner_command import RunnerCommand
from ollama_exporter.host.runner.runner_counters import RunnerCounters
from ollama_exporter.host.runner.slots import Slot

LONGEST_STEP: Final = 30.0  # seconds between two looks that are still counted
MOST_RUNNERS: Final = 256
MOST_MODELS: Final = 1024
NO_COUNTERS: Final = RunnerCounters()


class SlotsNow(Struct, frozen=True):
    """What the last look at a runner showed. `context_*` and `prompt_cache` are tokens."""

    slots: int
    busy: int
    slot_context: int
    context_used: int  # the largest of its busy slots; 0: every slot is idle
    context_most: int  # the largest since the model was loaded
    prompt_cache: int  # what idle slots hold


class RunnerSight(Struct, frozen=True):
    """What is seen of one runner of a model now."""

    model: str
    command: RunnerCommand
    build: str
    now: SlotsNow | None  # None: not looked at yet, or it does not answer


class ModelTotals(Struct):
    """What was counted of one model since the exporter started. They only grow."""

    busy_seconds: float = 0.0  # at least one slot was busy
    slot_busy_seconds: float = 0.0  # summed over the slots
    slot_idle_seconds: float = 0.0
    generated_tokens: int = 0  # seen in slots: a lower bound
    context_shifts: int = 0  # a full context lost its oldest part while a request ran
    last_use: float | None = None  # the last look that found it busy, or half a step later
    counters: RunnerCounters | None = None  # exact; None: no runner of it serves them


class SlotUse(Struct, frozen=True):
    """The begin or the end of a stretch of work. `at`: half-way between the looks around it."""

    model: str
    at: float
    busy: bool  # False: it ended


class BriefUse(Struct, frozen=True):
    """Work that began and ended between two looks at idle slots."""

    model: str
    after: float
    before: float


class _Task(Struct):
    """What a slot showed of one request."""

    task: int | None = None
    prompt: int | None = None  # its tokens; None: not known yet
    held: int = 0
    counted: int = 0  # generated tokens that are in the totals


class _RunnerLooks(Struct):
    """The looks at one runner process."""

    at: float
    slots: tuple[Slot, ...]
    tasks: dict[int, _Task] = field(default_factory=dict)
    most: int = 0
    counters: RunnerCounters = NO_COUNTERS


class SlotUsage:
    """Adds up looks. A runner is known by its pid and birth: what it showed ends with it."""

    def __init__(self) -> None:
        self._runners: BoundedDict[tuple[int, float], _RunnerLooks] = BoundedDict(MOST_RUNNERS)
        self._totals: BoundedDict[str, ModelTotals] = BoundedDict(MOST_MODELS)

    def totals(self) -> Iterable[tuple[str, ModelTotals]]:
        """Yield each model that was seen, with its totals."""
        return self._totals.items()

    def now(self, runner: tuple[int, float]) -> SlotsNow | None:
        """Return the last look at a runner; None: it was not looked at."""
        looks = self._runners.get(runner)
        if looks is None or not looks.slots:
            return None
        busy = [slot for slot in looks.slots if slot.busy]
        return SlotsNow(
            len(looks.slots),
            len(busy),
            min(slot.context for slot in looks.slots),
            max((slot.held for slot in busy), default=0),
            looks.most,
            sum(slot.held for slot in looks.slots if not slot.busy),
        )

    def exited(self, model: str, runner: tuple[int, float], at: float) -> SlotUse | None:
        """Forget a runner that exited. Return the end of the work that it was seen at."""
        looks = self._runners.pop(runner, None)
        was_busy = looks is not None and any(slot.busy for slot in looks.slots)
        return SlotUse(model, at, busy=False) if was_busy else None

    def look(
        self,
        model: str,
        runner: tuple[int, float],
        at: float,
        slots: tuple[Slot, ...],
        *,
        born: float | None = None,
    ) -> SlotUse | BriefUse | None:
        """Count one look at the slots of a model's runner; return what it shows of their use.

        `at`: when the look ended, seconds on any clock that only grows. `born`: when the process
        started; None: before its looks could have begun.
        """
        totals = self._of(model)
        looks = self._runners.get(runner)
        before, earlier = () if looks is None else looks.slots, at
        if looks is not None:
            earlier = looks.at
        elif born is not None:  # the request that it was loaded for may have ended by now
            before, earlier = tuple(Slot(x.id, x.context, busy=False) for x in slots), born
        earlier = max(earlier, at - LONGEST_STEP)
        middle = (earlier + at) / 2
        if looks is None:
            looks = _RunnerLooks(at, slots)
        else:
            _add_time(totals, looks.slots, slots, at - looks.at)
        self._runners[runner] = looks
        for slot in slots:
            _count(totals, looks.tasks.setdefault(slot.id, _Task()), slot)
        looks.at, looks.slots = at, slots
        looks.most = max(looks.most, *(slot.held for slot in slots if slot.busy), 0)
        is_busy, was_busy = any(s.busy for s in slots), any(s.busy for s in before)
        has_worked = is_busy or was_busy or _has_new_task(before, slots)
        if has_worked:
            totals.last_use = at if is_busy else middle
        if is_busy != was_busy:
            return SlotUse(model, middle, is_busy)
        return BriefUse(model, earlier, at) if has_worked and not is_busy else None

    def count(self, model: str, runner: tuple[int, float], counters: RunnerCounters) -> None:
        """Add what a runner's own counters gained; those of its successor start at 0 again."""
        looks = self._runners.get(runner)
        if looks is None:
            return
        totals = self._of(model)
        totals.counters = (totals.counters or NO_COUNTERS).plus(counters.since(looks.counters))
        looks.counters = counters

    def _of(self, model: str) -> ModelTotals:
        totals = self._totals.get(model)
        if totals is None:
            totals = self._totals[model] = ModelTotals()
        return totals


def _has_new_task(before: tuple[Slot, ...], after: tuple[Slot, ...]) -> bool:
    """Return whether a slot began another task since the look before."""
    was = {slot.id: slot.task for slot in before}
    return any(slot.id in was and slot.task not in (None, was[slot.id]) for slot in after)


def _add_time(
    totals: ModelTotals, before: tuple[Slot, ...], after: tuple[Slot, ...], step: float
) -> None:
    if not 0 < step <= LONGEST_STEP:
        return
    was = {slot.id: slot.busy for slot in before}
    shares = [(slot.busy + was.get(slot.id, slot.busy)) / 2 for slot in after]
    if not shares:
        return
    totals.busy_seconds += step * max(shares)
    totals.slot_busy_seconds += step * sum(shares)
    totals.slot_idle_seconds += step * (len(shares) - sum(shares))


def _count(totals: ModelTotals, task: _Task, slot: Slot) -> None:
    """Count what a slot generated, each token once."""
    if slot.task is None:
        return
    if slot.task != task.task:
        task.task, task.prompt, task.held, task.counted = slot.task, None, 0, 0
    if slot.busy:
        if slot.decoded and slot.held < task.held and slot.decoded >= task.counted:
            totals.context_shifts += 1
        elif slot.decoded:
            task.prompt = slot.held - slot.decoded
        generated = slot.decoded
    elif task.prompt is None:
        return  # it was not seen at work: what it holds may all be its prompt
    else:
        generated = slot.held - task.prompt  # `n_decoded` is 0 again, the slot keeps its tokens
    task.held = slot.held
    if generated > task.counted:
        totals.generated_tokens += generated - task.counted
        task.counted = generated
