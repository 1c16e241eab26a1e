# SPDX-License-Identifier: Apache-2.0
"""Known work on the simulator's runners, and what looks at their slots make of it. Virtual time."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Self

import pytest

from ollama_exporter.host.processes.reader import Process
from ollama_exporter.host.runner.look_schedule import LOOK_TIMES
from ollama_exporter.host.runner.runner_client import RunnerAnswer
from ollama_exporter.host.runner.slot_usage import BriefUse, ModelTotals, SlotUse
from ollama_exporter.host.runner.slot_watcher import SlotLook, SlotWatcher
from ollama_exporter.simulator.answers import GeneratedAnswer, tokens
from ollama_exporter.simulator.calls import Call, plan, resolve
from ollama_exporter.simulator.process_manager import runner_command
from ollama_exporter.simulator.runner_answers import metrics_answer, props_answer, slots_answer
from ollama_exporter.simulator.state import Runner
from tests.support.virtual import now, run_virtually
from tests.support.virtual_ollama import HOST, VirtualOllama

RATE = 50  # tokens a second
MODEL = "mistral:latest"


@dataclass(frozen=True)
class Work:
    """One request of a client, and the pause before it."""

    tokens: int
    words: int
    pause: float

    @property
    def prompt(self) -> str:
        """Words that no other prompt begins with, and what the runner is to do."""
        words = " ".join(f"{self.tokens}-{n}" for n in range(self.words - 2))
        return f"{words} [[n={self.tokens} tps={RATE}]]"


@dataclass
class Truth:
    """What really happened."""

    tokens: int = 0
    prompt_tokens: int = 0
    stretches: list[tuple[float, float]] = field(default_factory=list)

    @property
    def busy_seconds(self) -> float:
        """Seconds in which at least one request ran."""
        total, until = 0.0, 0.0
        for begin, end in sorted(self.stretches):
            total += max(0.0, end - max(begin, until))
            until = max(until, end)
        return total

    @property
    def last_use(self) -> float:
        """The end of the last request."""
        return max(end for _, end in self.stretches)


class VirtualRunners:
    """Answers for the simulator's runners without sockets. Ports are their pids."""

    def __init__(self, ollama: VirtualOllama, *, counters: bool = True) -> None:
        self._ollama, self._counters = ollama, counters

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def runners(self) -> Mapping[int, Runner]:
        """Return the resident runners by pid."""
        return {runner.pid: runner for runner in self._ollama.engine.runners}

    def processes(self) -> Mapping[int, Process]:
        """Return their processes."""
        return {
            pid: Process(pid, 1.0, 1.0, 1, tuple(runner_command("new", "sha256-0", pid, slots=2)))
            for pid in self.runners()
        }

    def listed(self) -> Iterable[tuple[str, int]]:
        """Return models and pids."""
        return [(runner.name, pid) for pid, runner in self.runners().items()]

    async def ask(self, port: int, path: str) -> RunnerAnswer | None:
        """Answer at once."""
        runner = self.runners().get(port)
        if runner is None:
            return None
        if path == "/slots":
            return RunnerAnswer(200, slots_answer(runner.slots, with_prompts=True))
        if path == "/metrics":
            body = metrics_answer(runner.slots) if self._counters else b""
            return RunnerAnswer(200 if self._counters else 501, body)
        return RunnerAnswer(200, props_answer(runner.slots, "sha256-0"))


@dataclass
class Scene:
    ollama: VirtualOllama
    watcher: SlotWatcher
    truth: Truth
    uses: list[SlotUse | BriefUse]
    looks: list[SlotLook]

    @property
    def totals(self) -> ModelTotals:
        """What was counted of the model."""
        return dict(self.watcher.totals())[MODEL]

    async def client(self, works: Iterable[Work], **options: object) -> None:
        """Ask one request after another, and note the truth."""
        engine = self.ollama.engine
        name, manifest = resolve(self.ollama.library, MODEL)
        for work in works:
            await asyncio.sleep(work.pause)
            todo = plan(manifest.file, work.prompt, None)
            call = Call(MODEL, name, manifest, {"num_ctx": 4096, **options}, None)
            async with engine.serve(call.request(engine.host, engine.next_id())) as ticket:
                await ticket.granted()
                begun = now()
                count = GeneratedAnswer(todo, now())
                async with aclosing(tokens(ticket, count, lambda **_: None)) as produced:
                    async for _ in produced:
                        pass
                self.truth.tokens += len(count.pieces)
                self.truth.prompt_tokens += todo.prompt_tokens
                self.truth.stretches.append((begun, now()))


@asynccontextmanager
async def scene(*, counters: bool = True) -> AsyncIterator[Scene]:
    ollama = VirtualOllama(replace(HOST, parallel=2, keep_alive=3600.0))
    runners = VirtualRunners(ollama, counters=counters)
    uses: list[SlotUse | BriefUse] = []
    looks: list[SlotLook] = []
    connect: AbstractAsyncContextManager[VirtualRunners] = runners
    watcher = SlotWatcher(
        now=now,
        listed=runners.listed,
        runners=runners.processes,
        on_use=uses.append,
        on_look=looks.append,
        connect=lambda: connect,
    )
    await ollama.ask(MODEL, prompt="", options={"num_ctx": 4096})  # an empty request loads
    task = asyncio.create_task(watcher.run())
    await asyncio.sleep(LOOK_TIMES.tick)
    yield Scene(ollama, watcher, Truth(), uses, looks)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    ollama.engine.close()


