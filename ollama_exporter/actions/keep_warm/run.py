# SPDX-License-Identifier: Apache-2.0
"""Runs keep-warm: carries out what `decide.py` decides.

One load at a time, in a task of its own: deadlines of other models are renewed meanwhile.
"""

import asyncio
import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from ollama_exporter.actions.controlled_server import ControlledServer
from ollama_exporter.actions.keep_warm.decide import (
    Decision,
    KeepWarmPlanner,
    LoadModel,
    RenewModel,
    ResidentModel,
    Situation,
)
from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm, WarmModel
from ollama_exporter.actions.keep_warm.model_history import HoldReason
from ollama_exporter.actions.keep_warm.saved_history import SavedKeepWarm
from ollama_exporter.actions.renewal_outcome import RenewalOutcome
from ollama_exporter.errors import OllamaExporterError
from ollama_exporter.metrics.action_metrics import KEEP_WARM, ActionMetrics
from ollama_exporter.protocol.keepalive import render
from ollama_exporter.protocol.wire import InstalledModel
from ollama_exporter.residency.events import Event, Unloaded, View
from ollama_exporter.residency.facts import RequestAnswered, RequestEnded, RequestStarted

INTERVAL: Final = 5.0  # seconds between two turns, where no poll causes one
logger = logging.getLogger(__name__)


