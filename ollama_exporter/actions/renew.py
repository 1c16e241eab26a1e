# SPDX-License-Identifier: Apache-2.0
"""Renews the deadline of a resident model, so that it can only become longer.

Three facts make a careless renewal harmful. An empty request without the runner's own num_ctx has
it loaded again. A keep_alive replaces a longer one, which no listing shows. And one that reaches a
busy model which was told to go for another one's sake keeps it, and all loads wait behind it. So:
look; touch (an empty request with the listed context and without keep_alive); look again. If the
deadline moved, nobody used the model, and the way it moved is its keep-alive. Only then set one.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

from ollama_exporter.protocol.client import PsAnswer
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.protocol.wire import RunningModel

APART: Final = 0.06  # seconds between two looks that tell whether a deadline slides
ABOUT: Final = 1.5  # seconds by which a keep-alive is known: the Date header has whole seconds
TOUCH_TIME: Final = 30.0  # longest time for an answer about a model that is resident
Clock = Callable[[], float]


class RenewClient(Protocol):
    """What is asked of it."""

    async def ps(self) -> PsAnswer:
        """Ask for the resident models."""

    async def preload(
        self,
        model: str,
        *,
        patience: float,
        keep_alive: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Send an empty request."""


class Kept(StrEnum):
    """What became of a renewal."""

    SET = "set"  # it has the keep_alive now
    LONGER = "longer"  # it had one that was as long, or longer
    BUSY = "busy"  # somebody uses it: left alone
    ABSENT = "absent"  # it is not resident: left alone
    UNKNOWN_CONTEXT = "unknown_context"  # an old server does not say what a renewal must carry


@dataclass(frozen=True, slots=True)
class Renewal:
    """What became of it, and what is known of the model after it.

    `keep_alive`: seconds in effect, inf for ever; None: not revealed.
    """

    kept: Kept
    model: RunningModel | None = None
    keep_alive: float | None = None
    left: float | None = None  # seconds until the deadline, inf for ever


def entry(answer: PsAnswer, name: str) -> RunningModel | None:
    """Return the entry of a model; of two the one whose deadline is later."""
    wanted = normalise(name).lower()
    mine = [model for model in answer.models if model.name.lower() == wanted]
    return max(mine, key=lambda model: model.expires_at, default=None)


def left(answer: PsAnswer, model: RunningModel, wall: Clock = time.time) -> float:
    """Return the seconds until a deadline, by the server's own clock."""
    now = wall() if answer.date is None else answer.date
    return model.expires_at - now


async def slides(server: RenewClient, name: str) -> tuple[PsAnswer, RunningModel | None, bool]:
    """Look twice: a deadline that moves by itself is that of a model whose first user is there."""
    before = entry(await server.ps(), name)
    await asyncio.sleep(APART)
    answer = await server.ps()
    after = entry(answer, name)
    moved = before is not None and after is not None and before.expires_at != after.expires_at
    return answer, after, moved and not (after is not None and math.isinf(after.expires_at))


async def touch(
    server: RenewClient,
    name: str,
    *,
    options: Callable[[int], Mapping[str, Any]] | None = None,
    wall: Clock = time.time,
) -> Renewal:
    """Renew a deadline by the keep-alive that the model has; this reveals it.

    `options`: what the runner of a context was started with, as far as is known.
    """
    answer, model, moves = await slides(server, name)
    if model is None:
        return Renewal(Kept.ABSENT)
    rest = left(answer, model, wall)
    if moves or rest <= 0:
        return Renewal(Kept.BUSY, model, left=rest)
    if math.isinf(model.expires_at):
        return Renewal(Kept.LONGER, model, math.inf, math.inf)
    if model.context is None:
        return Renewal(Kept.UNKNOWN_CONTEXT, model, left=rest)
    same = {"num_ctx": model.context} if options is None else options(model.context)
    await server.preload(name, patience=TOUCH_TIME, options=same)
    return _touched(model, await server.ps(), wall)


def _touched(before: RunningModel, answer: PsAnswer, wall: Clock) -> Renewal:
    """Read what a touch revealed: a deadline that did not move is that of a model in use."""
    after = entry(answer, before.name)
    if after is None:
        return Renewal(Kept.ABSENT)
    rest = left(answer, after, wall)
    if after.expires_at == before.expires_at:
        return Renewal(Kept.BUSY, after, left=rest)
    return Renewal(Kept.LONGER, after, rest, rest)


async def renew(
    server: RenewClient,
    name: str,
    keep_alive: float,
    *,
    options: Callable[[int], Mapping[str, Any]] | None = None,
    even_shorter: bool = False,
    wall: Clock = time.time,
) -> Renewal:
    """Give a resident model a keep_alive unless it has a longer one. Raises as the server does.

    `even_shorter`: the operator says that it may become shorter.
    """
    touched = await touch(server, name, options=options, wall=wall)
    if touched.kept is not Kept.LONGER or touched.model is None or touched.keep_alive is None:
        return touched
    known = touched.keep_alive
    enough = known >= keep_alive - ABOUT
    if even_shorter:
        enough = enough and (math.isinf(keep_alive) or known <= keep_alive + ABOUT)
    if enough:
        return touched
    context = touched.model.context
    if context is None:
        return Renewal(Kept.UNKNOWN_CONTEXT, touched.model, known, touched.left)
    same = {"num_ctx": context} if options is None else options(context)
    await server.preload(name, patience=TOUCH_TIME, keep_alive=keep_alive, options=same)
    answer = await server.ps()
    after = entry(answer, name)
    if after is None:
        return Renewal(Kept.ABSENT)
    return Renewal(Kept.SET, after, keep_alive, left(answer, after, wall))
