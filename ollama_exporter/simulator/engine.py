# SPDX-License-Identifier: Apache-2.0
"""Runs the scheduler on a clock, and wakes the requests that wait."""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from ollama_exporter.simulator.runner_slots import RunnerSlots
from ollama_exporter.simulator.scheduler import Scheduler
from ollama_exporter.simulator.state import (
    Granted,
    Host,
    Listed,
    LoadRefused,
    QueuedRequest,
    Runner,
    Signal,
    Started,
    TrueReason,
    Truth,
)

Clock = Callable[[], float]

CRASHED = "an error was encountered while running the model: GGML_ASSERT failed"
STOPPED_UNEXPECTEDLY = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal "
    "error, check ollama server logs for details: cudaMalloc failed: out of memory\n"
    "CUDA error: out of memory"
)


class RefusedError(Exception):
    """The request gets an error instead of a runner."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(text)


class RunnerDiedError(Exception):
    """The runner died during the answer."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)


class Ticket:
    """One request in the scheduler."""

    def __init__(self, request: QueuedRequest) -> None:
        loop = asyncio.get_running_loop()
        self.request = request
        self._granted: asyncio.Future[None] = loop.create_future()
        self._started: asyncio.Future[RunnerSlots] = loop.create_future()
        self._broken: asyncio.Future[str] = loop.create_future()

    async def granted(self) -> None:
        """Wait for the runner. Raises RefusedError."""
        await self._granted

    async def started(self) -> RunnerSlots:
        """Wait for a free slot of the runner and return its slots. Raises RunnerDiedError."""
        either: set[asyncio.Future[Any]] = {self._started, self._broken}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        self._check()
        return self._started.result()

    async def work(self, seconds: float) -> None:
        """Let the runner compute for some seconds. Raises RunnerDiedError as soon as it dies."""
        if seconds > 0:
            await asyncio.wait({self._broken}, timeout=seconds)
        self._check()

    def _check(self) -> None:
        if self._broken.done():
            raise RunnerDiedError(self._broken.result())

    def grant(self) -> None:
        """Wake the request: the scheduler granted the runner."""
        if not self._granted.done():
            self._granted.set_result(None)

    def start(self, slots: RunnerSlots) -> None:
        """Wake the request: one of the runner's slots is free."""
        if not self._started.done():
            self._started.set_result(slots)

    def refuse(self, status: int, text: str) -> None:
        """Fail the request: the scheduler refused a runner."""
        if not self._granted.done():
            self._granted.set_exception(RefusedError(status, text))

    def fail(self, text: str) -> None:
        """Fail the request: the runner died."""
        if not self._broken.done():
            self._broken.set_result(text)

    @property
    def has_runner(self) -> bool:
        """Whether it was granted a runner."""
        done = self._granted.done() and not self._granted.cancelled()
        return done and self._granted.exception() is None

    @property
    def settled(self) -> bool:
        """Whether the scheduler granted or refused."""
        return self._granted.done() and not self._granted.cancelled()


class Engine:
    """The scheduler of a server. `clock`: Unix seconds, never backwards."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._pids = itertools.count(1000)
        self._ids = itertools.count(1)
        self._past: list[Truth] = []  # before the last restart
        self._tickets: dict[int, Ticket] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._scheduler = Scheduler(host, clock(), pids=self._pids)
        # Called with all runners that have a process, by pid, whenever they may have changed.
        self.on_runners: Callable[[Mapping[int, Runner]], None] | None = None

    @property
    def host(self) -> Host:
        """The machine."""
        return self._host

    @property
    def truth(self) -> list[Truth]:
        """What really happened, oldest first."""
        return [*self._past, *self._scheduler.truth]

    @property
    def runners(self) -> tuple[Runner, ...]:
        """The loaded runners."""
        return self._scheduler.runners

    @property
    def loading(self) -> str | None:
        """The name of the model that is being loaded."""
        return self._scheduler.loading

    def next_id(self) -> int:
        """Return the number of the next request."""
        return next(self._ids)

    @asynccontextmanager
    async def serve(self, request: QueuedRequest) -> AsyncIterator[Ticket]:
        """Give the request to the scheduler. The request ends with the block."""
        ticket = Ticket(request)
        self._tickets[request.id] = ticket
        scheduler = self._scheduler
        scheduler.arrive(self._clock(), request)
        self._carry_out()
        try:
            yield ticket
        finally:
            self._tickets.pop(request.id, None)
            if scheduler is self._scheduler:  # else the server restarted meanwhile
                if ticket.has_runner:
                    scheduler.finish(self._clock(), request.id)
                elif not ticket.settled:
                    scheduler.leave(self._clock(), request.id)
                self._carry_out()

    def stop(self, key: str) -> None:
        """Expire the runner of these weights."""
        self._scheduler.stop(self._clock(), key)
        self._carry_out()

    def listed(self) -> list[Listed]:
        """Return what `/api/ps` shows."""
        models = self._scheduler.listed(self._clock())
        self._carry_out()
        return models

    def crash(self, key: str) -> bool:
        """Kill the runner of these weights; False: it is not loaded."""
        known = any(listed.file.weights == key for listed in self.listed())
        self._fail(self._scheduler.crash(self._clock(), key), CRASHED)
        return known

    def process_died(self, pid: int) -> None:
        """Crash a runner, or fail its load: somebody else killed its process."""
        runner = self._scheduler.processes().get(pid)
        if runner is None:
            return
        if runner.loading:
            self._scheduler.abort_load(self._clock())
            self._carry_out()
        else:
            self.crash(runner.file.weights)

    def out_of_memory(self, key: str) -> bool:
        """Let the runner of these weights run out of memory during an answer."""
        failed = self._scheduler.out_of_memory(self._clock(), key)
        self._fail(failed, STOPPED_UNEXPECTEDLY)
        return bool(failed)

    def fail_next_load(self, how: TrueReason) -> None:
        """Let the next load end by `OUT_OF_MEMORY` or `CRASHED`."""
        self._scheduler.failing_loads.append(how)

    def shut_down(self, signal: Signal) -> None:
        """Stop the server."""
        self._scheduler.shut_down(self._clock(), signal)
        self._past.extend(self._scheduler.truth)
        self._scheduler.truth.clear()
        self.close()

    def start_again(self) -> None:
        """Start the server again, with nothing loaded."""
        self._scheduler = Scheduler(self._host, self._clock(), pids=self._pids)

    def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, ids: list[int], text: str) -> None:
        for request_id in ids:
            if request_id in self._tickets:
                self._tickets[request_id].fail(text)
        self._carry_out()

    def _tick(self) -> None:
        self._scheduler.advance(self._clock())
        self._carry_out()

    def _carry_out(self) -> None:
        """Wake the waiting requests, and set the timer for what falls due next."""
        effects = self._scheduler.effects[:]
        self._scheduler.effects.clear()
        for effect in effects:
            ticket = self._tickets.get(effect.id)
            if ticket is None:
                continue
            match effect:
                case Granted():
                    ticket.grant()
                case Started():
                    runner = self._scheduler.runner_of(effect.id)
                    if runner is not None:
                        ticket.start(runner.slots)
                case LoadRefused(status=status, error=text):
                    ticket.refuse(status, text)
        if self.on_runners is not None:
            self.on_runners(self._scheduler.processes())
        self.close()
        due = self._scheduler.due()
        if due < math.inf:
            loop = asyncio.get_running_loop()
            # the event loop takes no timer of 292 years
            self._timer = loop.call_later(min(max(0.0, due - self._clock()), 3600.0), self._tick)
