# SPDX-License-Identifier: Apache-2.0
"""What an exporter beside the server would see of its machine in a rehearsal."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ollama_exporter.host.runner.runner_command import RunnerCommand
from ollama_exporter.host.runner.runner_counters import RunnerCounters
from ollama_exporter.host.runner.slot_usage import ModelTotals, RunnerSight, SlotsNow
from ollama_exporter.residency.facts import (
    Fact,
    ProcessesSeen,
    ProcessExited,
    ProcessStarted,
    WeightsNamed,
)
from ollama_exporter.simulator.model_files import MIB
from ollama_exporter.simulator.offline_run import OfflineRun
from ollama_exporter.simulator.script import Script
from ollama_exporter.simulator.state import Load, ServerStarted, ServerStopped, TrueReason, Unload

NOTICED: Final = 0.01  # seconds until a birth is noticed
OVERHEAD: Final = 700 * MIB  # of main memory that a runner takes beside what lies on the GPU
CORES: Final = {True: 1.0, False: 8.0}  # that a runner keeps busy, with a GPU and without
PROMPT: Final = 900  # tokens of every prompt of the rehearsal
CACHED: Final = 0.6  # share of them that the prompt cache has
BUILD: Final = "b10488"
LINES: Final = {"info": 1 / 20, "warn": 1 / 1800}  # per second that the server is up


def facts(rehearsal: OfflineRun, script: Script) -> Iterator[tuple[float, Fact]]:
    """Yield the births and deaths of the rehearsal's processes, each with its moment."""
    server, servers = 0, iter(range(1, 1000))
    seen = False
    for event in sorted(rehearsal.truth, key=_moment):
        match event:
            case ServerStarted(at=at):
                server = next(servers)
                if not seen:
                    yield at, ProcessesSeen(at, seen=True)
                    for name, manifest in script.catalogue.manifests.items():
                        yield at, WeightsNamed(at, name, manifest.file.weights)
                    seen = True
                yield at, ProcessStarted(at + NOTICED, at, server, None)
            case ServerStopped(at=at):
                yield at, ProcessExited(at, server)
            case Load(started_at=at, pid=pid, weights=weights):
                yield at, ProcessStarted(at + NOTICED, at, pid, weights)
            case Unload(pid=pid):
                at = event.decided if event.reason is TrueReason.CRASHED else event.at
                yield at, ProcessExited(at, pid)


def _moment(event: Load | Unload | ServerStarted | ServerStopped) -> float:
    return event.started_at if isinstance(event, Load) else event.at


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used: bytes, and seconds of CPU."""

    resident: int
    cpu: float


@dataclass(frozen=True, slots=True)
class Answering:
    """One answer at work in a slot."""

    begun: float
    ended: float
    tokens: int

    def held(self, now: float) -> int:
        """Return the tokens of prompt and answer so far."""
        share = min(1.0, (now - self.begun) / max(self.ended - self.begun, 0.01))
        return PROMPT + int(self.tokens * share)


class Machine:
    """Memory and CPU of runners as the rehearsal has them busy, and lines of a log."""

    def __init__(self, rehearsal: OfflineRun, script: Script) -> None:
        self._gpu, self.now = script.host.gpu, 0.0
        self._start = min((seen.at for seen in rehearsal.polls), default=0.0)
        self._runners = {e.pid: e for e in rehearsal.truth if isinstance(e, Load)}
        self._sizes = {
            name: m.file.memory(script.host.automatic_context)
            for name, m in script.catalogue.manifests.items()
        }
        self._slots = script.host.parallel
        self._ends = {e.pid: e.at for e in rehearsal.truth if isinstance(e, Unload)}
        self._work: dict[str, list[Answering]] = {}
        self._busy: dict[str, list[tuple[float, float]]] = {}  # end of an answer, seconds it took
        for answer in sorted(rehearsal.answers, key=lambda each: each.ended):
            if answer.granted is not None:
                name = next(n for n in self._sizes if n.startswith(answer.step.model))
                took = answer.ended - answer.granted
                self._busy.setdefault(name, []).append((answer.ended, took))
                work = Answering(answer.granted, answer.ended, answer.step.tokens)
                self._work.setdefault(name, []).append(work)

    @property
    def log_lines(self) -> Mapping[str, int] | None:
        """Lines of the log by level."""
        return {level: int((self.now - self._start) * each) for level, each in LINES.items()}

    @property
    def log_understood(self) -> bool | None:
        """Whether the lines of the log can be read."""
        return True

    def load_progress(self, model: str, pid: int) -> float | None:  # noqa: ARG002 - the protocol's
        """Return nothing: the rehearsal reads no files."""
        return None

    def runners(self) -> Iterable[RunnerSight]:
        """Return what the slots of each resident runner would show now."""
        for load in self._runners.values():
            if load.at <= self.now < self._ends.get(load.pid, math.inf):
                slots, context = self._slots, load.num_ctx
                command = RunnerCommand(0, slots, slots * context, flash_attention="auto")
                yield RunnerSight(load.name, command, BUILD, self._slots_now(load))

    def _slots_now(self, load: Load) -> SlotsNow:
        answers = [x for x in self._work.get(load.name, ()) if load.at <= x.begun <= self.now]
        busy = [x.held(self.now) for x in answers if self.now < x.ended][: self._slots]
        done = [x.held(self.now) for x in answers if x.ended <= self.now]
        context = load.num_ctx
        return SlotsNow(
            self._slots,
            len(busy),
            context,
            min(context, max(busy, default=0)),
            min(context, max([*busy, *done], default=0)),
            sum(done[-(self._slots - len(busy)) :]) if len(busy) < self._slots else 0,
        )

    def runner_totals(self) -> Iterable[tuple[str, ModelTotals]]:
        """Return what looks at slots and the runners' own counters would have counted."""
        for name in sorted({load.name for load in self._runners.values() if load.at <= self.now}):
            work = [x for x in self._work.get(name, ()) if x.begun < self.now]
            ended = [x for x in work if x.ended <= self.now]
            busy = sum(min(x.ended, self.now) - x.begun for x in work)
            resident = sum(
                min(self.now, self._ends.get(load.pid, math.inf)) - load.at
                for load in self._runners.values()
                if load.name == name and load.at <= self.now
            )
            tokens = sum(x.tokens for x in ended)
            yield (
                name,
                ModelTotals(
                    busy_seconds=min(busy, resident),
                    slot_busy_seconds=busy,
                    slot_idle_seconds=max(0.0, self._slots * resident - busy),
                    generated_tokens=tokens,
                    counters=RunnerCounters(
                        prompt_tokens=len(ended) * PROMPT * (1 - CACHED),
                        cached_prompt_tokens=len(ended) * PROMPT * CACHED,
                        prompt_seconds=float(len(ended)),
                        generated_tokens=tokens,
                        generated_seconds=busy,
                    ),
                ),
            )

    def usage(self, pid: int) -> Usage | None:
        """Return what a runner has used."""
        load = self._runners.get(pid)
        if load is None:
            return None
        busy = self._busy.get(load.name, [])
        first = bisect_right(busy, (load.at, 0.0))
        last = bisect_right(busy, (self.now, float("inf")))
        seconds = sum(took for _, took in busy[first:last])
        resident = OVERHEAD if self._gpu else self._sizes[load.name]
        return Usage(resident, seconds * CORES[self._gpu])
