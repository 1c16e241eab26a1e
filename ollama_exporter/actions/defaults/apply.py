# SPDX-License-Identifier: Apache-2.0
"""The proxy's defaults at work: what is set in requests, and what is set when they are over."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from ollama_exporter.actions import renew
from ollama_exporter.actions.defaults.rewrite_rules import Changed, ResidentRunner, Rules, change
from ollama_exporter.actions.load_options import LoadOptions
from ollama_exporter.actions.renew import RenewalOutcome
from ollama_exporter.actions.shared_blobs import SharedBlobs
from ollama_exporter.clock import Timeline
from ollama_exporter.errors import OllamaExporterError
from ollama_exporter.metrics.action_metrics import DEFAULTS, ActionMetrics
from ollama_exporter.protocol.control_client import ControlClient
from ollama_exporter.protocol.keepalive import render
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.protocol.routes import Route
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.events import View
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.in_flight import InFlight
from ollama_exporter.shim.observation import Observation, Outcome

PAUSE: Final = 0.05  # seconds from the end of a request until its model is looked at
# Seconds to the next attempt: the server writes a deadline up to 5 s late.
ATTEMPTS: Final = (1.0, 3.0, 6.0)
CONFIRMED: Final = 30.0  # seconds for which what was found is taken for granted
MOST: Final = 16  # models that are renewed at the same time
MOST_MODELS: Final = 1024
logger = logging.getLogger(__name__)


class DefaultsApplier:
    """What the proxy is handed (`Amend`), and who is told of requests that ended."""

    def __init__(
        self,
        rules: Rules,
        client: ControlClient,
        in_flight: InFlight,
        acts: ActionMetrics,
        contexts: LoadOptions,
        *,
        view: Callable[[], View],
        timeline: Timeline,
        reporter: Reporter,
        aliases: SharedBlobs,
    ) -> None:
        self.rules = rules
        self._client, self._in_flight, self._acts = client, in_flight, acts
        self._contexts, self._view, self._aliases = contexts, view, aliases
        self._canonical = in_flight.residence.canonical_name
        self._timeline, self._reporter = timeline, reporter
        self._renewing: dict[str, asyncio.Task[None]] = {}
        self._confirmed: dict[str, tuple[float, float]] = {}  # model -> keep_alive, since when

    @property
    def is_active(self) -> bool:
        """Whether rules are in force."""
        return bool(self.rules.rules) or self.rules.autopilot is not None

    # -- as requests pass ------------------------------------------------------------------------

    def change(self, route: Route, body: bytes) -> Changed | None:
        """Set something in a body."""
        try:
            changed = change(route, body, self.rules, self._resident)
            if changed is not None and changed.asked.model is not None:
                model = self._name(changed.asked.model)
                if self._canonical(model) is not None:  # clients make names up
                    self._acts.init_defaults(model)
                    for each in changed.changes:
                        self._acts.on_request_change(model, each)
        except Exception:  # noqa: BLE001 - a defect of ours must not cost the request
            self._reporter.error_once("Request could not be changed")
            return None
        return changed

    def afterwards(self, exchange: Exchange) -> str:
        """Say what will be set when a request is over."""
        asked = exchange.rewritten_fields or exchange.request_fields
        if not exchange.route.runs or exchange.model is None or asked.keep_alive == 0:
            return ""
        limits = self.rules.limits(exchange.model)
        wanted = None if limits is None else limits.wanted(exchange.request_fields)
        if wanted is None or asked.keep_alive is not None:  # none is wanted, or it is set already
            return ""
        return f"keep_alive>={render(wanted)} afterwards"

    def _resident(self, model: str) -> ResidentRunner | None:
        """Return the runner that is there, or will be when a request now under way has it."""
        name = self._name(model)
        context = next((a.num_ctx for a in self._in_flight.asked(name) if a.num_ctx), None)
        there = {m.name: m.resident[-1] for m in self._view().models if m.resident}
        listed = self._aliases.listed_name(name, there)
        if listed is not None:
            return ResidentRunner(there[listed].context)
        if there and not self._aliases.is_resolved(name):  # it may share the runner of one of them
            return ResidentRunner()
        return ResidentRunner(context) if self._in_flight.asked(name) else None

    def _name(self, model: str) -> str:
        name = normalise(model)
        return self._canonical(name) or name

    # -- when they are over ----------------------------------------------------------------------

    def on_request_end(self, seen: Observation) -> None:
        """Take a request that is over."""
        model, asked = seen.model, seen.request_fields
        if model is None or not seen.route.runs or seen.response.remote:
            return
        if seen.outcome is Outcome.ANSWERED:
            self._contexts.on_request_end(model, asked)
        limits = self.rules.limits(model)
        if limits is None:
            return
        wanted = limits.wanted(asked)
        if wanted is None or asked.keep_alive == 0:
            self._confirmed.pop(model, None)  # this request set its own
            return
        self._acts.init_defaults(model)
        known = self._confirmed.get(model)
        if known is not None and known[0] == wanted and self._timeline.now() < known[1] + CONFIRMED:
            return
        if model not in self._renewing and len(self._renewing) < MOST:
            task = asyncio.get_running_loop().create_task(self._renew(model, wanted))
            self._renewing[model] = task
            task.add_done_callback(lambda _task: self._renewing.pop(model, None))

    async def _renew(self, model: str, wanted: float) -> None:
        await asyncio.sleep(PAUSE)
        try:
            for wait in (*ATTEMPTS, 0.0):
                self._reporter.own_use(model, self._timeline.now())
                there = [each.name for each in (await self._client.ps()).models]
                await self._aliases.resolve((name, 0) for name in (*there, model))
                renewal = await renew.renew(
                    self._client,
                    self._aliases.listed_name(model, there) or model,
                    wanted,
                    options=lambda context: self._contexts.for_resident(model, context),
                )
                if renewal.outcome is not RenewalOutcome.BUSY or self._in_flight.asked(model):
                    break  # if it is in use, the end of that request comes here again
                await asyncio.sleep(wait)
        except OllamaExporterError as err:
            values = {"model": model, "err": str(err)}
            logger.warning("Keep-alive could not be set", extra=values)
            return
        except Exception:  # noqa: BLE001 - a task of its own: nobody else would hear of it
            self._reporter.error_once("Keep-alive could not be set")
            return
        if renewal.outcome in (RenewalOutcome.SET, RenewalOutcome.LONGER):
            self._confirmed.pop(model, None)
            self._confirmed[model] = (wanted, self._timeline.now())
            if len(self._confirmed) > MOST_MODELS:
                del self._confirmed[next(iter(self._confirmed))]
        if renewal.outcome is RenewalOutcome.SET:
            self._acts.on_renewal(model, DEFAULTS)
            values = {"model": model, "keep_alive": render(wanted)}
            logger.info("Keep-alive set after a request", extra=values)

    async def aclose(self) -> None:
        """End what is under way."""
        tasks = list(self._renewing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
