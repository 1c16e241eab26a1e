# SPDX-License-Identifier: Apache-2.0
"""Loads or renews models one after another: the work of `warm`."""

import asyncio
import difflib
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any, Final

from ollama_exporter.actions import renew
from ollama_exporter.actions.renewal_outcome import RenewalOutcome
from ollama_exporter.actions.shared_blobs import SharedBlobs
from ollama_exporter.actions.warm.eviction_order import Occupant, victims
from ollama_exporter.errors import FailureReason, OllamaExporterError, TargetError
from ollama_exporter.protocol.client import PsAnswer
from ollama_exporter.protocol.control_client import ControlClient
from ollama_exporter.protocol.model_names import DEFAULT_TAG, match_key
from ollama_exporter.protocol.wire import InstalledModel, RunningModel

DEFAULT_SUFFIX: Final = f":{DEFAULT_TAG}"
MAX_SUGGESTIONS: Final = 3
RETRY_INTERVAL: Final = 0.5  # seconds between two attempts to reach the server


class WarmOutcome(StrEnum):
    """The result for one model."""

    LOADED = "loaded"
    WARM = "warm"  # it was resident
    NO_ROOM = "no room"  # a load would evict others, and --evict was not given
    EVICTED = "evicted"  # it was resident, and another model drove it out before the end
    EXPIRED = "expired"  # it was resident, and its keep-alive ended before the last look
    FAILED = "failed"
    TIMEOUT = "timeout"


RESIDENT: Final = frozenset({WarmOutcome.LOADED, WarmOutcome.WARM})


@dataclass(frozen=True, slots=True)
class WarmOptions:
    """The options of `warm`. `keep_alive` None: the server's own. Durations in seconds."""

    keep_alive: float | None = None
    num_ctx: int | None = None
    timeout: float = 600.0  # for one load
    parallel: bool = False
    may_shorten: bool = False  # a longer keep-alive may be replaced
    memory: int | None = None  # bytes of GPU memory; no server reports it
    evict: bool = False


@dataclass(frozen=True, slots=True)
class WarmResult:
    """The result for one model. `left`: seconds until its deadline, inf forever."""

    name: str
    outcome: WarmOutcome
    seconds: float = 0.0
    model: RunningModel | None = None
    left: float | None = None
    evicted: tuple[str, ...] = ()  # models that left during the load, or that it would evict
    note: str = ""


@dataclass(frozen=True, slots=True)
class MissingModel:
    """A name that cannot be loaded, and similar names that are installed."""

    name: str
    suggestions: tuple[str, ...]
    remote: bool = False  # installed, but it runs on another host

    @property
    def message(self) -> str:
        """Why it cannot be loaded."""
        if self.remote:
            return f"{self.name}: runs on another host, so there is nothing to load here"
        if self.suggestions:
            return f"{self.name}: not installed; did you mean {' or '.join(self.suggestions)}?"
        return f"{self.name}: not installed"


class WarmProgress:
    """Hears of each model's start and end. This one does nothing."""

    def on_start(self, name: str) -> None:
        """Work on a model begins."""

    def on_end(self, result: WarmResult) -> None:
        """Work on a model has ended."""


async def wait_for_server(client: ControlClient, longest: float) -> None:
    """Return when the server answers. Raises TargetError if it does not within `longest`."""
    now = asyncio.get_running_loop().time
    end = now() + longest
    while True:
        try:
            await client.version()
        except TargetError:
            if now() >= end:
                raise
            await asyncio.sleep(RETRY_INTERVAL)
        else:
            return


def find_missing(names: Sequence[str], installed: Sequence[InstalledModel]) -> list[MissingModel]:
    """Return the names that cannot be loaded."""
    by_name = {model.name.lower(): model for model in installed}
    found = []
    for name in names:
        model = by_name.get(match_key(name))
        if model is None:
            # without the default tag, which would make all names similar
            short = {key.removesuffix(DEFAULT_SUFFIX): each.name for key, each in by_name.items()}
            wanted = match_key(name).removesuffix(DEFAULT_SUFFIX)
            similar = difflib.get_close_matches(wanted, short, n=MAX_SUGGESTIONS)
            found.append(MissingModel(name, tuple(short[each] for each in similar)))
        elif model.remote:
            found.append(MissingModel(name, (), remote=True))
    return found


async def warm_up(
    client: ControlClient,
    names: Sequence[str],
    wanted: WarmOptions,
    installed: Sequence[InstalledModel],
    progress: WarmProgress,
) -> list[WarmResult]:
    """Warm all models, in order. Raises TargetError if the server does not answer at first."""
    sizes = {model.name.lower(): model.size for model in installed}
    await client.ps()

    async def one(name: str) -> WarmResult:
        progress.on_start(name)
        result = await _warm_one(client, name, wanted, sizes.get(match_key(name), 0))
        progress.on_end(result)
        return result

    if wanted.parallel:
        results = list(await asyncio.gather(*map(one, names)))
    else:
        results = [await one(name) for name in names]
    return await _look_again(client, results)


