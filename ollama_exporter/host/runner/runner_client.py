# SPDX-License-Identifier: Apache-2.0
"""Asks runners on 127.0.0.1. Whoever answers there may send anything: answers have a bound.

A port comes from the command line of a child of the watched server. A forged one can at worst spoil
the numbers of its own model.
"""

import asyncio
from functools import partial
from http import HTTPStatus
from typing import Final, Self

from msgspec import Struct

from ollama_exporter.errors import TargetError
from ollama_exporter.host.runner.runner_command import LOOPBACK
from ollama_exporter.protocol.kept_connection import BodyBudget, KeptConnection
from ollama_exporter.version import __version__

TIMEOUT: Final = 0.3  # seconds for an answer; a real runner took 3 to 40 ms, 190 ms at worst
LARGEST: Final = 256 << 10  # bytes of an answer
SHARED_BYTES: Final = 4 << 20  # of all answers at a time
# llama-server closes an idle connection after 5 s; one that it may be closing is not used again.
IDLE_CONNECTION: Final = 4.0
HEAD: Final = (
    f"Accept: */*\r\nAccept-Encoding: identity\r\nUser-Agent: ollama_exporter/{__version__}\r\n\r\n"
)


class RunnerAnswer(Struct, frozen=True):
    """An answer in time. `body` is empty unless the status is 200."""

    status: int
    body: bytes


class RunnerClient:
    """One connection for each runner, as long as its questions are asked one after another."""

    def __init__(self, *, timeout: float = TIMEOUT) -> None:
        """`timeout`: of an answer, seconds."""
        self._timeout, self._budget = timeout, BodyBudget(SHARED_BYTES)
        # By port: a connection that is free, and when it was used last.
        self._free: dict[int, tuple[KeptConnection, float]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection, _used in self._free.values():
            connection.close()
        self._free.clear()

    async def ask(self, port: int, path: str) -> RunnerAnswer | None:
        """Return the answer; None: not in time, too long, or no HTTP."""
        head = f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\n{HEAD}".encode("ascii")
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._connection(port)
                answer = await connection.request(head, limit=LARGEST)
        except (TargetError, OSError):  # TimeoutError is an OSError
            return None
        self._keep(port, connection)
        body = answer.body if answer.status == HTTPStatus.OK else b""
        return RunnerAnswer(answer.status, body)

    async def _connection(self, port: int) -> KeptConnection:
        loop = asyncio.get_running_loop()
        connection, used = self._free.pop(port, (None, 0.0))
        if connection is not None and connection.is_open:
            if loop.time() - used < IDLE_CONNECTION:
                return connection
            connection.close()
        make = partial(KeptConnection, self._budget)
        return (await loop.create_connection(make, LOOPBACK, port))[1]

    def _keep(self, port: int, connection: KeptConnection) -> None:
        """Keep a connection for the next question, and forget those that have ended."""
        before, _ = self._free.get(port, (None, 0.0))
        if before is not None:
            before.close()
        self._free[port] = connection, asyncio.get_running_loop().time()
        for other in [x for x, (each, _) in self._free.items() if not each.is_open]:
            del self._free[other]
