# SPDX-License-Identifier: Apache-2.0
"""Plays a script on the scheduler alone, in virtual time: an hour takes milliseconds."""

import heapq
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from ollama_exporter.simulator.calls import Call, CallPlan, keep_alive_of, plan
from ollama_exporter.simulator.library import Library
from ollama_exporter.simulator.scheduler import Scheduler
from ollama_exporter.simulator.script import (
    Ask,
    Crash,
    OutOfMemory,
    Recreate,
    Restart,
    Script,
    Step,
    Stop,
)
from ollama_exporter.simulator.state import Granted, Listed, LoadRefused, Started, Truth


@dataclass(frozen=True, slots=True)
class Finish:
    """The answer to a request is complete."""

    id: int
    life: int


@dataclass(frozen=True, slots=True)
class Leave:
    """A client gives up."""

    id: int
    life: int


@dataclass(frozen=True, slots=True)
class Up:
    """The server starts again."""


@dataclass(frozen=True, slots=True)
class Poll:
    """A poll is due."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What `/api/ps` showed; None: the server was down."""

    at: float
    models: tuple[Listed, ...] | None


@dataclass(frozen=True, slots=True)
class Answered:
    """The outcome of a request. Moments that it did not reach are None."""

    step: Ask
    arrived: float
    granted: float | None
    ended: float
    error: str | None


@dataclass(frozen=True, slots=True)
class OfflineRun:
    """What happened, and what polls showed."""

    truth: tuple[Truth, ...]
    polls: tuple[Seen, ...]
    answers: tuple[Answered, ...]


_Due = Step | Finish | Leave | Up | Poll


class _Stage:
    """The event queue of one run."""

    def __init__(self, script: Script, start: float) -> None:
        self.script = script
        self._pids = itertools.count(1000)
        self.scheduler = Scheduler(script.host, start, pids=self._pids)
        self.library = Library(script.catalogue, start)
        self.truth: list[Truth] = []
        self.polls: list[Seen] = []
        self.answers: list[Answered] = []
        self._queue: list[tuple[float, int, _Due]] = []
        self._order = itertools.count()
        self._ids = itertools.count(1)
        self._asked: dict[int, tuple[Ask, CallPlan, str, float, float | None]] = {}
        self._oom_next: set[str] = set()  # models whose next answer runs out of memory
        self._life = 0
        self.up = True

    def put(self, at: float, due: _Due) -> None:
        heapq.heappush(self._queue, (at, next(self._order), due))

    def run(self, until: float) -> None:
        while True:
            ahead = self._queue[0][0] if self._queue else math.inf
            own = self.scheduler.due() if self.up else math.inf
            at = min(ahead, own)
            if at > until:
                return
            if own <= ahead:
                self.scheduler.advance(at)
            else:
                self._do(at, heapq.heappop(self._queue)[2])
            self._carry_out()

    def _do(self, at: float, due: _Due) -> None:
        match due:
            case Poll():
                models = tuple(self.scheduler.listed(at)) if self.up else None
                self.polls.append(Seen(at, models))
            case Up():
                self.scheduler = Scheduler(self.script.host, at, pids=self._pids)
                self.up = True
            case Finish(id=number, life=life) if life == self._life:
                self._end(at, number, None)
            case Leave(id=number, life=life) if life == self._life and number in self._asked:
                self.scheduler.leave(at, number)
                self._note(at, number, "client left")
            case Ask() | Stop() | Recreate() | Crash() | OutOfMemory() | Restart() if self.up:
                self._step(at, due)
            case _:
                pass  # of an earlier server, or while the server is down

    def _step(self, at: float, step: Step) -> None:
        if isinstance(step, Restart):
            self.scheduler.shut_down(at, step.signal)
            self.truth.extend(self.scheduler.truth)
            for number in list(self._asked):
                self._note(at, number, "connection broke")
            self._life += 1
            self.up = False
            self.put(at + step.down + step.silent, Up())
            return
        found = self.library.find(step.model)
        if found is None:
            raise ValueError(f"script {self.script.name!r} names {step.model!r}, not installed")
        name, manifest = found
        match step:
            case Ask():
                self._ask(
                    at,
                    step,
                    Call(
                        step.model, name, manifest, _options(step), keep_alive_of(step.keep_alive)
                    ),
                )
            case Stop():
                self.scheduler.stop(at, manifest.file.weights)
            case Recreate():
                self.library.create(name, manifest, at, num_ctx=None, reuse_weights=False)
            case Crash():
                self._fail(at, self.scheduler.crash(at, manifest.file.weights))
            case OutOfMemory():
                self._oom_next.add(name)

    def _ask(self, at: float, step: Ask, call: Call) -> None:
        number = next(self._ids)
        _, body = step.body()
        call_plan = plan(call.manifest.file, str(body.get("prompt", body)), None)
        self._asked[number] = (step, call_plan, call.manifest.file.weights, at, None)
        self.scheduler.arrive(at, call.request(self.script.host, number))
        if step.leave_after is not None:
            self.put(at + step.leave_after, Leave(number, self._life))

    def _end(self, at: float, number: int, error: str | None) -> None:
        if number in self._asked:
            self.scheduler.finish(at, number)
            self._note(at, number, error)

    def _fail(self, at: float, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._end(at, number, "runner died")

    def _note(self, at: float, number: int, error: str | None) -> None:
        step, _, _, arrived, granted = self._asked.pop(number)
        self.answers.append(Answered(step, arrived, granted, at, error))

    def _carry_out(self) -> None:
        while self.scheduler.effects:
            effect = self.scheduler.effects.pop(0)
            if effect.id not in self._asked:
                continue
            step, call_plan, weights, arrived, _ = self._asked[effect.id]
            match effect:
                case LoadRefused(at=at, error=error):
                    self._note(at, effect.id, error)
                case Granted(at=at):
                    self._asked[effect.id] = (step, call_plan, weights, arrived, at)
                case Started(at=at):
                    self._start(at, effect.id, step, call_plan, weights)

    def _start(self, at: float, number: int, step: Ask, call_plan: CallPlan, weights: str) -> None:
        found = self.library.find(step.model)
        if found is not None and step.tokens and found[0] in self._oom_next:
            self._oom_next.discard(found[0])
            self._fail(at, self.scheduler.out_of_memory(at, weights))
        else:
            seconds = call_plan.first + call_plan.tokens / call_plan.rate if step.tokens else 0.0
            self.put(at + seconds, Finish(number, self._life))


def _options(step: Ask) -> dict[str, object]:
    return {} if step.num_ctx is None else {"num_ctx": step.num_ctx}


def rehearse(script: Script, *, start: float = 0.0, polls: Iterable[float] = ()) -> OfflineRun:
    """Play a script in virtual time from `start` on; `polls`: moments of polls after that."""
    stage = _Stage(script, start)
    for step in script.steps:
        stage.put(start + step.at, step)
    for at in polls:
        stage.put(start + at, Poll())
    stage.run(start + script.duration)
    if stage.up:
        stage.truth.extend(stage.scheduler.truth)
    return OfflineRun(tuple(stage.truth), tuple(stage.polls), tuple(stage.answers))
