# SPDX-License-Identifier: Apache-2.0
"""Connections to the server: each carries one request at a time and is kept for the next one."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Protocol, cast

from msgspec import Struct

from ollama_exporter.shim.proxy.limits import HIGH_WATER, MAX_IDLE, Limits
from ollama_exporter.shim.proxy.socket_options import set_socket_options


class ResponseReceiver(Protocol):
    """What waits for a response on a connection."""

    def on_response_data(self, data: bytes) -> None:
        """Handle bytes of the response."""

    def on_upstream_lost(self, exc: Exception | None) -> None:
        """Handle the end of the connection; None: it was closed, not reset."""

    def pause_sending(self) -> None:
        """Stop sending: the server does not read what was sent."""

    def resume_sending(self) -> None:
        """Send again."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to the server."""

    __slots__ = ("_pool", "idle_since", "is_closed", "is_new", "receiver", "transport")

    def __init__(self, pool: "UpstreamPool") -> None:
        self._pool = pool
        self.receiver: ResponseReceiver | None = None
        self.is_closed = False
        # No response has come on it yet. If it fails now, it is not a stale kept connection, and
        # the request is not sent again.
        self.is_new = True
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self.transport = transport
        transport.set_write_buffer_limits(HIGH_WATER)
        set_socket_options(transport)

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the receiver. An idle connection that sends something is closed."""
        if self.receiver is not None:
            self.receiver.on_response_data(data)
        else:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end to the receiver, or leave the pool."""
        self.is_closed = True
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.on_upstream_lost(exc)
        else:
            self._pool.remove(self)

    def pause_writing(self) -> None:
        """Pass back-pressure on."""
        if self.receiver is not None:
            self.receiver.pause_sending()

    def resume_writing(self) -> None:
        """Pass the end of back-pressure on."""
        if self.receiver is not None:
            self.receiver.resume_sending()


class Address(Struct, frozen=True):
    """Where the server listens."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str = ""  # in its certificate


class UpstreamPool:
    """Idle connections to one server. The one used last is reused first."""

    def __init__(self, address: Address, limits: Limits, *, now: Callable[[], float]) -> None:
        self._address, self._limits, self._now = address, limits, now
        self._idle: list[UpstreamConnection] = []

    @property
    def idle_count(self) -> int:
        """The number of idle connections."""
        return len(self._idle)

    def reuse(self) -> UpstreamConnection | None:
        """Return an idle connection, if there is one."""
        while self._idle:
            upstream = self._idle.pop()
            if not (upstream.is_closed or upstream.transport.is_closing()):
                return upstream
        return None

    async def connect(self) -> UpstreamConnection:
        """Open a connection. Raises OSError and TimeoutError."""
        where = self._address
        async with asyncio.timeout(self._limits.connect_timeout):
            _, upstream = await asyncio.get_running_loop().create_connection(
                lambda: UpstreamConnection(self),
                where.host,
                where.port,
                ssl=where.tls,
                server_hostname=(where.server_name or where.host) if where.tls else None,
            )
        return upstream

    def release(self, upstream: UpstreamConnection) -> None:
        """Keep a connection whose response is complete."""
        upstream.receiver, upstream.is_new = None, False
        if upstream.is_closed or len(self._idle) >= MAX_IDLE:
            upstream.transport.close()
            return
        upstream.idle_since = self._now()
        self._idle.append(upstream)

    def remove(self, upstream: UpstreamConnection) -> None:
        """Remove an idle connection that was closed."""
        if upstream in self._idle:
            self._idle.remove(upstream)

    def close_stale(self) -> None:
        """Close the connections that have been idle for longer than the idle timeout."""
        before = self._now() - self._limits.idle_timeout
        for upstream in [each for each in self._idle if each.idle_since < before]:
            upstream.transport.close()

    def close(self) -> None:
        """Close all idle connections."""
        for upstream in self._idle:
            upstream.transport.close()
        self._idle.clear()
