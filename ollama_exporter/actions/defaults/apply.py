# SPDX-License-Identifier: Apache-2.0
"""Applies the proxy's defaults: rewrites requests, and renews keep-alives after requests."""

import asyncio
import logging
from typing import Final

from ollama_exporter.actions.controlled_server import ControlledServer
from ollama_exporter.actions.defaults.rewrite_rules import Changed, ResidentRunner, Rules, change
from ollama_exporter.actions.renew import RenewalOutcome
from ollama_exporter.errors import OllamaExporterError
from ollama_exporter.metrics.action_metrics import DEFAULTS, ActionMetrics
from ollama_exporter.protocol.keepalive import render
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.protocol.routes import Route
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.in_flight import InFlight
from ollama_exporter.shim.observation import Observation, Outcome

PAUSE: Final = 0.05  # seconds from the end of a request until its model is renewed
# Seconds to the next attempt: the server writes a deadline up to 5 s late.
RETRY_WAITS: Final = (1.0, 3.0, 6.0)
CONFIRMED: Final = 30.0  # seconds for which a confirmed keep-alive is not checked again
MAX_RENEWALS: Final = 16  # models that are renewed at the same time
MAX_MODELS: Final = 1024
logger = logging.getLogger(__name__)


class DefaultsApplier:
    """Rewrites the requests of the proxy, and hears of their end."""

    def __init__(
        self, rules: Rules, server: ControlledServer, in_flight: InFlight, metrics: ActionMetrics
    ) -> None:
        self._rules, self._server, self._in_flight = rules, server, in_flight
        self._metrics, self._context = metrics, server.context
        self._canonical_name = in_flight.residence.canonical_name
        self._renewing: dict[str, asyncio.Task[None]] = {}
        self._confirmed: dict[str, tuple[float, float]] = {}  # model -> keep_alive, time

    @property
    def is_active(self) -> bool:
        """Whether rules are in force."""
        return bool(self._rules.rules) or self._rules.autopilot is not None

    def apply_rules(self, rules: Rules) -> None:
        """Put rules in force: the first ones, or those of a reload."""
        self._rules = rules

    # -- during requests -------------------------------------------------------------------------

    def change(self, route: Route, body: bytes) -> Changed | None:
        """Return the rewritten body of a request; None: it stays as it is."""
        try:
            changed = change(route, body, self._rules, self._resident_runner)
            if changed is not None and changed.asked.model is not None:
                model = self._name(changed.asked.model)
                if self._canonical_name(model) is not None:  # clients may send any name
                    self._metrics.init_defaults(model)
                    for each in changed.changes:
                        self._metrics.on_request_change(model, each)
        except Exception:  # noqa: BLE001 - an internal error must not fail the request
            self._context.reporter.error_once("Request could not be rewritten")
            return None
        return changed

    def afterwards(self, exchange: Exchange) -> str:
        """Return what the response header promises for the time after the request."""
        asked = exchange.rewritten_fields or exchange.request_fields
        if not exchange.route.runs or exchange.model is None or asked.keep_alive == 0:
            return ""
        limits = self._rules.limits(exchange.model)
        wanted = None if limits is None else limits.wanted(exchange.request_fields)
        if wanted is None or asked.keep_alive is not None:  # nothing to set, or set in the request
            return ""
        return f"keep_alive>={render(wanted)} afterwards"

    def _resident_runner(self, model: str) -> ResidentRunner | None:
        """Return the runner that a request will use: listed, or loading for a request in flight."""
        name = self._name(model)
        in_flight = self._in_flight.request_fields(name)
        context = next((fields.num_ctx for fields in in_flight if fields.num_ctx), None)
        resident = {
            m.name: m.resident[-1] for m in self._context.published().view.models if m.resident
        }
        blobs = self._server.blobs
        listed = blobs.listed_name(name, resident)
        if listed is not None:
            return ResidentRunner(resident[listed].context)
        if resident and not blobs.is_resolved(name):  # it may share the runner of one of them
            return ResidentRunner()
        return ResidentRunner(context) if in_flight else None

    def _name(self, model: str) -> str:
        name = normalise(model)
        return self._canonical_name(name) or name

    # -- after requests --------------------------------------------------------------------------

    def on_request_end(self, seen: Observation) -> None:
        """Renew the model's keep-alive if the rules want it."""
        model, asked = seen.model, seen.request_fields
        if model is None or not seen.route.runs or seen.response.remote:
            return
        if seen.outcome is Outcome.ANSWERED:
            self._server.options.on_request_end(model, asked)
        limits = self._rules.limits(model)
        if limits is None:
            return
        wanted = limits.wanted(asked)
        if wanted is None or asked.keep_alive == 0:
            self._confirmed.pop(model, None)  # the request set its own
            return
        self._metrics.init_defaults(model)
        known = self._confirmed.get(model)
        now = self._context.timeline.now()
        if known is not None and known[0] == wanted and now < known[1] + CONFIRMED:
            return
        if model not in self._renewing and len(self._renewing) < MAX_RENEWALS:
            task = asyncio.get_running_loop().create_task(self._renew(model, wanted))
            self._renewing[model] = task
            task.add_done_callback(lambda _task: self._renewing.pop(model, None))

    async def _renew(self, model: str, wanted: float) -> None:
        await asyncio.sleep(PAUSE)
        try:
            for wait in (*RETRY_WAITS, 0.0):
                renewal = await self._server.renew(model, wanted)
                if renewal.outcome is not RenewalOutcome.BUSY or self._in_flight.request_fields(
                    model
                ):
                    break  # the end of a request in flight renews again
                await asyncio.sleep(wait)
        except OllamaExporterError as err:
            values = {"model": model, "err": str(err)}
            logger.warning("Keep-alive could not be set", extra=values)
            return
        except Exception:  # noqa: BLE001 - nothing else awaits this task
            self._context.reporter.error_once("Keep-alive could not be set")
            return
        if renewal.outcome in (RenewalOutcome.SET, RenewalOutcome.LONGER):
            self._confirmed.pop(model, None)
            self._confirmed[model] = (wanted, self._context.timeline.now())
            if len(self._confirmed) > MAX_MODELS:
                del self._confirmed[next(iter(self._confirmed))]
        if renewal.outcome is RenewalOutcome.SET:
            self._metrics.on_renewal(model, DEFAULTS)
            values = {"model": model, "keep_alive": render(wanted)}
            logger.info("Keep-alive set after a request", extra=values)

    async def aclose(self) -> None:
        """Cancel the renewals under way."""
        tasks = list(self._renewing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
