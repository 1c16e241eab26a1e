# SPDX-License-Identifier: Apache-2.0
"""Serves one generation, from its arrival to the last byte. The route decides the format."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Protocol

from ollama_exporter.simulator import http
from ollama_exporter.simulator.calls import ApiError, Call, CallPlan
from ollama_exporter.simulator.context import SimulatorContext
from ollama_exporter.simulator.engine import RefusedError, RunnerDiedError, Ticket

PING: Final = 0.0015  # seconds that a warm request waits for its runner
REPEATS: Final = 30  # identical tokens in a row; one more aborts the generation


@dataclass(slots=True)
class TokenCount:
    """Counts and durations (seconds) of a generation."""

    plan: CallPlan
    arrived: float
    granted: float = 0.0
    prompted: float = 0.0
    ended: float = 0.0
    prompt_seconds: float = 0.0
    pieces: list[str] = field(default_factory=list)
    complete: bool = False  # a done record follows

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.pieces)

    @property
    def reason(self) -> str:
        """Why it ended."""
        return self.plan.reason if self.complete else ""


class Voice(Protocol):
    """The format of a route's answers. Each `bytes` is one chunk."""

    stream_type: str
    whole_type: str
    cache_control: bool

    def opening(self, tally: TokenCount) -> list[bytes]:
        """Write what comes before the first token."""

    def piece(self, text: str) -> bytes:
        """Write one token."""

    def closing(self, tally: TokenCount) -> list[bytes]:
        """Write the end of a complete answer."""

    def broken(self, text: str) -> list[bytes]:
        """Write the end of an answer whose runner died after the first byte."""

    def whole(self, tally: TokenCount) -> bytes:
        """Write the answer in one piece."""

    def failed(self, error: ApiError) -> bytes:
        """Write the body of an answer other than 200."""


class KillRunner(Protocol):
    """Kills the runner of this answer."""

    def __call__(self, *, of_memory: bool) -> None:
        """Kill it."""


class CutError(Exception):
    """A fault breaks the connection."""


async def tokens(
    ticket: Ticket, tally: TokenCount, kill_runner: KillRunner
) -> AsyncGenerator[str, None]:
    """Produce the tokens at the plan's pace. Raises RunnerDiedError, CutError."""
    plan = tally.plan
    slots = await ticket.started()
    with slots.working(plan.prompt, plan.prompt_tokens) as work:
        await ticket.work(plan.first)
        if plan.out_of_memory:
            kill_runner(of_memory=True)
            await ticket.work(1.0)
        work.read_prompt(plan.first)
        tally.prompt_seconds = plan.first
        count = REPEATS + 1 if plan.repeats else plan.tokens
        for index in range(count):
            if plan.crash_after == index:
                kill_runner(of_memory=False)
                await ticket.work(1.0)
            if plan.cut_after == index:
                raise CutError
            tally.pieces.append(plan.text(index))
            work.generate(1 / plan.rate)
            yield tally.pieces[-1]
            await ticket.work(1 / plan.rate)
        tally.complete = not plan.repeats


@dataclass(frozen=True, slots=True)
class Job:
    """What to generate for one request, and in which format."""

    call: Call
    plan: CallPlan
    voice: Voice
    stream: bool


async def answer(exchange: http.HttpExchange, site: SimulatorContext, job: Job) -> None:
    """Serve one generation. Raises ApiError if nothing was written yet."""
    tally = TokenCount(site.faults.apply_to(job.call.name, job.plan), arrived=site.clock())
    request = job.call.request(site.host, site.engine.next_id())
    async with site.engine.serve(request) as ticket:
        await acquire(ticket)
        tally.granted = site.clock()
        try:
            await _generate(exchange, site, job, ticket, tally)
        except RunnerDiedError as err:
            await _broken(exchange, job, ApiError(500, err.text))
        except CutError:
            exchange.cut()
        else:
            await _close(exchange, job, tally)


async def _generate(
    exchange: http.HttpExchange, site: SimulatorContext, job: Job, ticket: Ticket, tally: TokenCount
) -> None:
    """Produce every token, and write each one if the client wants a stream."""
    weights = job.call.manifest.file.weights

    def kill_runner(*, of_memory: bool) -> None:
        if of_memory:
            site.engine.out_of_memory(weights)
        else:
            site.engine.crash(weights)

    async with aclosing(tokens(ticket, tally, kill_runner)) as produced:
        async for piece in produced:
            tally.prompted = tally.prompted or site.clock()
            if job.stream:
                await _open(exchange, job.voice, tally)
                await exchange.write(job.voice.piece(piece))
    tally.ended = site.clock()
    tally.prompted = tally.prompted or tally.ended


async def _open(exchange: http.HttpExchange, voice: Voice, tally: TokenCount) -> None:
    """Write what comes before the first token, once."""
    if exchange.started:
        return
    await exchange.begin(200, voice.stream_type, cache_control=voice.cache_control)
    for chunk in voice.opening(tally):
        await exchange.write(chunk)


async def _close(exchange: http.HttpExchange, job: Job, tally: TokenCount) -> None:
    """Write the end of a streamed answer, or all of a whole one."""
    if not job.stream:
        await exchange.respond(200, job.voice.whole(tally), job.voice.whole_type)
        return
    await _open(exchange, job.voice, tally)
    if tally.complete:
        for chunk in job.voice.closing(tally):
            await exchange.write(chunk)
    await exchange.end()


async def _broken(exchange: http.HttpExchange, job: Job, error: ApiError) -> None:
    """End an answer whose runner died, with a status if nothing was written yet."""
    if not job.stream:
        raise error
    if exchange.started:
        for chunk in job.voice.broken(error.text):
            await exchange.write(chunk)
    else:
        # the stream's writer sets the status itself and flushes: chunked, without charset
        await exchange.begin(error.status, http.JSON)
        await exchange.write(job.voice.failed(error))
    await exchange.end()


async def acquire(ticket: Ticket) -> None:
    """Wait for the runner and its health ping. Raises ApiError."""
    try:
        await ticket.granted()
        await ticket.work(PING)
    except RefusedError as err:
        raise ApiError(err.status, err.text) from err
    except RunnerDiedError as err:
        raise ApiError(500, err.text) from err
