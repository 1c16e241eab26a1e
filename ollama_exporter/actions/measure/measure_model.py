# SPDX-License-Identifier: Apache-2.0
"""Measures cold against warm calls, and restores the server's state as far as it allows."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ollama_exporter.actions import renew
from ollama_exporter.actions.measure.summary import Kind, Sample
from ollama_exporter.actions.renewal_outcome import RenewalOutcome
from ollama_exporter.actions.shared_blobs import SharedBlobs
from ollama_exporter.actions.warm.load_models import wait_for_server
from ollama_exporter.errors import OllamaExporterError, RequestError
from ollama_exporter.protocol.control_client import ControlClient
from ollama_exporter.protocol.keepalive import render
from ollama_exporter.protocol.wire import RunningModel

OBSERVE: Final = 1.0  # seconds without a change before the server counts as idle
MIN_KEEP_ALIVE: Final = 600.0  # the model must not leave between two calls
UNLOAD_TIMEOUT: Final = 30.0  # an unload takes moments, or 5 s where the server waits for memory
POLL_INTERVAL: Final = 0.1
RECONNECT: Final = 10.0  # seconds for a lost server to come back: systemd waits for 3
SEED: Final = 42
COMPLETION: Final = "completion"  # the capability of models that generate text
OnStep = Callable[[str], None]


class NotMeasurableError(OllamaExporterError):
    """The model cannot generate text."""


class BusyError(OllamaExporterError):
    """The server is in use: a measurement would disturb that use and measure it too."""


@dataclass(frozen=True, slots=True)
class MeasurePlan:
    """What to measure. `num_ctx` None: that of the resident runner, else the automatic one."""

    model: str
    prompt: str
    runs: int
    cold_runs: int
    num_predict: int
    timeout: float  # seconds for one call
    num_ctx: int | None = None
    force: bool = False


@dataclass(slots=True)
class InitialState:
    """The server before the measurement. `keep_alive` None: the server did not reveal it."""

    listed: tuple[RunningModel, ...] = ()
    target: RunningModel | None = None
    keep_alive: float | None = None


@dataclass(slots=True)
class Measurement:
    """The samples. `notes`: what could not be restored."""

    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    size: int = 0
    size_vram: int = 0
    context: int | None = None


async def measure(
    client: ControlClient,
    plan: MeasurePlan,
    measured: Measurement,
    on_step: OnStep,
) -> None:
    """Measure into `measured`, which keeps what was measured when this raises or is cancelled.

    `on_step` hears each step. Raises BusyError, NotMeasurableError, RequestError, TargetError.
    """
    await _check_capability(client, plan.model)
    on_step("checking that the server is idle")
    initial = await _initial_state(client, plan)
    options = _options(plan, initial)
    keep_alive = max(MIN_KEEP_ALIVE, initial.keep_alive or 0.0)

    async def call(kind: Kind, prompt: str) -> None:
        measured.samples.append(await _call(client, plan, kind, prompt, options, keep_alive))

    try:
        for run in range(plan.cold_runs):
            on_step(f"cold call {run + 1} of {plan.cold_runs}: unloading")
            await _unload(client, plan)
            on_step(f"cold call {run + 1} of {plan.cold_runs}: loading and answering")
            await call(Kind.COLD, _unseen_prompt(plan.prompt, f"cold {run}"))
        await _record_size(client, plan.model, measured)
        for run in range(plan.runs):
            on_step(f"warm call {run + 1} of {plan.runs}")
            prompt = _unseen_prompt(plan.prompt, f"warm {run}")
            await call(Kind.WARM, prompt)
            await call(Kind.CACHED, prompt)
    finally:
        on_step("restoring the server's state")
        await _to_the_end(_restore(client, plan, initial, measured.notes))


# -- before ------------------------------------------------------------------------------------


async def _check_capability(client: ControlClient, model: str) -> None:
    """Raise NotMeasurableError for an embedding model, before anything is unloaded."""
    capabilities = (await client.details(model)).capabilities
    if capabilities and COMPLETION not in capabilities:
        raise NotMeasurableError(
            f"{model} cannot be measured: it cannot generate text "
            f"({', '.join(sorted(capabilities))})"
        )


async def _initial_state(client: ControlClient, plan: MeasurePlan) -> InitialState:
    """Record which models are resident. Raises BusyError if one of them is in use."""
    before = await client.ps()
    await asyncio.sleep(OBSERVE)
    after = await client.ps()
    deadlines = {model.key: model.expires_at for model in before.models}
    for model in after.models:
        moved = deadlines.get(model.key) != model.expires_at
        past = renew.time_left(after, model) <= 0
        if (moved or past) and not plan.force:
            raise BusyError(f"{model.name} is in use; --force measures anyway")
    initial = InitialState(after.models, renew.find_entry(after, plan.model))
    if initial.target is None:
        resident = [model.name for model in after.models]
        blobs = SharedBlobs(client)
        await blobs.resolve((name, 0) for name in (*resident, plan.model))
        other = blobs.listed_name(plan.model, resident)
        if other is not None:
            raise BusyError(f"{plan.model} shares the runner of {other}: measure that one")
        return initial
    touched = await renew.touch(client, plan.model)
    if touched.outcome is RenewalOutcome.BUSY and not plan.force:
        raise BusyError(f"{initial.target.name} is in use; --force measures anyway")
    initial.keep_alive = touched.keep_alive
    return initial


def _options(plan: MeasurePlan, initial: InitialState) -> dict[str, Any]:
    options: dict[str, Any] = {
        "temperature": 0,
        "seed": SEED,
        "num_predict": plan.num_predict,
    }
    context = plan.num_ctx
    if context is None and initial.target is not None:
        context = initial.target.context
    return options if context is None else {**options, "num_ctx": context}


# -- calls -------------------------------------------------------------------------------------


def _unseen_prompt(prompt: str, mark: str) -> str:
    """Return a prompt whose beginning is in no prompt cache; the same in each measurement."""
    return f"[{mark}] {prompt}"


async def _call(
    client: ControlClient,
    plan: MeasurePlan,
    kind: Kind,
    prompt: str,
    options: Mapping[str, Any],
    keep_alive: float,
) -> Sample:
    body = {
        "model": plan.model,
        "prompt": prompt,
        "keep_alive": -1 if math.isinf(keep_alive) else math.ceil(keep_alive),
        "options": dict(options),
    }
    answer = await client.generate(body, patience=plan.timeout, now=time.perf_counter)
    read = answer.response
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


async def _unload(client: ControlClient, plan: MeasurePlan) -> None:
    """Unload the model and wait until it is gone. Raises RequestError, BusyError."""
    model = plan.model
    entry = renew.find_entry(await client.ps(), model)
    if entry is None:
        return
    await client.stop(entry.name, patience=UNLOAD_TIMEOUT)
    for _ in range(round(UNLOAD_TIMEOUT / POLL_INTERVAL)):
        if renew.find_entry(await client.ps(), model) is None:
            return
        await asyncio.sleep(POLL_INTERVAL)
    raise BusyError(f"{model} was not unloaded within {UNLOAD_TIMEOUT:g} s")


async def _record_size(client: ControlClient, model: str, measured: Measurement) -> None:
    entry = renew.find_entry(await client.ps(), model)
    if entry is not None:
        measured.size, measured.size_vram = entry.size, entry.size_vram or 0
        measured.context = entry.context


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await work, and end it even if the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


# -- after -------------------------------------------------------------------------------------


async def _restore(
    client: ControlClient, plan: MeasurePlan, initial: InitialState, notes: list[str]
) -> None:
    """Restore the initial state; notes tell what could not be. Never raises."""
    try:
        await wait_for_server(client, RECONNECT)  # it may have been what ended the measurement
        if initial.target is None:
            await _unload(client, plan)
        else:
            await _restore_target(client, plan, initial, notes)
        await _reload_evicted(client, plan, initial, notes)
    except OllamaExporterError as err:
        before = ", ".join(model.name for model in initial.listed) or "no model"
        notes.append(f"the server's state was not restored: {err}; resident before: {before}")


async def _restore_target(
    client: ControlClient, plan: MeasurePlan, initial: InitialState, notes: list[str]
) -> None:
    target, wanted = initial.target, initial.keep_alive
    if target is None:
        return
    context = target.context
    same = {} if context is None else {"num_ctx": context}
    entry = renew.find_entry(await client.ps(), plan.model)
    if plan.num_ctx is not None and entry is not None and entry.context != context:
        await _unload(client, plan)
        entry = None
    if wanted is None:
        notes.append(
            f"the server did not reveal the keep-alive of {target.name}: it keeps that of the "
            "measurement"
        )
    if entry is None or wanted is not None:
        await client.preload(plan.model, patience=plan.timeout, keep_alive=wanted, options=same)
    if wanted is not None and not math.isinf(wanted):
        notes.append(
            f"{target.name} has its keep-alive of {render(wanted)} again, counted from now"
        )


async def _reload_evicted(
    client: ControlClient, plan: MeasurePlan, initial: InitialState, notes: list[str]
) -> None:
    """Reload the models that the measurement evicted, unless their time is over."""
    answer = await client.ps()
    for model in initial.listed:
        left = renew.surely_left(answer, model)
        is_target = initial.target is not None and model.key == initial.target.key
        if is_target or left <= 0 or renew.find_entry(answer, model.name) is not None:
            continue
        same = {} if model.context is None else {"num_ctx": model.context}
        try:
            await client.preload(model.name, patience=plan.timeout, keep_alive=left, options=same)
        except RequestError as err:
            notes.append(f"{model.name} was unloaded and could not be reloaded: {err}")
        else:
            notes.append(
                f"{model.name} was unloaded and is loaded again until its old deadline; its "
                "keep-alive before is unknown"
            )