async def _look_again(client: ControlClient, results: Sequence[WarmResult]) -> list[WarmResult]:
    """Return the results as a last listing shows them: a later load may have evicted a model."""
    if not any(result.outcome in RESIDENT for result in results):
        return list(results)
    try:
        answer = await client.ps()
    except TargetError as err:
        note = f"whether it is still resident is not known: {err.detail}"
        lost = partial(replace, outcome=WarmOutcome.FAILED, model=None, left=None, note=note)
        return [lost(each) if each.outcome in RESIDENT else each for each in results]
    listed = {model.name.lower(): model for model in answer.models}
    found = []
    for result in results:
        name = result.name if result.model is None else result.model.name
        entry = listed.get(match_key(name))
        if result.outcome not in RESIDENT:
            found.append(result)
        elif entry is not None:
            left = renew.time_left(answer, entry)
            found.append(replace(result, model=entry, left=left))
        else:
            early = result.model is not None and renew.surely_left(answer, result.model) > 0
            outcome = WarmOutcome.EVICTED if early else WarmOutcome.EXPIRED
            note = "it has left memory again"
            found.append(replace(result, outcome=outcome, model=None, left=None, note=note))
    return found


async def _warm_one(client: ControlClient, name: str, wanted: WarmOptions, size: int) -> WarmResult:
    began = time.monotonic()
    before: PsAnswer | None = None
    try:
        before = await client.ps()
        return await _load_or_keep(client, name, wanted, size, before=before, asked=began)
    except TargetError as err:
        timeout = err.reason is FailureReason.TIMEOUT
        outcome, note = WarmOutcome.TIMEOUT if timeout else WarmOutcome.FAILED, err.detail
    except OllamaExporterError as err:
        outcome, note = WarmOutcome.FAILED, str(err)
    seconds, evicted = time.monotonic() - began, tuple[str, ...]()
    if before is not None:
        with suppress(OllamaExporterError):
            after = await client.ps()
            evicted = _gone(before, after, time.monotonic() - began)
    return WarmResult(name, outcome, seconds, evicted=evicted, note=note)


def _gone(before: PsAnswer, after: PsAnswer, elapsed: float) -> tuple[str, ...]:
    """Return the models that left between two listings, which were begun `elapsed` seconds apart.

    One whose deadline may have passed meanwhile left by itself.
    """
    listed = {each.name for each in after.models}
    return tuple(
        each.name
        for each in before.models
        if each.name not in listed and renew.surely_left(before, each) > elapsed
    )


async def _load_or_keep(
    client: ControlClient,
    name: str,
    wanted: WarmOptions,
    size: int,
    *,
    before: PsAnswer,
    asked: float,
) -> WarmResult:
    blobs = SharedBlobs(client)
    resident = [model.name for model in before.models]
    if resident and renew.find_entry(before, name) is None:
        await blobs.resolve((each, 0) for each in (*resident, name))
    listed_as = blobs.listed_name(name, resident)
    entry = None if listed_as is None else renew.find_entry(before, listed_as)
    if entry is not None:
        return await _keep(client, name, wanted, entry)
    to_evict: list[Occupant] | None = []
    if wanted.memory is not None:
        occupants = [
            await _occupant(client, model, renew.time_left(before, model))
            for model in before.models
        ]
        to_evict = victims(size, wanted.memory, occupants)
    if (to_evict is None or to_evict) and not wanted.evict:
        evicted = tuple(model.name for model in to_evict or ())
        note = "others would have to go" if evicted else "larger than the memory that is there"
        return WarmResult(name, WarmOutcome.NO_ROOM, evicted=evicted, note=note)
    options: dict[str, Any] = {} if wanted.num_ctx is None else {"num_ctx": wanted.num_ctx}
    began = time.monotonic()
    await client.preload(
        name, patience=wanted.timeout, keep_alive=wanted.keep_alive, options=options
    )
    seconds = time.monotonic() - began
    after = await client.ps()
    model = renew.find_entry(after, name)
    left = None if model is None else renew.time_left(after, model)
    evicted = _gone(before, after, time.monotonic() - asked)
    return WarmResult(name, WarmOutcome.LOADED, seconds, model, left, evicted)


async def _keep(
    client: ControlClient, name: str, wanted: WarmOptions, entry: RunningModel
) -> WarmResult:
    """Renew a model that is resident. Its context stays as it is."""
    began = time.monotonic()
    if wanted.keep_alive is None:
        renewal = await renew.touch(client, entry.name)
    else:
        renewal = await renew.renew(
            client, entry.name, wanted.keep_alive, may_shorten=wanted.may_shorten
        )
    seconds = time.monotonic() - began
    notes = {
        RenewalOutcome.BUSY: "in use: its keep-alive was left as it is",
        RenewalOutcome.LONGER: (
            "" if wanted.keep_alive is None else "kept that long or longer already"
        ),
        RenewalOutcome.UNKNOWN_CONTEXT: "the server does not list its context: left as it is",
        RenewalOutcome.OUTDATED: "an older version of it: left as it is",
        RenewalOutcome.ABSENT: "",  # the last look tells
        RenewalOutcome.SET: "",
    }
    note = notes[renewal.outcome]
    if entry.name.lower() != match_key(name):
        note = f"shares the runner of {entry.name}" + (f"; {note}" if note else "")
    if wanted.num_ctx is not None and entry.context != wanted.num_ctx:
        other = f"resident with a context of {entry.context}, which another one would reload"
        note = f"{note}; {other}" if note else other
    model = renewal.model or entry
    return WarmResult(name, WarmOutcome.WARM, seconds, model, renewal.left, note=note)


async def _occupant(client: ControlClient, model: RunningModel, left: float) -> Occupant:
    weights = await client.show(model.name) or ""
    return Occupant(model.name, model.size_vram or 0, left, weights)
