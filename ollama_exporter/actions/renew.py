# SPDX-License-Identifier: Apache-2.0
"""Renews the deadline of a resident model, and never shortens it.

A careless renewal does harm in three ways:

* An empty request without the runner's own num_ctx makes the server reload the model.
* A keep_alive replaces a longer one, and `/api/ps` does not show the keep-alive in effect.
* A keep_alive that reaches a busy model which the scheduler wants to evict keeps that model, and
  all loads wait behind it.

So a renewal first lists the model, then touches it: an empty request with the listed context and
without keep_alive. If the deadline moved, the model was idle, and the new deadline reveals its
keep-alive. Only then, and only if that keep-alive is shorter, does the renewal set another one.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from msgspec import Struct

from ollama_exporter.actions.renewal_outcome import RenewalOutcome
from ollama_exporter.protocol import keepalive
from ollama_exporter.protocol.client import PsAnswer
from ollama_exporter.protocol.model_names import match_key
from ollama_exporter.protocol.wire import RunningModel

SLIDE_INTERVAL: Final = 0.06  # seconds between two listings that show whether a deadline slides
DATE_STEP: Final = 1.0  # a Date header has whole seconds, rounded down
TOLERANCE: Final = 1.5  # seconds; a deadline is read against a Date header, over a slow connection
TOUCH_TIMEOUT: Final = 30.0  # seconds for a request to a model that is resident
Clock = Callable[[], float]


class RenewClient(Protocol):
    """The requests that a renewal sends."""

    async def ps(self) -> PsAnswer:
        """Return the resident models."""

    async def preload(
        self,
        model: str,
        *,
        patience: float,
        keep_alive: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Send an empty request."""


class Renewal(Struct, frozen=True):
    """A renewal's outcome, and the model as listed after it.

    `keep_alive`: seconds in effect, inf forever; None: not revealed.
    """

    outcome: RenewalOutcome
    model: RunningModel | None = None
    keep_alive: float | None = None
    left: float | None = None  # seconds until the deadline, inf forever


def find_entry(answer: PsAnswer, name: str) -> RunningModel | None:
    """Return the model's entry; of two, the one with the later deadline."""
    wanted = match_key(name)
    mine = [model for model in answer.models if model.name.lower() == wanted]
    return max(mine, key=lambda model: model.expires_at, default=None)


def time_left(answer: PsAnswer, model: RunningModel, wall: Clock = time.time) -> float:
    """Return the seconds until a deadline, by the server's own clock: up to a second too many."""
    now = wall() if answer.date is None else answer.date
    return model.expires_at - now


def surely_left(answer: PsAnswer, model: RunningModel) -> float:
    """Return the seconds until a deadline that are left whatever the phase of the server's second.

    Not above 0: the deadline may have passed.
    """
    return time_left(answer, model) - (0.0 if answer.date is None else DATE_STEP)


async def touch(
    server: RenewClient,
    name: str,
    *,
    options: Callable[[int], Mapping[str, Any]] | None = None,
    wall: Clock = time.time,
    now: Clock = time.monotonic,
) -> Renewal:
    """Renew a deadline by the keep-alive that the model already has; this reveals it.

    `options`: the options that a runner of this context was started with, as far as known.
    """
    answer, model, slides = await _list_twice(server, name)
    if model is None:
        return Renewal(RenewalOutcome.ABSENT)
    left = time_left(answer, model, wall)
    if slides or left <= 0:
        return Renewal(RenewalOutcome.BUSY, model, left=left)
    if math.isinf(model.expires_at):
        return Renewal(RenewalOutcome.LONGER, model, math.inf, math.inf)
    if model.context is None:
        return Renewal(RenewalOutcome.UNKNOWN_CONTEXT, model, left=left)
    same = {"num_ctx": model.context} if options is None else options(model.context)
    began = now()
    await server.preload(name, patience=TOUCH_TIMEOUT, options=same)
    answer = await server.ps()
    return _after_touch(model, answer, wall, now() - began)


async def renew(
    server: RenewClient,
    name: str,
    keep_alive: float,
    *,
    options: Callable[[int], Mapping[str, Any]] | None = None,
    may_shorten: bool = False,
    wall: Clock = time.time,
) -> Renewal:
    """Give a resident model a keep_alive unless it has a longer one. Raises what `server` raises.

    `may_shorten`: the operator allows that a longer one is replaced.
    """
    touched = await touch(server, name, options=options, wall=wall)
    if (
        touched.outcome is not RenewalOutcome.LONGER
        or touched.model is None
        or touched.keep_alive is None
    ):
        return touched
    known = touched.keep_alive
    enough = known >= keep_alive - TOLERANCE
    if may_shorten:
        enough = enough and (math.isinf(keep_alive) or known <= keep_alive + TOLERANCE)
    if enough:
        return touched
    context = touched.model.context
    if context is None:
        return Renewal(RenewalOutcome.UNKNOWN_CONTEXT, touched.model, known, touched.left)
    same = {"num_ctx": context} if options is None else options(context)
    await server.preload(name, patience=TOUCH_TIMEOUT, keep_alive=keep_alive, options=same)
    answer = await server.ps()
    after = find_entry(answer, name)
    if after is None:
        return Renewal(RenewalOutcome.ABSENT)
    return Renewal(RenewalOutcome.SET, after, keep_alive, time_left(answer, after, wall))


async def _list_twice(server: RenewClient, name: str) -> tuple[PsAnswer, RunningModel | None, bool]:
    """Return the second listing, its entry, and whether the deadline slides.

    A deadline slides while the first request since the load is still running.
    """
    before = find_entry(await server.ps(), name)
    await asyncio.sleep(SLIDE_INTERVAL)
    answer = await server.ps()
    after = find_entry(answer, name)
    if before is None or after is None or math.isinf(after.expires_at):
        return answer, after, False
    return answer, after, before.expires_at != after.expires_at


def _after_touch(before: RunningModel, answer: PsAnswer, wall: Clock, elapsed: float) -> Renewal:
    """Return what a touch and its listing, `elapsed` seconds together, revealed.

    The deadline of a model in use does not move. Up to `elapsed` of the keep-alive has passed at
    the listing, and the listing's Date may be a second old.
    """
    after = find_entry(answer, before.name)
    if after is None:
        return Renewal(RenewalOutcome.ABSENT)
    left = time_left(answer, after, wall)
    if after.expires_at == before.expires_at:
        return Renewal(RenewalOutcome.BUSY, after, left=left)
    known = keepalive.roundest(left - DATE_STEP, left + elapsed)
    return Renewal(RenewalOutcome.LONGER, after, known, left)
