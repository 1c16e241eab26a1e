# SPDX-License-Identifier: Apache-2.0
"""Keep-warm at work: carries out what `decide.py` decides, one thing at a time."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ollama_exporter.actions import renew
from ollama_exporter.actions.keep_warm.decide import (
    HoldReason,
    KeepWarmPlanner,
    LoadModel,
    RenewModel,
    ResidentModel,
    Situation,
)
from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm, WarmModel
from ollama_exporter.actions.load_options import LoadOptions
from ollama_exporter.actions.renew import RenewalOutcome
from ollama_exporter.actions.shared_blobs import SharedBlobs
from ollama_exporter.clock import Timeline
from ollama_exporter.errors import OllamaExporterError
from ollama_exporter.metrics.action_metrics import KEEP_WARM, ActionMetrics
from ollama_exporter.metrics.collectors.server_collector import ServerState
from ollama_exporter.protocol.control_client import ControlClient
from ollama_exporter.protocol.keepalive import render
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.events import Event, Found, Loaded, Unloaded, View
from ollama_exporter.residency.facts import RequestAnswered, RequestEnded, RequestStarted

LOOK: Final = 5.0  # seconds between two looks at the schedule, where no poll brings one
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known of the server, by which clock, and where to report."""

    view: Callable[[], View]
    server: Callable[[], ServerState]
    poll: Callable[[], Awaitable[None]]
    loading: Callable[[], bool]  # requests wait for a load
    timeline: Timeline
    reporter: Reporter


