# SPDX-License-Identifier: Apache-2.0
"""One generation from arrival to the last byte, in whatever voice the route speaks."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Protocol

from ollama_exporter.simulator import http
from ollama_exporter.simulator.calls import ApiError, Call, Plan
from ollama_exporter.simulator.engine import Clock, Engine, RefusedError, RunnerDiedError, Ticket

PING: Final = 0.0015  # seconds: what a warm request still waits for its runner
REPEATS: Final = 30  # identical tokens in a row; one more and the generation is aborted


@dataclass(slots=True)
class Tally:
    """What is known of a generation; durations in seconds."""

    plan: Plan
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
    """How one route writes an answer: every `bytes` is one chunk."""

    stream_type: str
    whole_type: str
    cache_control: bool

    def opening(self, tally: Tally) -> list[bytes]:
        """What comes before the first token."""

    def piece(self, text: str) -> bytes:
        """One token."""

    def closing(self, tally: Tally) -> list[bytes]:
        """What ends a complete answer."""

    def broken(self, text: str) -> list[bytes]:
        """What ends an answer whose runner died after its first byte."""

    def whole(self, tally: Tally) -> bytes:
        """The answer in one piece."""

    def failed(self, error: ApiError) -> bytes:
        """The body of an answer other than 200."""


class CutError(Exception):
    """A fault breaks the connection here."""


async def tokens(
    ticket: Ticket, tally: Tally, die: Callable[[bool], None]
) -> AsyncGenerator[str, None]:
    """Produce the tokens at the plan's pace. Raises RunnerDiedError, CutError."""
    plan = tally.plan
    await ticket.started()
    await ticket.work(plan.first)
    if plan.out_of_memory:
        die(True)  # noqa: FBT003 - its one meaning: of memory
        await ticket.work(1.0)
    tally.prompt_seconds = plan.first
    count = REPEATS + 1 if plan.repeats else plan.tokens
    for index in range(count):
        if plan.crash_after == index:
            die(False)  # noqa: FBT003 - its one meaning: of memory
            await ticket.work(1.0)
        if plan.cut_after == index:
            raise CutError
        tally.pieces.append(plan.text(index))
        yield tally.pieces[-1]
        await ticket.work(1 / plan.rate)
    tally.complete = not plan.repeats


async def answer(  # noqa: PLR0913 - the parts of one exchange, each of another kind
    exchange: http.Exchange,
    engine: Engine,
    clock: Clock,
    call: Call,
    plan: Plan,
    voice: Voice,
    *,
    stream: bool,
) -> None:
    """Serve one generation. Raises ApiError as long as nothing was written."""
    tally = Tally(plan, arrived=clock())

    def die(of_memory: bool) -> None:  # noqa: FBT001 - one meaning
        kill = engine.out_of_memory if of_memory else engine.crash
        kill(call.manifest.file.weights)

    async with engine.serve(call.request(engine.host, engine.next_id())) as ticket:
        await acquire(ticket)
        tally.granted = clock()
        try:
            async with aclosing(tokens(ticket, tally, die)) as produced:
                async for piece in produced:
                    if not tally.prompted:
                        tally.prompted = clock()
                    if stream:
                        if not exchange.started:
                            await _open(exchange, voice, tally)
                        await exchange.write(voice.piece(piece))
        except RunnerDiedError as err:
            await _broken(exchange, voice, ApiError(500, err.text), stream=stream)
            return
        except CutError:
            exchange.cut()
            return
        tally.prompted = tally.prompted or clock()
        tally.ended = clock()
        if not stream:
            await exchange.respond(200, voice.whole(tally), voice.whole_type)
            return
        if not exchange.started:
            await _open(exchange, voice, tally)
        if tally.complete:
            for chunk in voice.closing(tally):
                await exchange.write(chunk)
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


async def _open(exchange: http.Exchange, voice: Voice, tally: Tally) -> None:
    await exchange.begin(200, voice.stream_type, cache_control=voice.cache_control)
    for chunk in voice.opening(tally):
        await exchange.write(chunk)


async def _broken(exchange: http.Exchange, voice: Voice, error: ApiError, *, stream: bool) -> None:
    """End an answer whose runner died: a status if nothing was written, otherwise the voice's way."""
    if not stream:
        raise error
    if exchange.started:
        for chunk in voice.broken(error.text):
            await exchange.write(chunk)
    else:
        # the stream's writer sets the status itself and flushes: chunked, without charset
        await exchange.begin(error.status, http.JSON)
        await exchange.write(voice.failed(error))
    await exchange.end()
