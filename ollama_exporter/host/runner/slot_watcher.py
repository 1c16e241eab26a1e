# SPDX-License-Identifier: Apache-2.0
"""Looks at the slots of each resident model's runner, again and again.

A look never keeps a model loaded: Ollama counts its own requests only. A runner that is loading is
not asked: its answer would wait for the load.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from ollama_exporter.host.processes.reader import Process
from ollama_exporter.host.runner.look_schedule import LOOK_TIMES, LookSchedule, LookTimes
from ollama_exporter.host.runner.runner_client import RunnerAnswer, RunnerClient
from ollama_exporter.host.runner.runner_command import RunnerCommand, runner_command
from ollama_exporter.host.runner.runner_counters import decode_counters
from ollama_exporter.host.runner.slot_usage import (
    BriefUse,
    ModelTotals,
    RunnerSight,
    SlotUsage,
    SlotUse,
)
from ollama_exporter.host.runner.slots import Slot, decode_slots

LONGEST_BUILD: Final = 32  # characters
GIVEN_UP: Final = 3  # looks without an answer after which a runner is said to give none
ANSWERS: Final = {True: "yes", False: "no", None: "no answer"}
logger = logging.getLogger(__name__)


class _Props(msgspec.Struct):
    build_info: str = ""


class _Runner(Struct):
    """A runner that is listed: what it offers, and when it is asked next."""

    model: str
    process: Process
    command: RunnerCommand
    schedule: LookSchedule
    slots: bool | None = None  # whether it answers /slots; None: not known yet
    counters: bool | None = None  # likewise /metrics
    build: str = ""
    task: asyncio.Task[None] | None = None

    @property
    def key(self) -> tuple[int, float]:
        return self.process.pid, self.process.start


class SlotLook(Struct, frozen=True):
    """One look, for recordings and screens. `slots`: None where the runner did not answer."""

    model: str
    began: float
    ended: float
    process: Process
    status: int | None
    slots: tuple[Slot, ...] | None


class RunnerQuestions(Protocol):
    """Asks runners, one question at a time for each."""

    async def ask(self, port: int, path: str) -> RunnerAnswer | None:
        """Return the answer; None: none that can be used."""


class SlotWatcher:
    """Runs until it is cancelled.

    `listed`: model and pid of each resident runner that is not loading; `runners`: the living
    runner processes by pid; `on_look`, `on_use` hear of each look, and of what it shows of the
    use of a model.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float],
        listed: Callable[[], Iterable[tuple[str, int]]],
        runners: Callable[[], Mapping[int, Process]],
        on_look: Callable[[SlotLook], None] | None = None,
        on_use: Callable[[SlotUse | BriefUse], None] | None = None,
        times: LookTimes = LOOK_TIMES,
        connect: Callable[[], AbstractAsyncContextManager[RunnerQuestions]] = RunnerClient,
    ) -> None:
        self._times, self._connect = times, connect
        self._now, self._listed, self._processes = now, listed, runners
        self._on_look, self._on_use = on_look, on_use
        self._runners: dict[tuple[int, float], _Runner] = {}
        self._usage, self._begun = SlotUsage(), now()
        self._logged: tuple[bool | None, bool | None] | None = None

    def totals(self) -> Iterable[tuple[str, ModelTotals]]:
        """Yield each model that was seen at work, with what was counted since the start."""
        return self._usage.totals()

    def sights(self) -> list[RunnerSight]:
        """Return what is seen of each resident runner."""
        return [
            RunnerSight(each.model, each.command, each.build, self._usage.now(each.key))
            for each in self._runners.values()
        ]

    async def run(self) -> None:
        """Look at the runners when they are due."""
        async with self._connect() as client, asyncio.TaskGroup() as looks:
            while True:
                self._match()
                now = self._now()
                for runner in self._runners.values():
                    is_free = runner.task is None or runner.task.done()
                    if is_free and runner.slots is not False and now >= runner.schedule.next_look:
                        runner.task = looks.create_task(self._look(client, runner))
                await asyncio.sleep(self._times.tick)

    def _match(self) -> None:
        """Hold exactly the runners that are listed and live."""
        processes = self._processes()
        wanted: dict[tuple[int, float], tuple[str, Process]] = {}
        for model, pid in self._listed():
            process = processes.get(pid)
            if process is not None:
                wanted[process.pid, process.start] = (model, process)
        for key in self._runners.keys() - wanted.keys():
            runner = self._runners.pop(key)
            self._report(self._usage.exited(runner.model, key, self._now()))
        for key, (model, process) in wanted.items():
            if key in self._runners:
                continue
            command = runner_command(process.command)
            if command is not None:
                self._runners[key] = _Runner(model, process, command, LookSchedule(self._times))

    async def _look(self, client: RunnerQuestions, runner: _Runner) -> None:
        """Ask a runner for its slots, and for its counters where they may have moved."""
        began = self._now()
        answer = await client.ask(runner.command.port, "/slots")
        ended = self._now()
        if runner.key not in self._runners:
            return  # it left meanwhile: what it says belongs to no model any more
        slots = None if answer is None else decode_slots(answer.body)
        status = None if answer is None else answer.status
        if self._on_look is not None:
            self._on_look(SlotLook(runner.model, began, ended, runner.process, status, slots))
        if slots is None:
            self._on_no_slots(runner, ended, has_answered=answer is not None)
        else:
            await self._on_slots(client, runner, ended, slots)

    def _on_no_slots(self, runner: _Runner, ended: float, *, has_answered: bool) -> None:
        runner.schedule.was_late(ended)
        if runner.slots is not None:
            return
        if has_answered:
            runner.slots = False
        if has_answered or runner.schedule.late == GIVEN_UP:
            self._log(runner)

    async def _on_slots(
        self, client: RunnerQuestions, runner: _Runner, ended: float, slots: tuple[Slot, ...]
    ) -> None:
        born = runner.process.born if runner.process.born >= self._begun else None
        use = self._usage.look(runner.model, runner.key, ended, slots, born=born)
        used = use is not None or any(slot.busy for slot in slots)
        runner.schedule.answered(ended, used=used)
        self._report(use)
        if runner.counters is not False and runner.schedule.wants_counters(ended, worked=used):
            await self._ask_counters(client, runner)
        if runner.slots is None:
            runner.slots = True
            runner.build = await self._build(client, runner)
            self._log(runner)

    def _report(self, use: SlotUse | BriefUse | None) -> None:
        if use is not None and self._on_use is not None:
            self._on_use(use)

    async def _ask_counters(self, client: RunnerQuestions, runner: _Runner) -> None:
        answer = await client.ask(runner.command.port, "/metrics")
        counters = None if answer is None else decode_counters(answer.body)
        if counters is not None:
            runner.counters = True
            self._usage.count(runner.model, runner.key, counters)
        elif answer is not None and runner.counters is None:
            runner.counters = False

    async def _build(self, client: RunnerQuestions, runner: _Runner) -> str:
        answer = await client.ask(runner.command.port, "/props")
        try:
            build = msgspec.json.decode(b"{}" if answer is None else answer.body, type=_Props)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return ""
        text = build.build_info[:LONGEST_BUILD]
        return text if text.isprintable() else ""

    def _log(self, runner: _Runner) -> None:
        """Log what runners offer; again only if it changes, as each load starts another runner."""
        offers = (runner.slots, runner.counters)
        level = logging.DEBUG if offers == self._logged else logging.INFO
        self._logged = offers
        logger.log(
            level,
            "Runner found",
            extra={
                "model": runner.model,
                "pid": runner.process.pid,
                "port": runner.command.port,
                "slots": ANSWERS[runner.slots],
                "counters": "yes" if runner.counters else "no, set LLAMA_ARG_ENDPOINT_METRICS=1",
            },
        )
