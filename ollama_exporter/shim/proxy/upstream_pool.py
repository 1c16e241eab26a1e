# SPDX-License-Identifier: Apache-2.0
"""Connections to the server: one request at a time each, kept for the next one."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from ollama_exporter.shim.proxy.limits import HIGH_WATER, MOST_IDLE, Limits
from ollama_exporter.shim.proxy.socket_options import keep_watch


class Answering(Protocol):
    """Who waits for an answer on a connection."""

    def answer(self, data: bytes) -> None:
        """Take bytes of it."""

    def lost(self, exc: Exception | None) -> None:
        """Take that the connection ended; None: in order."""

    def hold(self) -> None:
        """Stop sending: the server does not take what was sent."""

    def go_on(self) -> None:
        """Send again."""


class UpstreamConnection(asyncio.Protocol):
    """One connection."""

    __slots__ = ("_pool", "answering", "closed", "fresh", "idle_since", "transport")

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self.answering: Answering | None = None
        self.closed = False
        self.fresh = True  # it has not answered yet: if it dies, it was not an old one's death
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self.transport = transport
        transport.set_write_buffer_limits(HIGH_WATER)
        keep_watch(transport)

    def data_received(self, data: bytes) -> None:
        """Hand on the answer; nobody asked for what comes on an idle connection."""
        if self.answering is not None:
            self.answering.answer(data)
        else:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self.closed = True
        answering, self.answering = self.answering, None
        if answering is not None:
            answering.lost(exc)
        else:
            self._pool.forget(self)

    def pause_writing(self) -> None:
        """Pass the back-pressure on."""
        if self.answering is not None:
            self.answering.hold()

    def resume_writing(self) -> None:
        """Pass it on that there is none any more."""
        if self.answering is not None:
            self.answering.go_on()


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


class Pool:
    """Idle connections to one server, the latest first."""

    def __init__(self, address: Address, limits: Limits, *, now: Callable[[], float]) -> None:
        self._address, self._limits, self._now = address, limits, now
        self._idle: list[UpstreamConnection] = []

    def take(self) -> UpstreamConnection | None:
        """Return an idle connection."""
        while self._idle:
            upstream = self._idle.pop()
            if not (upstream.closed or upstream.transport.is_closing()):
                return upstream
        return None

    async def connect(self) -> UpstreamConnection:
        """Open a connection. Raises OSError and TimeoutError."""
        where = self._address
        async with asyncio.timeout(self._limits.connect_time):
            _, upstream = await asyncio.get_running_loop().create_connection(
                lambda: UpstreamConnection(self),
                where.host,
                where.port,
                ssl=where.tls,
                server_hostname=where.host if where.tls else None,
            )
        return upstream

    def give_back(self, upstream: UpstreamConnection) -> None:
        """Keep a connection whose answer is complete."""
        upstream.answering, upstream.fresh = None, False
        if upstream.closed or len(self._idle) >= MOST_IDLE:
            upstream.transport.close()
            return
        upstream.idle_since = self._now()
        self._idle.append(upstream)

    def forget(self, upstream: UpstreamConnection) -> None:
        """Take that an idle connection was closed."""
        if upstream in self._idle:
            self._idle.remove(upstream)

    def sweep(self) -> None:
        """Close what has been idle for too long."""
        before = self._now() - self._limits.idle_time
        for upstream in [each for each in self._idle if each.idle_since < before]:
            upstream.transport.close()

    def close(self) -> None:
        """Close all."""
        for upstream in self._idle:
            upstream.transport.close()
        self._idle.clear()
