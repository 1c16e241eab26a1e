# SPDX-License-Identifier: Apache-2.0
"""Applies the proxy's defaults: rewrites requests, and renews keep-alives after requests."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from msgspec import Struct

from ollama_exporter.actions.controlled_server import ControlledServer
from ollama_exporter.actions.defaults.rewrite_rules import (
    Changed,
    ResidentRunner,
    Rules,
    append,
    change,
)
from ollama_exporter.actions.renew import Renewal
from ollama_exporter.actions.renewal_outcome import RenewalOutcome
from ollama_exporter.bounded import BoundedDict
from ollama_exporter.errors import OllamaExporterError
from ollama_exporter.metrics.action_metrics import DEFAULTS, ActionMetrics
from ollama_exporter.protocol.keepalive import render
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.protocol.request_body import RequestFields
from ollama_exporter.protocol.routes import Route
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.in_flight import InFlight
from ollama_exporter.shim.observation import Observation, Outcome

PAUSE: Final = 0.05  # seconds from the end of a request until its model is looked at
# Seconds to the next look at a model that clients use past the proxy, and after an error. The
# server writes a deadline up to 5 s late.
RETRY_WAITS: Final = (1.0, 3.0, 6.0, 10.0)  # the last one again and again
DEADLINE_DELAY: Final = 6.0  # seconds by which the server may write a deadline late
MAX_ERRORS: Final = 3  # in a row, then the keep-alive is given up
MAX_RENEWALS: Final = 16  # models that are renewed at the same time
MAX_MODELS: Final = 1024
FindRunner = Callable[[str], ResidentRunner | None]
FindContext = Callable[[str], int | None]
logger = logging.getLogger(__name__)


class PromisedKeepAlive(Struct, frozen=True):
    """The longest keep-alive, in seconds, that the ended requests of a model were promised.

    It is kept until a listing shows that the runner has it, or that the runner is gone. Nothing is
    remembered beyond that: the next runner of the model may have another keep-alive.
    """

    keep_alive: float
    requests: int  # that were promised it since it was checked last


class DefaultsApplier:
    """Rewrites the requests of the proxy, and hears of their end."""

    def __init__(
        self, rules: Rules, server: ControlledServer, in_flight: InFlight, metrics: ActionMetrics
    ) -> None:
        self._rules, self._server, self._in_flight = rules, server, in_flight
        self._metrics, self._context = metrics, server.context
        self._canonical_name = in_flight.residence.canonical_name
        self._renewing: dict[str, asyncio.Task[None]] = {}
        self._closing = False
        self._set_by_client: BoundedDict[str, float] = BoundedDict(MAX_MODELS)  # model -> time
        self._lowered: BoundedDict[str, int] = BoundedDict(MAX_MODELS)  # logged, by model
        self._promised: BoundedDict[str, PromisedKeepAlive] = BoundedDict(MAX_MODELS)

    @property
    def is_active(self) -> bool:
        """Whether rules are in force."""
        return bool(self._rules.rules) or self._rules.autopilot is not None

    def apply_rules(self, rules: Rules) -> None:
        """Put rules in force: the first ones, or those of a reload."""
        self._rules = rules

    def log_lowered_contexts(self, models: Iterable[str]) -> None:
        """Log once for which models a rule's num-ctx is above the model's own maximum."""
        for model in models:
            limits, most = self._rules.limits(model), self._server.blobs.max_context(model)
            if limits is None or limits.num_ctx is None or most is None or limits.num_ctx <= most:
                continue
            if self._lowered.get(model) != limits.num_ctx:
                self._lowered[model] = limits.num_ctx
                values = {"model": model, "num_ctx": limits.num_ctx, "becomes": most}
                logger.info("num-ctx is above the model's maximum", extra=values)

    # -- during requests -------------------------------------------------------------------------

    def change(self, route: Route, body: bytes) -> Changed | None:
        """Return the rewritten body of a request; None: it stays as it is."""
        return self._counted(lambda: change(route, body, *self._knowledge))

    def append(self, route: Route, asked: RequestFields) -> Changed | None:
        """Return the members to append to a request that asks for this; None: none."""
        return self._counted(lambda: append(route, asked, *self._knowledge))

    @property
    def _knowledge(self) -> tuple[Rules, FindRunner, FindContext]:
        return self._rules, self._resident_runner, self._server.blobs.max_context

    def _counted(self, decide: Callable[[], Changed | None]) -> Changed | None:
        try:
            changed = decide()
            if changed is not None and changed.asked.model is not None:
                # Clients may send any name: only those that the server knows have a label.
                model = self._canonical_name(normalise(changed.asked.model))
                if model is not None:
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
        if not self._context.published().is_listed:  # not polled yet, or the server is silent
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
            changed = self._server.options.on_request_end(model, asked, seen.ended)
            if changed:
                self._context.save_soon()  # a killed exporter forgets no options
        if asked.keep_alive is not None:
            self._set_by_client[model] = seen.ended
        if asked.keep_alive == 0:  # a stop: what was promised before ends with it
            self._promised.pop(model, None)
            return
        limits = self._rules.limits(model)
        wanted = None if limits is None else limits.wanted(asked)
        if wanted is not None:
            self._promise(model, wanted)
        self._start_renewals()

    def _promise(self, model: str, keep_alive: float) -> None:
        """Promise a model a keep-alive. Of several that are not kept yet, the longest counts."""
        self._metrics.init_defaults(model)
        before = self._promised.get(model, PromisedKeepAlive(keep_alive, 0))
        longest = max(before.keep_alive, keep_alive)
        self._promised[model] = PromisedKeepAlive(longest, before.requests + 1)

    def _start_renewals(self) -> None:
        """Start a task for each model with a promise, as far as the bound allows."""
        if self._closing:  # the proxy tells of its last requests later
            return
        for model in self._promised:
            if len(self._renewing) >= MAX_RENEWALS:
                return
            if model not in self._renewing and not self._in_flight.request_fields(model):
                task = asyncio.get_running_loop().create_task(self._keep_promise(model))
                self._renewing[model] = task
                task.add_done_callback(partial(self._on_renewed, model))

    def _on_renewed(self, model: str, _task: asyncio.Task[None]) -> None:
        del self._renewing[model]
        self._start_renewals()

    async def _keep_promise(self, model: str) -> None:
        """Renew until the promise is kept or its runner is gone; log what cannot be kept."""
        wait, errors, waits = PAUSE, 0, iter(RETRY_WAITS)
        while True:
            await asyncio.sleep(wait)
            promised = self._promised.get(model)
            # The end of a request in flight starts another task.
            if promised is None or self._in_flight.request_fields(model):
                return
            wait = next(waits, RETRY_WAITS[-1])
            try:
                renewal = await self._renew(model, promised.keep_alive)
            except OllamaExporterError as err:
                errors += 1
                if errors < MAX_ERRORS:
                    continue
                self._promised.pop(model, None)
                values = {"model": model, "keep_alive": render(promised.keep_alive)}
                logger.warning("Keep-alive could not be set", extra={**values, "err": str(err)})
                return
            except Exception:  # noqa: BLE001 - nothing else awaits this task
                self._promised.pop(model, None)
                self._context.reporter.error_once("Keep-alive could not be set")
                return
            if renewal.outcome is RenewalOutcome.BUSY:
                continue
            if renewal.outcome is RenewalOutcome.SET:
                self._metrics.on_renewal(model, DEFAULTS)
                values = {"model": model, "keep_alive": render(promised.keep_alive)}
                logger.info("Keep-alive set after a request", extra=values)
            if self._promised.get(model) == promised:
                del self._promised[model]
                return
            # Other requests ended meanwhile, perhaps on another runner: look again.
            waits, errors, wait = iter(RETRY_WAITS), 0, RETRY_WAITS[0]

    async def _renew(self, model: str, keep_alive: float) -> Renewal:
        """Renew by the deadline alone, unless a client has just set a keep-alive of its own.

        The server writes deadlines late: the one of that client's request may still be missing.
        """
        set_at = self._set_by_client.get(model)
        if set_at is not None and self._context.timeline.now() < set_at + DEADLINE_DELAY:
            return await self._server.renew(model, keep_alive)
        return await self._server.ensure(model, keep_alive)

    async def aclose(self) -> None:
        """Cancel the renewals under way."""
        self._closing = True
        tasks = list(self._renewing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
