# SPDX-License-Identifier: Apache-2.0
"""The runners' own HTTP ports on 127.0.0.1, one for each runner process.

The simulator answers for its runners; which port belongs to which runner, their command lines say.
"""

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from ollama_exporter.simulator.open_connections import OpenConnections
from ollama_exporter.simulator.runner_answers import (
    LOADING,
    NOT_ENABLED,
    NOT_FOUND,
    metrics_answer,
    props_answer,
    slots_answer,
)
from ollama_exporter.simulator.state import Host, Runner

LARGEST_HEAD: Final = 16 << 10  # bytes of a request
IDLE: Final = 5.0  # seconds after which a real runner closes a connection
MOST_REQUESTS: Final = 100  # of one connection, likewise
REASONS: Final = {200: "OK", 404: "Not Found", 501: "Not Implemented", 503: "Service Unavailable"}
JSON: Final = "application/json; charset=utf-8"
TEXT: Final = "text/plain; version=0.0.4"


@dataclass(slots=True)
class RunnerPort:
    """The port of one runner."""

    runner: Runner
    host: Host
    socket: socket.socket
    serving: asyncio.Task[None] | None = None
    connections: OpenConnections = field(init=False)

    def __post_init__(self) -> None:
        """Have no connection yet."""
        self.connections = OpenConnections(self._connected)

    @property
    def number(self) -> int:
        """The port's number."""
        return int(self.socket.getsockname()[1])

    def start(self) -> None:
        """Begin to listen. The socket is closed however the task ends."""
        self.serving = asyncio.get_running_loop().create_task(self._serve())
        self.serving.add_done_callback(lambda _: self.socket.close())

    async def _serve(self) -> None:
        async with await asyncio.start_server(
            self.connections.accept, sock=self.socket, limit=LARGEST_HEAD
        ) as server:
            await server.serve_forever()

    def close(self) -> None:
        """Stop listening and break every connection, as the end of the process does."""
        if self.serving is not None:
            self.serving.cancel()
        self.connections.end()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(
            asyncio.CancelledError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
            OSError,
            TimeoutError,
        ):
            for left in reversed(range(MOST_REQUESTS)):
                async with asyncio.timeout(IDLE):
                    head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head, left))
                await writer.drain()
        writer.transport.abort()

    def _answer(self, head: bytes, left: int) -> bytes:
        line = head.split(b"\r\n", 1)[0].split()
        path = line[1].decode("latin-1") if len(line) > 1 and line[0] == b"GET" else ""
        status, kind, body = self._body(path)
        keep = f"Keep-Alive: timeout={IDLE:g}, max={left}\r\n" if left else "Connection: close\r\n"
        start = f"HTTP/1.1 {status} {REASONS[status]}\r\nServer: llama.cpp\r\n"
        rest = f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n{keep}\r\n"
        return f"{start}{rest}".encode() + body

    def _body(self, path: str) -> tuple[int, str, bytes]:
        runner = self.runner
        if runner.loading:
            return 503, JSON, LOADING
        if path == "/metrics" and not self.host.endpoint_metrics:
            return 501, JSON, NOT_ENABLED
        kind, body = JSON, b""
        if self.host.generation == "new":  # older runners have other routes
            match path:
                case "/slots":
                    body = slots_answer(runner.slots, with_prompts=self.host.slots_debug)
                case "/metrics":
                    kind, body = TEXT, metrics_answer(runner.slots)
                case "/props":
                    body = props_answer(runner.slots, runner.file.weights)
                case "/health":
                    body = b'{"status":"ok"}'
        return (200, kind, body) if body else (404, JSON, NOT_FOUND)


class RunnerPorts:
    """The ports of one server's runners, by the scheduler's pid."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._ports: dict[int, RunnerPort] = {}

    def follow(self, runners: Mapping[int, Runner]) -> dict[int, int]:
        """Open and close ports so that exactly these runners have one. Return their numbers."""
        for pid in self._ports.keys() - runners.keys():
            self._ports.pop(pid).close()
        for pid in runners.keys() - self._ports.keys():
            port = RunnerPort(
                runners[pid], self._host, socket.create_server(("127.0.0.1", 0), backlog=8)
            )
            port.start()
            self._ports[pid] = port
        return {pid: port.number for pid, port in self._ports.items()}

    def close(self) -> None:
        """Close all of them."""
        self.follow({})
