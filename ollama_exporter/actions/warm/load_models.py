# SPDX-License-Identifier: Apache-2.0
"""Loads models one after another and says what became of each: the work of `warm`."""

import asyncio
import difflib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from ollama_exporter.actions import renew
from ollama_exporter.actions.renew import Kept
from ollama_exporter.actions.shared_blobs import SharedBlobs
from ollama_exporter.actions.warm.eviction_order import Occupant, victims
from ollama_exporter.errors import FailureReason, OllamaExporterError, TargetError
from ollama_exporter.protocol.control_client import ControlClient
from ollama_exporter.protocol.model_names import DEFAULT_TAG, normalise
from ollama_exporter.protocol.wire import InstalledModel, RunningModel

IMPLIED: Final = f":{DEFAULT_TAG}"
NEAR: Final = 3  # names that are offered for one that is missing
RETRY: Final = 0.5  # seconds between two looks whether the server is there


class WarmOutcome(StrEnum):
    """What became of one model."""

    LOADED = "loaded"
    WARM = "warm"  # it was resident
    NO_ROOM = "no room"  # others would have to go, and nobody said that they may
    FAILED = "failed"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be done. `keep_alive` None: the server's own. Durations in seconds."""

    keep_alive: float | None = None
    num_ctx: int | None = None
    patience: float = 600.0
    parallel: bool = False
    even_shorter: bool = False  # a longer keep-alive may be replaced
    memory: int | None = None  # bytes of GPU memory, which no server tells
    evict: bool = False


@dataclass(frozen=True, slots=True)
class Warmed:
    """What became of one model. `left`: seconds until its deadline, inf for ever."""

    name: str
    outcome: WarmOutcome
    seconds: float = 0.0
    model: RunningModel | None = None
    left: float | None = None
    gone: tuple[str, ...] = ()  # who left meanwhile, or would have to
    note: str = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """A name that is not installed, and those that are nearest to it."""

    name: str
    near: tuple[str, ...]
    remote: bool = False  # it is there, and runs on another host


class WarmProgress:
    """Is told what happens to each model; does nothing."""

    def begins(self, name: str) -> None:
        """Take that its turn has come."""

    def ends(self, warmed: Warmed) -> None:
        """Take what became of it."""


async def wait_for_server(client: ControlClient, patience: float) -> None:
    """Wait until it answers. Raises TargetError when it does not in time."""
    end = time.monotonic() + patience
    while True:
        try:
            await client.version()
        except TargetError:
            if time.monotonic() >= end:
                raise
            await asyncio.sleep(RETRY)
        else:
            return


def missing(names: Sequence[str], installed: Sequence[InstalledModel]) -> list[Missing]:
    """Return the names that cannot be loaded."""
    known = {model.name.lower(): model for model in installed}
    found = []
    for name in names:
        there = known.get(normalise(name).lower())
        if there is None:
            # without the tag that most have: it would make all of them alike
            short = {each.removesuffix(IMPLIED): model.name for each, model in known.items()}
            wanted = normalise(name).lower().removesuffix(IMPLIED)
            near = difflib.get_close_matches(wanted, short, n=NEAR)
            found.append(Missing(name, tuple(short[each] for each in near)))
        elif there.remote:
            found.append(Missing(name, (), remote=True))
    return found


async def warm_up(
    client: ControlClient,
    names: Sequence[str],
    wish: Wish,
    installed: Sequence[InstalledModel],
    watcher: WarmProgress,
) -> list[Warmed]:
    """Warm all of them, in order. Raises TargetError if the server does not answer at first."""
    sizes = {model.name.lower(): model.size for model in installed}
    await client.ps()

    async def one(name: str) -> Warmed:
        watcher.begins(name)
        warmed = await _one(client, name, wish, sizes.get(normalise(name).lower(), 0))
        watcher.ends(warmed)
        return warmed

    if wish.parallel:
        return list(await asyncio.gather(*map(one, names)))
    return [await one(name) for name in names]


async def _one(client: ControlClient, name: str, wish: Wish, size: int) -> Warmed:
    began = time.monotonic()
    try:
        return await _warm(client, name, wish, size)
    except TargetError as err:
        timeout = err.reason is FailureReason.TIMEOUT
        outcome = WarmOutcome.TIMEOUT if timeout else WarmOutcome.FAILED
        return Warmed(name, outcome, time.monotonic() - began, note=err.detail)
    except OllamaExporterError as err:
        return Warmed(name, WarmOutcome.FAILED, time.monotonic() - began, note=str(err))


async def _warm(client: ControlClient, name: str, wish: Wish, size: int) -> Warmed:
    before = await client.ps()
    aliases = SharedBlobs(client)
    resident = [model.name for model in before.models]
    if resident and renew.entry(before, name) is None:
        await aliases.learn((each, 0) for each in (*resident, name))
    listed_as = aliases.listed(name, resident)
    there = None if listed_as is None else renew.entry(before, listed_as)
    if there is not None:
        return await _keep(client, name, wish, there)
    would_go: list[Occupant] | None = []
    if wish.memory is not None:
        held = [await _held(client, model, renew.left(before, model)) for model in before.models]
        would_go = victims(size, wish.memory, held)
    if (would_go is None or would_go) and not wish.evict:
        gone = tuple(held.name for held in would_go or ())
        note = "others would have to go" if gone else "larger than the memory that is there"
        return Warmed(name, WarmOutcome.NO_ROOM, gone=gone, note=note)
    options: dict[str, Any] = {} if wish.num_ctx is None else {"num_ctx": wish.num_ctx}
    began = time.monotonic()
    await client.preload(name, patience=wish.patience, keep_alive=wish.keep_alive, options=options)
    seconds = time.monotonic() - began
    after = await client.ps()
    model = renew.entry(after, name)
    listed = {each.name for each in after.models}
    # A deadline that has passed meanwhile is nobody's doing.
    gone = tuple(
        each.name
        for each in before.models
        if each.name not in listed and renew.left(before, each) > seconds
    )
    left = None if model is None else renew.left(after, model)
    note = "" if model is not None else "it was loaded and has left already"
    return Warmed(name, WarmOutcome.LOADED, seconds, model, left, gone, note)


async def _keep(client: ControlClient, name: str, wish: Wish, there: RunningModel) -> Warmed:
    """See to a model that is resident; its context stays, whatever was wished."""
    began = time.monotonic()
    if wish.keep_alive is None:
        renewal = await renew.touch(client, there.name)
    else:
        renewal = await renew.renew(
            client, there.name, wish.keep_alive, even_shorter=wish.even_shorter
        )
    seconds = time.monotonic() - began
    notes = {
        Kept.BUSY: "in use: its keep-alive was left as it is",
        Kept.LONGER: "" if wish.keep_alive is None else "kept that long or longer already",
        Kept.UNKNOWN_CONTEXT: "the server does not say its context: left as it is",
        Kept.ABSENT: "it left while it was looked at",
        Kept.SET: "",
    }
    note = notes[renewal.kept]
    if there.name.lower() != normalise(name).lower():
        note = f"shares the runner of {there.name}" + (f"; {note}" if note else "")
    if wish.num_ctx is not None and there.context != wish.num_ctx:
        other = f"resident with a context of {there.context}, which another one would reload"
        note = f"{note}; {other}" if note else other
    return Warmed(name, WarmOutcome.WARM, seconds, renewal.model or there, renewal.left, note=note)


async def _held(client: ControlClient, model: RunningModel, left: float) -> Occupant:
    return Occupant(model.name, model.size_vram, left, await client.show(model.name) or "")
