# SPDX-License-Identifier: Apache-2.0
"""A simulated Ollama without sockets, and an exporter of it, on the virtual clock."""

import asyncio
import itertools
import json
import logging
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from prometheus_client import generate_latest

from ollama_exporter.clock import Timeline
from ollama_exporter.config.schema import Settings
from ollama_exporter.errors import FailureReason, RequestError, TargetError
from ollama_exporter.metrics.collectors.exporter_collector import LogCounter
from ollama_exporter.protocol.client import PsAnswer
from ollama_exporter.protocol.routes import route_of
from ollama_exporter.protocol.wire import InstalledModel, ModelDetails, RunningModel
from ollama_exporter.residency.events import Event, View
from ollama_exporter.runtime import Exporter, Onlookers
from ollama_exporter.server_parts import Clients, PollClient
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.simulator.calls import ApiError, Call, body_of, keep_alive_of, plan, resolve
from ollama_exporter.simulator.engine import Engine, RefusedError, RunnerDiedError, Ticket
from ollama_exporter.simulator.gojson import GoObject
from ollama_exporter.simulator.library import Library
from ollama_exporter.simulator.model_files import GIB, ModelFiles, default_catalogue
from ollama_exporter.simulator.state import (
    NEVER,
    Host,
    Load,
    QueuedRequest,
    Runner,
    TrueReason,
    Unload,
)
from ollama_exporter.state_file import StateFile
from tests.support.exporting import Records, Samples, parsed, same_logger
from tests.support.virtual import now as virtual_now

START: Final = 1_800_000_000.0  # Unix seconds at which the virtual clock starts
HOST: Final = Host(memory=24 * GIB, recovery=0.1, convergence=0.05, parallel=4)
HEADER: Final = "x-ollama-exporter-set"
# What each poll and each turn of an exporter needs; see `tests/support/exporting.py`.
SETTINGS: Final = Settings(
    poll_interval=2.0,
    proxy_addresses=("virtual:0",),
    collector_processes="off",
    disable_exporter_metrics=True,
)


def clock() -> float:
    """Return the virtual time in Unix seconds."""
    return START + virtual_now()


