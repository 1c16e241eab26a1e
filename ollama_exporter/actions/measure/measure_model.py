# SPDX-License-Identifier: Apache-2.0
"""Measures cold against warm on a server, and leaves it as it was found, as far as it lets us."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from ollama_exporter.actions import renew
from ollama_exporter.actions.measure.summary import Kind, Sample
from ollama_exporter.actions.renew import Kept
from ollama_exporter.actions.shared_blobs import SharedBlobs
from ollama_exporter.errors import OllamaExporterError, RequestError
from ollama_exporter.protocol.control_client import ControlClient
from ollama_exporter.protocol.keepalive import render
from ollama_exporter.protocol.wire import RunningModel

WATCHED: Final = 1.0  # seconds for which a server is watched before it is called idle
LEAST_KEEP: Final = 600.0  # the model must not leave between two calls
GONE_WITHIN: Final = 30.0  # a stop takes moments, and up to 5 s where memory is waited for
LOOK: Final = 0.1
SEED: Final = 42
ROUNDED: Final = 0.05
Say = Callable[[str], None]


class BusyError(OllamaExporterError):
    """The server is in use: a measurement would disturb it, and would measure that use."""


@dataclass(frozen=True, slots=True)
class MeasurePlan:
    """What to measure. `num_ctx` None: that of the resident runner, else the automatic one."""

    model: str
    prompt: str
    runs: int
    cold_runs: int
    num_predict: int
    patience: float  # seconds for one call
    num_ctx: int | None = None
    force: bool = False


@dataclass(slots=True)
class FoundState:
    """How the server was found. `keep_alive` None: not revealed."""

    listed: tuple[RunningModel, ...] = ()
    target: RunningModel | None = None
    keep_alive: float | None = None


@dataclass(slots=True)
class MeasuredModel:
    """What came of it. `notes`: what could not be left as it was found."""

    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    size: int = 0
    size_vram: int = 0
    context: int | None = None


async def measure(
    client: ControlClient,
    plan: MeasurePlan,
    say: Say,
    *,
    now: Callable[[], float] = time.perf_counter,
) -> MeasuredModel:
    """Measure. `say` is told each step. Raises BusyError, RequestError, TargetError."""
    measured = MeasuredModel()
    say("looking who uses the server")
    found = await _look(client, plan)
    options = _options(plan, found)
    keep_alive = max(LEAST_KEEP, found.keep_alive or 0.0)
    try:
        for run in range(plan.cold_runs):
            say(f"cold call {run + 1} of {plan.cold_runs}: unloading")
            await _unload(client, plan.model)
            say(f"cold call {run + 1} of {plan.cold_runs}: loading and answering")
            prompt = _fresh(plan.prompt, f"cold {run}")
            measured.samples.append(
                await _call(client, plan, Kind.COLD, prompt, options, keep_alive, now)
            )
        await _note_size(client, plan.model, measured)
        for run in range(plan.runs):
            say(f"warm call {run + 1} of {plan.runs}")
            prompt = _fresh(plan.prompt, f"warm {run}")
            for kind in (Kind.WARM, Kind.CACHED):
                measured.samples.append(
                    await _call(client, plan, kind, prompt, options, keep_alive, now)
                )
    finally:
        say("leaving the server as it was found")
        await _restore(client, plan, found, measured.notes)
    return measured


# -- before ------------------------------------------------------------------------------------


async def _look(client: ControlClient, plan: MeasurePlan) -> FoundState:
    """Note who is resident; refuse to disturb who is in use."""
    before = await client.ps()
    await asyncio.sleep(WATCHED)
    after = await client.ps()
    deadlines = {model.key: model.expires_at for model in before.models}
    for model in after.models:
        moved = deadlines.get(model.key) != model.expires_at
        past = renew.left(after, model) <= 0
        if (moved or past) and not plan.force:
            raise BusyError(f"{model.name} is in use; --force measures all the same")
    found = FoundState(after.models, renew.entry(after, plan.model))
    if found.target is None:
        resident = [model.name for model in after.models]
        aliases = SharedBlobs(client)
        await aliases.learn((name, 0) for name in (*resident, plan.model))
        other = aliases.listed(plan.model, resident)
        if other is not None:
            raise BusyError(f"{plan.model} shares the runner of {other}: measure that one")
        return found
    touched = await renew.touch(client, plan.model)
    if touched.kept is Kept.BUSY and not plan.force:
        raise BusyError(f"{found.target.name} is in use; --force measures all the same")
    known = touched.keep_alive
    if known is not None:  # the Date header that it was told by has whole seconds, rounded down
        found.keep_alive = known if math.isinf(known) else float(math.floor(known + ROUNDED))
    return found


def _options(plan: MeasurePlan, found: FoundState) -> dict[str, Any]:
    options: dict[str, Any] = {
        "temperature": 0,
        "seed": SEED,
        "num_predict": plan.num_predict,
    }
    context = plan.num_ctx
    if context is None and found.target is not None:
        context = found.target.context
    return options if context is None else {**options, "num_ctx": context}


# -- calls -------------------------------------------------------------------------------------


def _fresh(prompt: str, mark: str) -> str:
    """Return a prompt that no prompt cache has seen the beginning of: the same each time."""
    return f"[{mark}] {prompt}"


async def _call(
    client: ControlClient,
    plan: MeasurePlan,
    kind: Kind,
    prompt: str,
    options: Mapping[str, Any],
    keep_alive: float,
    now: Callable[[], float],
) -> Sample:
    body = {
        "model": plan.model,
        "prompt": prompt,
        "keep_alive": -1 if math.isinf(keep_alive) else math.ceil(keep_alive),
        "options": dict(options),
    }
    answer = await client.generate(body, patience=plan.patience, now=now)
    read = answer.reading
    return Sample(
        kind,
        answer.total,
        answer.first_content,
        read.load,
        read.prompt_eval,
        read.eval,
        read.prompt_tokens,
        read.cached_tokens,
        read.output_tokens,
    )


async def _unload(client: ControlClient, model: str) -> None:
    """Have the model dropped, and wait until it is gone. Raises RequestError."""
    answer = await client.ps()
    if renew.entry(answer, model) is None:
        return
    await client.stop(model, patience=GONE_WITHIN)
    for _ in range(round(GONE_WITHIN / LOOK)):
        if renew.entry(await client.ps(), model) is None:
            return
        await asyncio.sleep(LOOK)
    raise BusyError(f"{model} did not leave memory within {GONE_WITHIN:g} s")


async def _note_size(client: ControlClient, model: str, measured: MeasuredModel) -> None:
    there = renew.entry(await client.ps(), model)
    if there is not None:
        measured.size, measured.size_vram = there.size, there.size_vram
        measured.context = there.context


# -- after -------------------------------------------------------------------------------------


async def _restore(
    client: ControlClient, plan: MeasurePlan, found: FoundState, notes: list[str]
) -> None:
    """Put things back; what cannot be is said. Never raises: what was measured is worth more."""
    try:
        if found.target is None:
            await _unload(client, plan.model)
        else:
            await _bring_back(client, plan, found, notes)
        await _bring_others_back(client, plan, found, notes)
    except OllamaExporterError as err:
        notes.append(f"the server was not left as it was found: {err}")


async def _bring_back(
    client: ControlClient, plan: MeasurePlan, found: FoundState, notes: list[str]
) -> None:
    target, wanted = found.target, found.keep_alive
    if target is None:
        return
    context = target.context
    same = {} if context is None else {"num_ctx": context}
    listed = renew.entry(await client.ps(), plan.model)
    if plan.num_ctx is not None and listed is not None and listed.context != context:
        await _unload(client, plan.model)
        listed = None
    if wanted is None:
        notes.append(
            f"the keep-alive of {target.name} was not revealed: it has that of the measurement"
        )
    if listed is None or wanted is not None:
        await client.preload(plan.model, patience=plan.patience, keep_alive=wanted, options=same)
    if wanted is not None and not math.isinf(wanted):
        notes.append(
            f"{target.name} has its keep-alive of {render(wanted)} again; its time runs from now"
        )


async def _bring_others_back(
    client: ControlClient, plan: MeasurePlan, found: FoundState, notes: list[str]
) -> None:
    """Load again whom the measurement drove out, unless their time is over."""
    answer = await client.ps()
    wall = time.time() if answer.date is None else answer.date
    for model in found.listed:
        left = model.expires_at - wall
        mine = found.target is not None and model.key == found.target.key
        if mine or left <= 0 or renew.entry(answer, model.name) is not None:
            continue
        same = {} if model.context is None else {"num_ctx": model.context}
        with suppress(RequestError):
            await client.preload(model.name, patience=plan.patience, keep_alive=left, options=same)
            notes.append(
                f"{model.name} was driven out and is loaded again until its old deadline; "
                "its keep-alive before that is not known"
            )