class KeepWarmRunner:
    """Loads and renews the models of the section."""

    def __init__(self, section: KeepWarm, server: ControlledServer, metrics: ActionMetrics) -> None:
        self._server, self._metrics, self._context = server, metrics, server.context
        self._planner = KeepWarmPlanner(section, server.blobs.runner_key)
        self._wake = asyncio.Event()
        self._ids = itertools.count(1)
        self._held: dict[str, HoldReason] = {}
        self._logged: set[str] = set()  # actions that a dry run has logged
        self._installed: tuple[InstalledModel, ...] | None = None
        self._load_task: asyncio.Task[None] | None = None
        self._loading: str | None = None
        self.apply_settings(section)

    @property
    def is_active(self) -> bool:
        """Whether the section has models."""
        return bool(self._planner.section.models)

    def apply_settings(self, section: KeepWarm) -> None:
        """Put a section in force: the first one, or that of a reload."""
        self._planner.section = section
        self._logged = set()
        names = {warm.model for warm in section.models}
        self._show_held({model: why for model, why in self._held.items() if model in names})
        for warm in section.models:
            self._context.reporter.expect(warm.model)
            self._metrics.init_keep_warm(warm.model)
        self._wake.set()

    def saved(self) -> SavedKeepWarm:
        """Return what the next process must know."""
        return self._planner.saved()

    def restore(self, saved: SavedKeepWarm) -> None:
        """Go on where an earlier process ended."""
        self._planner.restore(saved, at=self._context.timeline.now())

    def on_installed(self, models: tuple[InstalledModel, ...]) -> None:
        """Note which models are installed, and which of them run on another host."""
        self._installed = models
        self._wake.set()

    def on_change(self, events: tuple[Event, ...], view: View) -> None:
        """Record what a poll or another fact showed, and take a turn."""
        resident = [state.name for state in view.models if state.resident]
        for event in events:
            if isinstance(event, Unloaded):
                self._on_unloaded(event, resident)
        if events and self.is_active:
            situation = self._situation()
            if situation is not None:  # what is saved must tell who is resident now
                self._planner.record_residence(situation)
            self._context.save_soon()  # a killed exporter forgets no stop
        self._wake.set()

    def _on_unloaded(self, event: Unloaded, resident: Sequence[str]) -> None:
        """Record an unload for every model of the section that shared the runner."""
        name, blobs = event.model.name, self._server.blobs
        names = {warm.model for warm in self._planner.section.models}
        for model in {name, *(each for each in names if blobs.listed_name(each, [name]))}:
            self._planner.on_unloaded(
                model,
                event.reason,
                since=event.not_before,
                at=event.not_after,
                by=event.by,
                resident=resident,
            )

    async def run(self) -> None:
        """Keep models warm until cancelled. An internal error costs one turn."""
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(INTERVAL):
                        await self._wake.wait()
                self._wake.clear()
                try:
                    await self.turn()
                except Exception:
                    self._context.reporter.error()
                    logger.exception("Unexpected error in keep-warm")
        finally:
            if self._load_task is not None:
                self._load_task.cancel()
                await asyncio.gather(self._load_task, return_exceptions=True)

    async def turn(self) -> None:
        """Decide once, begin a load, and renew the most urgent deadline."""
        if self.is_active:
            await self._resolve_names()
        situation = self._situation()
        if not self.is_active:
            self._show_held({})
            if situation is not None:
                self._planner.record_residence(situation)
            return
        if situation is None:
            return
        decision = self._planner.decide(situation)
        if self._planner.section.dry_run:
            self._show_held(decision.held)
            actions: tuple[LoadModel | RenewModel, ...] = (*decision.loads, *decision.renewals)
            for action in actions:
                self._log_dry_run(action)
        else:
            await self._act(decision, situation)

    async def _act(self, decision: Decision, situation: Situation) -> None:
        if decision.loads and self._load_task is None:
            await self._context.poll()  # what has left by now is no victim of this load
            now = self._situation()
            if now is None:
                return
            decision, situation = self._planner.decide(now), now
        self._show_held(decision.held)
        if decision.loads and self._load_task is None:
            load = decision.loads[0]
            self._loading = load.warm.model
            self._load_task = asyncio.create_task(self._load_in_background(load))
        if decision.renewals:
            renewal = decision.renewals[0]
            await self._renew(renewal, situation.resident[renewal.warm.model].left)
            await self._context.poll()  # the next decision sees the result
            self._wake.set()

    async def _load_in_background(self, load: LoadModel) -> None:
        try:
            loaded = await self._load(load)
            await self._context.poll()  # the next decision sees the result
            situation = self._situation()
            if loaded and situation is not None and load.warm.model not in situation.resident:
                self._planner.on_load_vanished(load, at=situation.now, resident=situation.resident)
        except Exception:
            self._context.reporter.error()
            logger.exception("Unexpected error in keep-warm")
            self._planner.on_load_failed(load, at=self._context.timeline.now())
        finally:
            self._planner.on_load_end(load, at=self._context.timeline.now())
            self._load_task = self._loading = None
            self._wake.set()

    async def _resolve_names(self) -> None:
        """Find out which of the models that matter share a runner."""
        view, wanted = self._context.published().view, self._planner.names
        names = {state.name for state in view.models if state.resident}
        names |= {m.name for m in self._installed or () if m.name in wanted and not m.remote}
        await self._server.blobs.resolve((name, 0) for name in sorted(names))

    def _situation(self) -> Situation | None:
        published, now = self._context.published(), self._context.timeline.now()
        if not published.is_listed:
            return None
        ours = {warm.model.lower(): warm.model for warm in self._planner.section.models}
        resident = {
            ours.get(state.name.lower(), state.name): ResidentModel(
                0.0 if state.deadline is None else state.deadline - now
            )
            for state in published.view.models
            if state.resident
        }
        for name in ours.values():  # a name that shares a runner is listed under another one
            other = self._server.blobs.listed_name(name, resident)
            if other is not None:
                resident.setdefault(name, resident[other])
        installed, remote = None, frozenset[str]()
        if self._installed is not None:
            names = {ours.get(each.name.lower(), each.name): each for each in self._installed}
            installed = frozenset(names)
            remote = frozenset(name for name, each in names.items() if each.remote)
        return Situation(
            now,
            self._context.timeline.wall(now),
            resident,
            loading=self._context.is_loading(),
            own_load=self._loading,
            installed=installed,
            remote=remote,
        )

    def _show_held(self, held: dict[str, HoldReason]) -> None:
        """Show which models are held back, and log each change."""
        for model, why in held.items():
            if self._held.get(model) is not why:
                logger.info("Model is not warmed now", extra={"model": model, "why": why.value})
        self._held = held
        self._metrics.show_held({model: why.value for model, why in held.items()})

    def _log_dry_run(self, action: LoadModel | RenewModel) -> None:
        warm = action.warm
        key = f"{type(action).__name__} {warm.model}"
        if key not in self._logged:
            self._logged.add(key)
            values = {"model": warm.model, "keep_alive": render(warm.keep_alive)}
            if isinstance(action, LoadModel):
                logger.info("Dry run: model would be loaded", extra=values)
            else:
                logger.info("Dry run: keep-alive would be renewed", extra=values)

    async def _load(self, action: LoadModel) -> bool:
        """Load a model; return whether the server did."""
        warm, timeline = action.warm, self._context.timeline
        options = self._server.options.for_load(warm.model, warm.num_ctx)
        try:
            if await self._server.listed_name(warm.model) is not None:
                return False  # a client loaded it since the last poll
            if warm not in self._planner.section.models or self._planner.section.dry_run:
                return False  # a reload of the configuration came first
            began = timeline.now()
            self._planner.on_load_start(action, at=began)
            self._context.save_soon()
            with self._as_request(warm, options.get("num_ctx")):
                await self._server.client.preload(
                    warm.model,
                    patience=self._planner.section.load_timeout,
                    keep_alive=warm.keep_alive,
                    options=options,
                )
            self._server.options.on_own_load(warm.model, options, timeline.now())
            self._context.reporter.own_use(warm.model, timeline.now())
        except OllamaExporterError as err:
            self._planner.on_load_failed(action, at=timeline.now())
            self._metrics.on_failure(warm.model)
            logger.warning("Warm-up failed", extra={"model": warm.model, "err": str(err)})
            return False
        self._metrics.on_load(warm.model)
        values = {"model": warm.model, "seconds": round(timeline.now() - began, 3)}
        logger.info("Model warmed", extra={**values, "keep_alive": render(warm.keep_alive)})
        return True

    @contextmanager
    def _as_request(self, warm: WarmModel, num_ctx: int | None) -> Iterator[None]:
        """Report a load as a request: it is the reason of the evictions that it causes."""
        timeline, fact = self._context.timeline, self._context.reporter.fact
        request_id = ("keep-warm", next(self._ids))
        fact(RequestStarted(timeline.now(), request_id, warm.model, warm.keep_alive, num_ctx))
        try:
            yield
            fact(RequestAnswered(timeline.now(), request_id))
        finally:
            fact(RequestEnded(timeline.now(), request_id))

    async def _renew(self, action: RenewModel, left: float) -> None:
        warm, now = action.warm, self._context.timeline.now
        values = {"model": warm.model, "keep_alive": render(warm.keep_alive)}
        try:
            renewal = await self._server.renew(warm.model, warm.keep_alive)
        except OllamaExporterError as err:
            self._planner.on_renewal_failed(action, left=left, at=now())
            self._metrics.on_failure(warm.model)
            logger.warning("Renewal failed", extra={**values, "err": str(err)})
            return
        self._planner.on_renewal(action, renewal.outcome, left=renewal.left, at=now())
        if renewal.outcome is RenewalOutcome.SET:
            self._metrics.on_renewal(warm.model, KEEP_WARM)
            logger.info("Keep-alive renewed", extra=values)
        else:
            logger.debug("Keep-alive not set", extra={**values, "why": renewal.outcome.value})