class VirtualOllama:
    """The simulator's scheduler and library, called directly."""

    def __init__(self, host: Host = HOST, catalogue: ModelFiles | None = None) -> None:
        self.engine = Engine(host, clock)
        self.library = Library(catalogue or default_catalogue(), clock())
        self.up = True
        self.failure: Exception | None = None  # of the exporter's own loads and renewals
        self._tickets: set[Ticket] = set()  # requests under way

    # -- the exporter's clients ------------------------------------------------------------------

    async def ps(self) -> PsAnswer:
        """Return the listing."""
        self._check()
        models = tuple(
            RunningModel(
                each.name,
                each.digest,
                math.inf if each.expires_at - clock() >= NEVER / 2 else each.expires_at,
                each.size,
                each.size_vram,
                min(each.context, each.file.train_context),
            )
            for each in self.engine.listed()
        )
        date = float(math.floor(clock()))
        return PsAnswer(models, 200, date, None, new_connection=False, body=b"")

    async def version(self) -> str:
        """Return a version."""
        self._check()
        return "0.33.0"

    async def tags(self) -> tuple[InstalledModel, ...]:
        """Return the installed models."""
        self._check()
        return tuple(
            InstalledModel(name, item.digest, item.file.size, bool(item.remote_host))
            for name, item, _ in self.library.entries()
        )

    async def show(self, name: str) -> str | None:
        """Return the weights of a name."""
        self._check()
        found = self.library.find(name)
        if found is None:
            raise TargetError(FailureReason.STATUS, "HTTP status 404")
        return found[1].file.weights or None

    async def details(self, name: str) -> ModelDetails:
        """Return the details of a name."""
        weights = await self.show(name)
        file = self.library.find(name)[1].file  # type: ignore[index]  # show has found it
        return ModelDetails(weights, file.train_context, frozenset(file.capabilities))

    async def preload(
        self,
        model: str,
        *,
        patience: float,
        keep_alive: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Serve an empty request."""
        if self.failure is not None:
            raise self.failure.with_traceback(None)
        try:
            async with asyncio.timeout(patience):
                await self._serve(model, keep_alive, dict(options or {}), 0.0)
        except TimeoutError as err:
            raise TargetError(FailureReason.TIMEOUT, f"no answer in {patience:g} s") from err
        except ApiError as err:
            raise RequestError(err.status, err.text) from err

    async def aclose(self) -> None:
        """Close nothing."""

    # -- clients that go past the exporter -------------------------------------------------------

    async def ask(self, model: str = "mistral", **body: Any) -> dict[str, Any]:
        """Serve a native request. Raises ApiError."""
        self._check()
        options, keep_alive = body.get("options") or {}, keep_alive_of(body.get("keep_alive"))
        empty = not body.get("prompt", "[[n=1]]")
        name, manifest = resolve(self.library, model)
        if empty and keep_alive == 0:
            self.engine.stop(manifest.file.weights)
            return {"model": model, "done": True, "done_reason": "unload"}
        work = plan(manifest.file, body.get("prompt", "[[n=1]]"), None)
        seconds = 0.0 if empty else work.first + work.tokens / work.rate
        load = await self._serve(name, keep_alive, options, seconds)
        done = "load" if empty else "stop"
        return {
            "model": model,
            "response": "x",
            "done": True,
            "done_reason": done,
            "load_duration": int(load * 1e9),
        }

    async def stop(self, model: str = "mistral") -> None:
        """Stop a model, as `ollama stop` does."""
        await self.ask(model, prompt="", keep_alive=0)

    async def _serve(
        self, model: str, keep_alive: float | None, options: dict[str, Any], seconds: float
    ) -> float:
        self._check()
        name, manifest = resolve(self.library, model)
        limit = None if keep_alive is None else min(keep_alive, NEVER)
        call = Call(model, name, manifest, options, limit)
        arrived = clock()
        engine = self.engine
        request = call.request(engine.host, engine.next_id())
        self.on_arrival(request)
        async with engine.serve(request) as ticket:
            self._tickets.add(ticket)
            try:
                await ticket.granted()
                granted = clock()
                self.on_grant(request)
                slots = await ticket.started()
                if seconds:  # an empty request does not reach the runner
                    with slots.working("", 1):
                        await ticket.work(seconds)
            except (RefusedError, RunnerDiedError) as err:
                if ticket not in self._tickets:
                    raise TargetError(FailureReason.RESET, "the server has ended") from err
                status = err.status if isinstance(err, RefusedError) else 500
                raise ApiError(status, err.text) from err
            finally:
                self._tickets.discard(ticket)
        return granted - arrived

    def on_arrival(self, request: QueuedRequest) -> None:
        """Hear of a request before the scheduler does."""

    def on_grant(self, request: QueuedRequest) -> None:
        """Hear that a request has its runner."""

    def on_events(self, events: tuple[Event, ...]) -> None:
        """Hear what the exporter has seen."""

    def poll_client(self) -> PollClient:
        """Return the client that polls."""
        return self

    def _check(self) -> None:
        if not self.up:
            raise TargetError(FailureReason.REFUSED, "connection refused")

    # -- the operator ----------------------------------------------------------------------------

    async def restart(self, down: float = 1.0) -> None:
        """End the server, and start it again after `down` seconds."""
        self.engine.shut_down("SIGTERM")
        self.up = False
        tickets, self._tickets = self._tickets, set()
        for ticket in tickets:
            ticket.refuse(500, "")
            ticket.fail("")
        await asyncio.sleep(down)
        self.engine.start_again()
        self.up = True

    def crash(self, model: str = "mistral") -> bool:
        """Kill a model's runner."""
        return self.engine.crash(self._weights(model))

    def slow_down(self, model: str, load_seconds: float) -> None:
        """Let loads of a model take so long."""
        found = self.library.find(model)
        assert found is not None, model
        name, item = found
        slow = replace(item, file=replace(item.file, load_seconds=load_seconds))
        self.library.copy(slow, name, clock())

    # -- what is true ----------------------------------------------------------------------------

    def runner(self, model: str = "mistral") -> Runner | None:
        """Return a model's runner."""
        weights = self._weights(model)
        return next((r for r in self.engine.runners if r.file.weights == weights), None)

    def keep_alive(self, model: str = "mistral") -> float | None:
        """Return the keep-alive of a resident model, in seconds, inf for ever."""
        runner = self.runner(model)
        if runner is None:
            return None
        return math.inf if runner.session >= NEVER / 2 else runner.session

    def left(self, model: str = "mistral") -> float | None:
        """Return the seconds until a resident model's deadline."""
        runner = self.runner(model)
        return None if runner is None or runner.expires_at is None else runner.expires_at - clock()

    def loads(self, model: str = "") -> list[Load]:
        """Return all loads, of one model if it is given."""
        found = [each for each in self.engine.truth if isinstance(each, Load)]
        if not model:
            return found
        weights = self._weights(model)
        return [load for load in found if load.weights == weights]

    def unloads(self) -> list[Unload]:
        """Return all unloads."""
        return [x for x in self.engine.truth if isinstance(x, Unload)]

    def reasons(self) -> list[TrueReason]:
        """Return why models left."""
        return [unload.reason for unload in self.unloads()]

    def _weights(self, model: str) -> str:
        found = self.library.find(model)
        assert found is not None, model
        return found[1].file.weights


class VirtualExporter:
    """An exporter of a virtual server, with a proxy that has no sockets."""

    def __init__(self, ollama: VirtualOllama, settings: Settings, log: Records) -> None:
        self.ollama, self.log = ollama, log
        self.events: list[Event] = []
        timeline = Timeline(wall=clock, monotonic=virtual_now)
        self.settings = settings
        self.exporter = Exporter(
            settings,
            Onlookers(events=self._on_events),
            log_lines=LogCounter(),
            reread=lambda: self.settings,
            clients=Clients(ollama.poll_client(), ollama),
            timeline=timeline,
        )
        self._timeline = timeline
        self._ids = itertools.count(1)
        self.sent: GoObject | None = None  # the last request, as the server received it
        self.changes: tuple[str, ...] = ()  # that the rules made in it

    def _on_events(self, events: tuple[Event, ...], _view: View) -> None:
        self.events.extend(events)
        self.ollama.on_events(events)

    async def ask(
        self,
        model: str = "mistral",
        *,
        path: str = "/api/generate",
        raw: bytes | None = None,
        **body: Any,
    ) -> str:
        """Send a request through the proxy; return what its response header promises.

        `raw`: the whole body, as the client wrote it.
        """
        recorder, rules = self.exporter.recorder, self.exporter.actor.defaults
        assert recorder is not None
        whole = {"model": model, "prompt": "hi [[n=1]]", "stream": False, **body}
        raw, route = raw or json.dumps(whole).encode(), route_of("POST", path)
        exchange = Exchange(
            recorder, route, method=b"POST", id=next(self._ids), now=self._timeline.now
        )
        exchange.on_request_body(raw)
        self.changes = ()
        header = ""
        if rules.is_active and route.native:
            changed = rules.change(route, raw)
            if changed is not None:
                self.changes = changed.changes
                raw, header = changed.body, changed.said
                exchange.rewritten_fields = changed.asked
        exchange.on_request_complete()
        self.sent = sent = body_of(raw)
        if not route.native:  # the compatible routes cannot carry these
            self.sent = sent = GoObject({"prompt": sent.get("prompt"), "model": model}.items())
        try:
            answer = await self.ollama.ask(**sent)
        except (ApiError, TargetError) as err:
            status = err.status if isinstance(err, ApiError) else 502
            exchange.on_response_head(status, b"application/json", b"")
            exchange.on_response_complete()
            raise
        except asyncio.CancelledError:
            exchange.on_client_gone()
            raise
        exchange.on_response_head(200, b"application/json", b"")
        promised = rules.afterwards(exchange) if rules.is_active else ""
        exchange.on_response_body(json.dumps(answer).encode())
        exchange.on_response_complete()
        return ", ".join(part for part in (header, promised) if part)

    def reload(self, settings: Settings) -> None:
        """Reload the configuration."""
        self.settings = settings
        logger = logging.getLogger("ollama_exporter")
        handlers = logger.handlers
        self.exporter.reload()  # sets the logging up anew
        logger.handlers = handlers

    def samples(self) -> Samples:
        """Scrape."""
        return parsed(generate_latest(self.exporter.parts().registry).decode())

    def warnings(self) -> list[str]:
        """Return what was logged as a warning or worse."""
        return [r.getMessage() for r in self.log.records if r.levelno >= logging.WARNING]


@asynccontextmanager
async def virtual_exporter(
    ollama: VirtualOllama, *, state_file: StateFile | None = None, **changes: Any
) -> AsyncIterator[VirtualExporter]:
    """Run an exporter. `changes`: of the settings."""
    log = Records()
    with same_logger() as logger:
        logger.setLevel(logging.INFO)
        logger.addHandler(log)
        settings = replace(SETTINGS, **changes)
        it = VirtualExporter(ollama, settings, log)
        if state_file is not None:
            it.exporter.take_up(state_file)
        async with it.exporter.polling(state_file), it.exporter.actor.running():
            yield it