def works(seed: int, count: int) -> list[Work]:
    """Return what a person asks: answers of 6 to 40 s, pauses of 1 to 30 s."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible workload, not a secret
    return [
        Work(rng.randint(300, 2000), rng.randint(20, 800), rng.uniform(1, 30)) for _ in range(count)
    ]


@pytest.mark.parametrize("counters", [True, False])
def test_known_work_is_counted(*, counters: bool) -> None:
    async def story() -> None:
        async with scene(counters=counters) as seen:
            await asyncio.gather(seen.client(works(1, 15)), seen.client(works(2, 15)))
            await asyncio.sleep(20)
            truth, totals = seen.truth, seen.totals
            assert truth.stretches[-1][1] > 300
            # at most 5 % low, never high
            assert 0.95 * truth.tokens <= totals.generated_tokens <= truth.tokens
            assert totals.busy_seconds == pytest.approx(truth.busy_seconds, rel=0.02)
            spent = sum(end - begin for begin, end in truth.stretches)
            assert totals.slot_busy_seconds == pytest.approx(spent, rel=0.02)
            assert totals.last_use is not None
            assert abs(totals.last_use - truth.last_use) <= LOOK_TIMES.busy
            if counters:
                exact = totals.counters
                assert exact is not None
                assert exact.generated_tokens == truth.tokens
                assert exact.prompt_tokens + exact.cached_prompt_tokens == truth.prompt_tokens
                assert exact.generated_seconds == pytest.approx(truth.tokens / RATE)
            else:
                assert totals.counters is None

    run_virtually(story())


def test_answers_of_two_seconds_are_counted_where_the_model_is_in_use() -> None:
    async def story() -> None:
        async with scene(counters=False) as seen:
            rng = random.Random(1)  # noqa: S311 - a reproducible workload, not a secret
            work = [
                Work(rng.randint(100, 300), rng.randint(20, 400), rng.uniform(1, 30))
                for _ in range(60)
            ]
            await asyncio.gather(seen.client(work[::2]), seen.client(work[1::2]))
            await asyncio.sleep(20)
            assert 0.95 * seen.truth.tokens <= seen.totals.generated_tokens <= seen.truth.tokens
            busy = seen.truth.busy_seconds
            assert seen.totals.busy_seconds == pytest.approx(busy, rel=0.1)

    run_virtually(story())


def test_each_end_of_work_is_known_within_one_look() -> None:
    async def story() -> None:
        async with scene() as seen:
            await seen.client([Work(700, 50, 20.0 + number / 7) for number in range(30)])
            await asyncio.sleep(10)
            ends = [use.at for use in seen.uses if isinstance(use, SlotUse) and not use.busy]
            assert len(ends) == 30
            errors = [
                abs(at - end) for at, (_, end) in zip(ends, seen.truth.stretches, strict=True)
            ]
            assert max(errors) <= LOOK_TIMES.busy / 2 + LOOK_TIMES.tick

    run_virtually(story())


def test_short_requests_are_uses_too() -> None:
    """Their begins and ends are missed, and the tokens of those between two looks."""

    async def story() -> None:
        async with scene() as seen:
            await seen.client([Work(60, 50, 30.0 + number / 7) for number in range(30)])
            await asyncio.sleep(10)
            assert seen.totals.last_use is not None
            assert abs(seen.totals.last_use - seen.truth.last_use) <= LOOK_TIMES.idle / 2 + 1
            ends = [use for use in seen.uses if isinstance(use, BriefUse) or not use.busy]
            assert len(ends) == 30
            assert seen.totals.generated_tokens < seen.truth.tokens
            assert seen.totals.counters is not None
            assert seen.totals.counters.generated_tokens == seen.truth.tokens

    run_virtually(story())


def test_the_context_fills_and_shifts() -> None:
    async def story() -> None:
        async with scene() as seen:
            asking = asyncio.create_task(seen.client([Work(6000, 1000, 0.0)]))
            used, most, context = 0, 0, 0
            while not asking.done():
                await asyncio.sleep(1)
                (sight,) = seen.watcher.sights()
                assert sight.now is not None
                used = max(used, sight.now.context_used)
                most, context = sight.now.context_most, sight.now.slot_context
            assert context == 4096
            assert 3990 < used == most <= 4096  # seen full within a look of 100 tokens
            assert seen.totals.context_shifts == 2  # at 4096 tokens, and after 2046 more

    run_virtually(story())


def test_what_the_slots_hold_is_the_prompt_cache_and_a_prompt_alike_is_not_read_again() -> None:
    async def story() -> None:
        async with scene() as seen:
            await seen.client([Work(300, 500, 5.0), Work(300, 500, 5.0)])
            await asyncio.sleep(20)
            (sight,) = seen.watcher.sights()
            assert sight.now is not None
            assert (sight.now.busy, sight.now.context_used) == (0, 0)
            assert sight.now.prompt_cache == 500 + 300 - 1
            exact = seen.totals.counters
            assert exact is not None
            assert (exact.prompt_tokens, exact.cached_prompt_tokens) == (501, 499)

    run_virtually(story())
