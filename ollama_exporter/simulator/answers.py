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
class GeneratedAnswer:
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

    def opening(self, result: GeneratedAnswer) -> list[bytes]:
        """Write what comes before the first token."""

    def piece(self, text: str) -> bytes:
        """Write one token."""

    def closing(self, result: GeneratedAnswer) -> list[bytes]:
        """Write the end of a complete answer."""

    def broken(self, text: str) -> list[bytes]:
        """Write the end of an answer whose runner died after the first byte."""

    def whole(self, result: GeneratedAnswer) -> bytes:
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
    ticket: Ticket, result: GeneratedAnswer, kill_runner: KillRunner
) -> AsyncGenerator[str, None]:
    """Produce the tokens at the plan's pace. Raises RunnerDiedError, CutError."""
    plan = result.plan
    slots = await ticket.started()
    with slots.working(plan.prompt, plan.prompt_tokens) as work:
        await ticket.work(plan.first)
        if plan.out_of_memory:
            kill_runner(of_memory=True)
            await ticket.work(1.0)
        work.read_prompt(plan.first)
        result.prompt_seconds = plan.first
        count = REPEATS + 1 if plan.repeats else plan.tokens
        for index in range(count):
            if plan.crash_after == index:
                kill_runner(of_memory=False)
                await ticket.work(1.0)
            if plan.cut_after == index:
                raise CutError
            result.pieces.append(plan.text(index))
            work.generate(1 / plan.rate)
            yield result.pieces[-1]
            await ticket.work(1 / plan.rate)
        result.complete = not plan.repeats


@dataclass(frozen=True, slots=True)
class Job:
    """What to generate for one request, and in which format."""

    call: Call
    plan: CallPlan
    voice: Voice
    stream: bool


async def answer(exchange: http.HttpExchange, server: SimulatorContext, job: Job) -> None:
    """Serve one generation. Raises ApiError if nothing was written yet."""
    result = GeneratedAnswer(
        server.faults.apply_to(job.call.name, job.plan), arrived=server.clock()
    )
    request = job.call.request(server.host, server.engine.next_id())
    async with server.engine.serve(request) as ticket:
        await acquire(ticket)
        result.granted = server.clock()
        try:
            await _generate(exchange, server, job, ticket, result)
        except RunnerDiedError as err:
            await _broken(exchange, job, ApiError(500, err.text))
        except CutError:
            exchange.cut()
        else:
            await _close(exchange, job, result)


async def _generate(
    exchange: http.HttpExchange,
    server: SimulatorContext,
    job: Job,
    ticket: Ticket,
    result: GeneratedAnswer,
) -> None:
    """Produce every token, and write each one if the client wants a stream."""
    weights = job.call.manifest.file.weights

    def kill_runner(*, of_memory: bool) -> None:
        if of_memory:
            server.engine.out_of_memory(weights)
        else:
            server.engine.crash(weights)

    async with aclosing(tokens(ticket, result, kill_runner)) as produced:
        async for piece in produced:
            result.prompted = result.prompted or server.clock()
            if job.stream:
                await _open(exchange, job.voice, result)
                await exchange.write(job.voice.piece(piece))
    result.ended = server.clock()
    result.prompted = result.prompted or result.ended


async def _open(exchange: http.HttpExchange, voice: Voice, result: GeneratedAnswer) -> None:
    """Write what comes before the first token, once."""
    if exchange.started:
        return
    await exchange.begin(200, voice.stream_type, cache_control=voice.cache_control)
    for chunk in voice.opening(result):
        await exchange.write(chunk)


async def _close(exchange: http.HttpExchange, job: Job, result: GeneratedAnswer) -> None:
    """Write the end of a streamed answer, or all of a whole one."""
    if not job.stream:
        await exchange.respond(200, job.voice.whole(result), job.voice.whole_type)
        return
    await _open(exchange, job.voice, result)
    if result.complete:
        for chunk in job.voice.closing(result):
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