class KeepWarmRunner:
    """Runs the section. `contexts`: what is asked of each model, kept up to date here."""

    def __init__(
        self,
        section: KeepWarm,
        client: ControlClient,
        acts: ActionMetrics,
        contexts: LoadOptions,
        aliases: SharedBlobs,
        around: Surroundings,
    ) -> None:
        self._client, self._acts, self._contexts, self._around = client, acts, contexts, around
        self._aliases = aliases
        self._keeper = KeepWarmPlanner(section)
        self._wake = asyncio.Event()
        self._numbers = itertools.count(1)
        self._held: dict[str, HoldReason] = {}
        self._told: set[str] = set()  # what a dry run has said already
        self.take(section)

    def take(self, section: KeepWarm) -> None:
        """Take a section, the first one or that of a reload."""
        self._keeper.section = section
        self._told = set()
        for warm in section.models:
            self._around.reporter.expect(warm.model)
            self._acts.init_keep_warm(warm.model)
        self._wake.set()

    def saw(self, events: tuple[Event, ...], view: View) -> None:
        """Take what a poll showed."""
        resident = [state.name for state in view.models if state.resident]
        for event in events:
            match event:
                case Found(model=model) | Loaded(model=model):
                    self._contexts.on_listed(model.name, model.context)
                case Unloaded():
                    name, by = event.model.name, event.by
                    at = event.not_after
                    self._keeper.on_unloaded(name, event.reason, at=at, by=by, resident=resident)
                case _:
                    pass
        self._wake.set()

    async def run(self) -> None:
        """Keep models warm until cancelled. A defect costs one turn and is counted."""
        while True:
            try:
                async with asyncio.timeout(LOOK):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self.turn()
            except Exception:
                self._around.reporter.error()
                logger.exception("Keep-warm failed in a way that was not foreseen")

    async def turn(self) -> None:
        """Decide once, and do it."""
        if not self._keeper.section.models:
            self._hold({})
            return
        situation = self._situation()
        if situation is None:
            return
        decision = self._keeper.decide(situation)
        self._hold(decision.held)
        match decision.action:
            case None:
                return
            case action if self._keeper.section.dry_run:
                self._say(action)
                return
            case LoadModel() as load:
                await self._load(load)
            case RenewModel() as renewal:
                await self._renew(renewal)
        await self._around.poll()  # what was done is seen before anything else is decided

    def _situation(self) -> Situation | None:
        around = self._around
        view, server, now = around.view(), around.server(), around.timeline.now()
        if not server.up or view.last_seen is None:
            return None
        ours = {warm.model.lower(): warm.model for warm in self._keeper.section.models}
        resident = {
            ours.get(state.name.lower(), state.name): ResidentModel(
                0.0 if state.deadline is None else state.deadline - now
            )
            for state in view.models
            if state.resident
        }
        for name in ours.values():  # one that shares its runner is listed by another name
            other = self._aliases.listed_name(name, resident)
            if other is not None:
                resident.setdefault(name, resident[other])
        installed = None
        if server.installed is not None:
            names = (name for name, _ in server.installed)
            installed = frozenset(ours.get(name.lower(), name) for name in names)
        return Situation(
            now,
            around.timeline.wall(now),
            resident,
            loading=around.loading(),
            installed=installed,
        )

    def _hold(self, held: dict[str, HoldReason]) -> None:
        """Show who is held back; log it when it changes."""
        for model, why in held.items():
            if self._held.get(model) is not why:
                logger.info("Model is not warmed now", extra={"model": model, "why": why.value})
        self._held = held
        self._acts.show_held({model: why.value for model, why in held.items()})

    def _say(self, action: LoadModel | RenewModel) -> None:
        warm = action.warm
        what = f"{type(action).__name__} {warm.model}"
        if what not in self._told:
            self._told.add(what)
            values = {"model": warm.model, "keep_alive": render(warm.keep_alive)}
            if isinstance(action, LoadModel):
                logger.info("Dry run: model would be loaded", extra=values)
            else:
                logger.info("Dry run: keep-alive would be renewed", extra=values)

    async def _load(self, action: LoadModel) -> None:
        warm, around = action.warm, self._around
        options = self._contexts.for_load(warm.model, warm.num_ctx)
        try:
            there = [model.name for model in (await self._client.ps()).models]
            await self._aliases.resolve((name, 0) for name in (*there, warm.model))
            if self._aliases.listed_name(warm.model, there) is not None:
                return  # somebody was faster than the last poll
            began = around.timeline.now()
            self._keeper.on_action_start(action, at=began)
            with self._witnessed(warm, options.get("num_ctx")):
                await self._client.preload(
                    warm.model,
                    patience=self._keeper.section.load_timeout,
                    keep_alive=warm.keep_alive,
                    options=options,
                )
            around.reporter.own_use(warm.model, around.timeline.now())
        except OllamaExporterError as err:
            self._fail(action, err)
            return
        self._acts.on_load(warm.model)
        values = {"model": warm.model, "seconds": round(around.timeline.now() - began, 3)}
        logger.info("Model warmed", extra={**values, "keep_alive": render(warm.keep_alive)})

    @contextmanager
    def _witnessed(self, warm: WarmModel, num_ctx: int | None) -> Iterator[None]:
        """Have a load known as the request that it is: whom it drives out was evicted by it."""
        around, number = self._around, ("keep-warm", next(self._numbers))
        keep_alive = warm.keep_alive
        started = RequestStarted(around.timeline.now(), number, warm.model, keep_alive, num_ctx)
        around.reporter.fact(started)
        try:
            yield
            around.reporter.fact(RequestAnswered(around.timeline.now(), number))
        finally:
            around.reporter.fact(RequestEnded(around.timeline.now(), number))

    async def _renew(self, action: RenewModel) -> None:
        warm, around = action.warm, self._around
        self._keeper.on_action_start(action, at=around.timeline.now())
        around.reporter.own_use(warm.model, around.timeline.now())
        try:
            there = [model.name for model in (await self._client.ps()).models]
            renewal = await renew.renew(
                self._client,
                self._aliases.listed_name(warm.model, there) or warm.model,
                warm.keep_alive,
                options=lambda context: self._contexts.for_resident(warm.model, context),
            )
        except OllamaExporterError as err:
            self._fail(action, err)
            return
        if renewal.outcome is RenewalOutcome.SET:
            self._acts.on_renewal(warm.model, KEEP_WARM)
        values = {"model": warm.model, "outcome": renewal.outcome.value}
        logger.info("Keep-alive renewed", extra={**values, "keep_alive": render(warm.keep_alive)})

    def _fail(self, action: LoadModel | RenewModel, err: OllamaExporterError) -> None:
        self._keeper.on_action_failed(action, at=self._around.timeline.now())
        self._acts.on_failure(action.warm.model)
        logger.warning("Warm-up failed", extra={"model": action.warm.model, "err": str(err)})
