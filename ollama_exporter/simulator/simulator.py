# SPDX-License-Identifier: Apache-2.0
"""The simulated server: it listens, routes requests, and restarts on demand."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from functools import partial
from types import TracebackType
from typing import Final, Self

from ollama_exporter.simulator import (
    anthropic,
    control,
    cors,
    host_check,
    http,
    listing,
    native,
    openai,
    responses,
)
from ollama_exporter.simulator.calls import ApiError, resolve
from ollama_exporter.simulator.context import SimulatorContext
from ollama_exporter.simulator.engine import Clock, Engine
from ollama_exporter.simulator.fake_process import Reading
from ollama_exporter.simulator.faults import AnswerFault, Faults
from ollama_exporter.simulator.library import Library
from ollama_exporter.simulator.model_files import ModelFiles, default_catalogue
from ollama_exporter.simulator.open_connections import OpenConnections, close_listener
from ollama_exporter.simulator.process_manager import ProcessManager, runner_command
from ollama_exporter.simulator.run_script import OnStep, play
from ollama_exporter.simulator.runner_ports import RunnerPorts
from ollama_exporter.simulator.script import Crash, Fault, OutOfMemory, Restart, Script
from ollama_exporter.simulator.state import Host, Runner, Signal, Truth

Route = Callable[[SimulatorContext, http.HttpExchange], Awaitable[None]]

ROUTES: Final[dict[str, dict[str, Route]]] = {
    "/": {"GET": listing.root, "HEAD": listing.root},
    "/api/version": {"GET": listing.version, "HEAD": listing.version},
    "/api/tags": {"GET": listing.tags, "HEAD": listing.tags},
    "/api/ps": {"GET": listing.ps},
    "/api/status": {"GET": listing.status},
    "/api/show": {"POST": listing.show},
    "/api/copy": {"POST": listing.copy},
    "/api/delete": {"DELETE": listing.delete},
    "/api/create": {"POST": listing.create},
    "/api/pull": {"POST": listing.pull},
    "/api/generate": {"POST": native.generate},
    "/api/chat": {"POST": native.chat},
    "/api/embed": {"POST": native.embed},
    "/api/embeddings": {"POST": native.embeddings},
    "/v1/chat/completions": {"POST": openai.chat},
    "/v1/completions": {"POST": openai.completions},
    "/v1/embeddings": {"POST": openai.embeddings},
    "/v1/models": {"GET": openai.models},
    "/v1/responses": {"POST": responses.create},
    "/v1/messages": {"POST": anthropic.messages},
}
_MODEL_PREFIX: Final = "/v1/models/"


@dataclass(frozen=True, slots=True)
class Config:
    """What to simulate, and where to listen."""

    host: Host = field(default_factory=Host)
    catalogue: ModelFiles = field(default_factory=default_catalogue)
    address: str = "127.0.0.1"
    port: int = 0  # 0: any free port
    version: str | None = None  # None: a version of the generation
    zone: tzinfo = UTC
    silent: float = 0.0  # seconds after each start in which it accepts and does not answer
    control: bool = False  # whether `/_simulator/…` is served
    processes: bool = False  # whether the server and its runners are real processes; Linux only
    reads_weights: bool = False  # whether their processes read as many bytes as a load does
    seed: int = 0
    clock: Clock | None = None  # Unix seconds; None: real time

    @property
    def shown_version(self) -> str:
        """The version in `/api/version`."""
        if self.version is not None:
            return self.version
        return "0.24.0" if self.host.generation == "old" else "0.33.0"


def real_clock() -> Clock:
    """Return a clock that starts at Unix time and never steps."""
    start = time.time() - time.monotonic()
    return lambda: start + time.monotonic()


class Simulator:
    """A simulated Ollama on a real socket: `async with Simulator(config) as sim: sim.url`."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self._clock = self.config.clock or real_clock()
        self._server: SimulatorContext | None = None
        self._listener: asyncio.Server | None = None
        self._port = self.config.port
        self._connections = OpenConnections(self._connected)
        self._ready = asyncio.Event()
        self._restarting: asyncio.Future[None] | None = None
        self._processes: ProcessManager | None = None
        self._ports: RunnerPorts | None = None

    async def __aenter__(self) -> Self:
        """Listen. Raises OSError."""
        await self._listen()
        now = self._clock()
        self._server = SimulatorContext(
            engine=Engine(self.config.host, self._clock),
            library=Library(self.config.catalogue, now),
            clock=self._clock,
            version=self.config.shown_version,
            random=random.Random(self.config.seed),  # noqa: S311 - ids of answers, not secrets
            zone=self.config.zone,
        )
        try:
            await self._start_processes()
        except BaseException:
            await self._go_down()
            raise
        await self._end_silence(self.config.silent)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Abort every connection and stop listening."""
        if self._restarting is not None:
            self._restarting.cancel()
        await self._stop_processes("SIGTERM")
        await self._go_down()
        self.server.engine.close()

    @property
    def server(self) -> SimulatorContext:
        """What the routes share."""
        if self._server is None:
            raise RuntimeError("the simulator is used outside its `async with`")
        return self._server

    @property
    def url(self) -> str:
        """The base URL."""
        host = f"[{self.config.address}]" if ":" in self.config.address else self.config.address
        return f"http://{host}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The pid of the server's own process; None: it has none."""
        return None if self._processes is None else self._processes.pid

    @property
    def faults(self) -> Faults:
        """The faults in force."""
        return self.server.faults

    @property
    def truth(self) -> list[Truth]:
        """What really happened, oldest first: loads, unloads with reasons, starts and stops."""
        return self.server.engine.truth

    async def play(self, script: Script, *, on_step: OnStep | None = None) -> None:
        """Play a workload against this server, and return when its duration is over."""
        await play(script, self.url, apply=self.apply, on_step=on_step)

    async def apply(self, fault: Fault) -> None:
        """Apply a fault of a script. Raises ApiError if the model is not installed."""
        match fault:
            case Crash(model=model):
                self.server.engine.crash(resolve(self.server.library, model)[1].file.weights)
            case OutOfMemory(model=model):
                self.faults.fail_next_answer(model, AnswerFault(out_of_memory=True))
            case Restart(signal=signal, down=down, silent=silent):
                await self.restart(signal=signal, down=down, silent=silent)

    async def restart(
        self, *, signal: Signal = "SIGTERM", down: float = 0.0, silent: float = 0.0
    ) -> None:
        """Stop at once, start after `down` seconds, and be silent for `silent` seconds."""
        self.server.engine.shut_down(signal)
        self._ready.clear()
        await self._stop_processes(signal)
        await self._go_down()
        if down > 0:
            await asyncio.sleep(down)
        self.server.engine.start_again()
        await self._listen()
        await self._start_processes()
        await self._end_silence(silent)

    async def _listen(self) -> None:
        self._connections.begin()
        self._listener = await asyncio.start_server(
            self._connections.accept, self.config.address, self._port, reuse_address=True
        )
        self._port = self._listener.sockets[0].getsockname()[1]

    async def _start_processes(self) -> None:
        """Start the processes, if enabled."""
        if self.config.processes and self._listener is not None:
            listener = self._listener.sockets[0].fileno()
            self._processes = await ProcessManager.start(listener, self.server.engine.process_died)
            self._ports = RunnerPorts(self.config.host)
            self.server.engine.on_runners = partial(
                self._follow_runners, self._processes, self._ports
            )

    def _follow_runners(
        self, processes: ProcessManager, ports: RunnerPorts, runners: Mapping[int, Runner]
    ) -> None:
        """Give each runner a process and a port, and take both from those that ended."""
        generation = self.config.host.generation
        numbers = ports.follow(runners)
        processes.set_runners(
            {
                pid: runner_command(
                    generation,
                    runner.file.weights,
                    numbers[pid],
                    slots=runner.parallel,
                    context=runner.options.num_ctx,
                )
                for pid, runner in runners.items()
            },
            {
                pid: Reading(runner.file.size, runner.file.load_seconds)
                for pid, runner in runners.items()
                if self.config.reads_weights
            },
        )

    async def _stop_processes(self, signal: Signal) -> None:
        self.server.engine.on_runners = None
        if self._processes is not None:
            await self._processes.stop(signal)
            self._processes = None
        if self._ports is not None:
            self._ports.close()
            self._ports = None

    async def _end_silence(self, silent: float) -> None:
        if silent > 0:
            asyncio.get_running_loop().call_later(silent, self._ready.set)
        else:
            self._ready.set()

    async def _go_down(self) -> None:
        if self._listener is not None:
            await close_listener(self._listener)
            self._listener = None
        if ended := self._connections.end():
            await asyncio.wait(ended)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clock = self.server.server_clock if self._server else self._clock
        with suppress(asyncio.CancelledError):  # the server stops: its connections break
            await http.HttpConnection(reader, writer, self._handle, clock).run()

    async def _handle(self, exchange: http.HttpExchange) -> None:
        await self._ready.wait()
        request = exchange.request
        known = host_check.is_accepted(self.config.address, request.host)
        if not (known and cors.is_allowed(request.origin, host=request.host)):
            await exchange.respond(403, b"", None)
            return
        methods = self._methods(request.path)
        if methods is None:
            await exchange.respond(404, b"404 page not found", http.TEXT)
        elif request.method not in methods:
            allow = ", ".join(methods)
            await exchange.respond(405, b"405 method not allowed", http.TEXT, allow=allow)
        else:
            try:
                await methods[request.method](self.server, exchange)
            except ApiError as err:
                await _fail(exchange, err)

    def _methods(self, path: str) -> dict[str, Route] | None:
        if self.config.control and path == control.FAULT:
            return {"POST": self._fault}
        if self.config.control and path == control.TRUTH:
            return {"GET": control.truth}
        if path.startswith(_MODEL_PREFIX):
            return {"GET": openai.model}
        return ROUTES.get(path)

    async def _fault(self, server: SimulatorContext, exchange: http.HttpExchange) -> None:
        await control.fault(server, exchange, self._restart_soon)

    def _restart_soon(self, *, signal: Signal, down: float, silent: float) -> None:
        """Restart in a task of its own, because the current one is cancelled by it."""
        self._restarting = asyncio.ensure_future(
            self.restart(signal=signal, down=down, silent=silent)
        )


async def _fail(exchange: http.HttpExchange, err: ApiError) -> None:
    """Write an error in the format of the route."""
    path = exchange.request.path
    if path == "/v1/messages":
        await exchange.respond(err.status, anthropic.error_body(err), http.JSON)
    elif path.startswith("/v1/"):
        await exchange.respond(err.status, openai.error_body(err), http.JSON)
    else:
        await exchange.respond(err.status, native.error_body(err))
