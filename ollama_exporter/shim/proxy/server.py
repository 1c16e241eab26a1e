# SPDX-License-Identifier: Apache-2.0
"""The proxy as a whole: listens, admits, watches the time, ends in order."""

import asyncio
import hmac
import itertools
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ollama_exporter.config.target import SCHEME_PORTS
from ollama_exporter.protocol.routes import OTHER, Route, route_of
from ollama_exporter.shim.exchange import Defer, Exchange, Sink
from ollama_exporter.shim.proxy.client_connection import ClientConnection
from ollama_exporter.shim.proxy.deferred import Deferred
from ollama_exporter.shim.proxy.headers import (
    Outward,
    RequestHead,
    RequestRejected,
    names_this_machine,
)
from ollama_exporter.shim.proxy.limits import Limits
from ollama_exporter.shim.proxy.rewriting import RewriteRules
from ollama_exporter.shim.proxy.upstream_pool import Address, Pool

WATCH: Final = 1.0  # seconds between two looks at all connections
BEARER: Final = b"bearer "
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Front:
    """How the listening side is protected, and what heads carry on."""

    tls: ssl.SSLContext | None = None
    token: Callable[[], str] | None = None  # that clients must show
    forwarded_for: bool = False
    any_host: bool = False  # also names that are none of this machine's, on loopback without token


class Proxy:
    """Relays requests to one server. `now`: the timeline of its exchanges."""

    def __init__(
        self,
        url: str,
        sink: Sink,
        *,
        now: Callable[[], float],
        limits: Limits,
        front: Front,
        tls: ssl.SSLContext | None = None,
        token: Callable[[], str] | None = None,
        amend: RewriteRules | None = None,
        defer: Defer | None = None,
    ) -> None:
        """`url`: the server's base URL; `tls` and `token`: how to speak to it.

        `amend`: sets something in requests while it is active.
        `defer`: what is done with work that would hold bytes up (default: it is deferred).
        """
        parts = urlsplit(url)
        port = parts.port or SCHEME_PORTS[parts.scheme]
        address = Address(parts.hostname or "", port, tls if parts.scheme == "https" else None)
        self.limits, self.now, self.ending = limits, now, False
        self.coarse = now()
        self._sink, self._front, self._token = sink, front, token
        self._host, self._prefix = parts.netloc.encode(), parts.path.encode()
        self.pool = Pool(address, limits, now=now)
        self._connections: set[ClientConnection] = set()
        self._numbers = itertools.count(1)
        self._servers: list[asyncio.Server] = []
        self._gone = asyncio.Event()
        self._watch: asyncio.TimerHandle | None = None
        self._full = False
        self._deferred = Deferred()
        self._later = self._deferred if defer is None else defer
        self._routes: dict[tuple[bytes, bytes], Route] = {}
        self._own_token = b""
        self._amend = amend
        self._read_tokens()

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept on sockets that are bound."""
        loop = asyncio.get_running_loop()
        tls = self._front.tls
        for listening in sockets:
            server = await loop.create_server(
                lambda: ClientConnection(self),
                sock=listening,
                ssl=tls,
                ssl_handshake_timeout=self.limits.head_time if tls else None,
            )
            self._servers.append(server)
        self._look()

    async def stop(self) -> None:
        """Accept no more, let answers end for a bounded time, then cut them."""
        self.ending = True
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.finish()
        try:
            async with asyncio.timeout(self.limits.shutdown_time):
                while self._connections:
                    self._gone.clear()
                    await self._gone.wait()
        except TimeoutError:
            logger.warning("Answers cut at the end", extra={"open": len(self._connections)})
        for connection in list(self._connections):
            connection.transport.abort()
        self.pool.close()
        if self._watch is not None:
            self._watch.cancel()
        await asyncio.sleep(0)  # the aborted connections are told of in the next round
        self._deferred.finish()

    @property
    def amend(self) -> RewriteRules | None:
        """What sets something in requests; None: nothing does."""
        return self._amend if self._amend is not None and self._amend.active else None

    # -- what connections ask for ----------------------------------------------------------------

    def opened(self, connection: ClientConnection) -> bool:
        """Take a new connection; False: there are too many."""
        full = len(self._connections) >= self.limits.connections
        if full and not self._full:
            logger.warning("Too many connections", extra={"limit": self.limits.connections})
        self._full = full
        self._connections.add(connection)
        return not full

    def closed(self, connection: ClientConnection) -> None:
        """Take that a connection is gone."""
        self._connections.discard(connection)
        self._gone.set()

    def admit(self, request: RequestHead, *, on_loopback: bool) -> None:
        """Raise Refusal for who does not show the token, or asks by a name that is not ours."""
        if self._front.token is None:
            guarded = on_loopback and not self._front.any_host
            if guarded and not names_this_machine(request.noted.get(b"host", b"")):
                raise RequestRejected(403, "a Host that is none of this machine's names")
            return
        shown = request.noted.get(b"authorization", b"")
        good = hmac.compare_digest(shown[len(BEARER) :], self._own_token)
        if not (good and shown[: len(BEARER)].lower() == BEARER):
            raise RequestRejected(401, "a bearer token is needed")

    def refused(self, request: RequestHead, status: int) -> None:
        """Record a request that was answered here."""
        self.exchange(request).on_rejected(status)

    def exchange(self, request: RequestHead) -> Exchange:
        """Begin the exchange of a request."""
        path = request.target.partition(b"?")[0]
        route = self._routes.get((request.method, path)) or self._route(request.method, path)
        return Exchange(
            self._sink,
            route,
            method=request.method,
            id=next(self._numbers),
            now=self.now,
            traceparent=request.noted.get(b"traceparent", b""),
            defer=self._later,
        )

    def _route(self, method: bytes, path: bytes) -> Route:
        route = route_of(method.decode("latin-1"), path.decode("latin-1"))
        if route is not OTHER and path.decode("latin-1") == route.label:
            self._routes[method, path] = route  # as many as the table has rows
        return route

    def _read_tokens(self) -> None:
        """Take up tokens; here, and not for each request: they are files."""
        token = self._token() if self._token is not None else ""
        self._own_token = self._front.token().encode() if self._front.token is not None else b""
        self.outward = Outward(
            host=self._host,
            prefix=self._prefix,
            authorization=f"Bearer {token}".encode() if token else None,
            own_token=self._front.token is not None,
            forwarded_for=self._front.forwarded_for,
        )

    def _look(self) -> None:
        """End what takes too long; take up a token that was changed."""
        shortest = min(self.limits.head_time, self.limits.idle_time, self.limits.silence)
        self._watch = asyncio.get_running_loop().call_later(min(WATCH, shortest / 4), self._look)
        now = self.coarse = self.now()
        for connection in list(self._connections):
            connection.watch(now)
        self.pool.sweep()
        self._read_tokens()
