# SPDX-License-Identifier: Apache-2.0
"""The proxy as a whole: listens, checks access, enforces timeouts and shuts down in order."""

import asyncio
import hmac
import itertools
import logging
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from ollama_exporter.config.target import SCHEME_PORTS
from ollama_exporter.metrics.labels import OTHER as OTHER_CLIENT
from ollama_exporter.protocol.routes import OTHER, Route, route_of
from ollama_exporter.protocol.server_credentials import AUTHORIZATION, Field
from ollama_exporter.shim.exchange import Defer, Exchange, Sink
from ollama_exporter.shim.proxy.client_connection import ClientConnection
from ollama_exporter.shim.proxy.client_names import Identify
from ollama_exporter.shim.proxy.client_tokens import ClientTokens
from ollama_exporter.shim.proxy.deferred import Deferred
from ollama_exporter.shim.proxy.headers import (
    WHY_REFUSED,
    OutgoingFields,
    RequestHead,
    RequestRejected,
    has_passed,
    is_this_machine,
    own_response,
)
from ollama_exporter.shim.proxy.interfaces import Connection, PortAdmission, PortLocks, RewriteRules
from ollama_exporter.shim.proxy.limits import HeldBytes, Limits
from ollama_exporter.shim.proxy.response_parser import MOST_KNOWN, KnownHeads
from ollama_exporter.shim.proxy.upstream_pool import Address, UpstreamPool
from ollama_exporter.watched_file import WatchedFile, listening_context

CHECK_INTERVAL: Final = 1.0  # seconds between two checks of all timeouts
BEARER: Final = b"bearer "
OK: Final = 200
LOOP: Final = "the request came back to this proxy: its ollama.url is not the address of Ollama"
logger = logging.getLogger(__name__)


class Frontend(Struct, frozen=True):
    """How the proxy's listening side is protected."""

    certificate: WatchedFile[ssl.SSLContext] | None = None
    token: WatchedFile[str] | None = None  # that clients must send
    client_tokens: WatchedFile[ClientTokens] | None = None  # likewise, one for each client
    identify: Identify | None = None  # names clients that have no token of their own
    locks: PortLocks | None = None  # of a web configuration file
    forwarded_for: bool = False
    any_host: bool = False  # accept foreign Host fields, on loopback without a token


class Backend(Struct, frozen=True, kw_only=True):
    """How the server lets us in. The proxy adds the header fields to each request."""

    tls: ssl.SSLContext | None = None
    server_name: str | None = None  # in its certificate; None: the URL's host
    static_fields: Sequence[Field] = ()
    fields: Sequence[WatchedFile[Field]] = ()  # whose values are in files


class Proxy:
    """Forwards requests to one server. `now` is the timeline of its exchanges."""

    def __init__(
        self,
        url: str,
        sink: Sink,
        *,
        now: Callable[[], float],
        limits: Limits,
        frontend: Frontend,
        backend: Backend | None = None,
        rules: RewriteRules | None = None,
        asks_usage: bool = False,
        name: bytes = b"",
        defer: Defer | None = None,
    ) -> None:
        """`url`: the server's base URL.

        `rules`: what they set in requests, while they are active.
        `asks_usage`: streams of OpenAI's API are asked for their usage, which clients do not get.
        `name`: no other proxy's; requests carry it, so that one that comes back is recognised.
        `defer` runs work that would hold bytes up (default: a moment later).
        """
        parts = urlsplit(url)
        port = parts.port or SCHEME_PORTS[parts.scheme]
        host = parts.hostname or ""
        self._backend = backend = backend or Backend()
        tls = backend.tls if parts.scheme == "https" else None
        address = Address(host, port, tls, backend.server_name or host)
        self.limits, self.now = limits, now
        self.held, self.known_heads = HeldBytes(), KnownHeads(MOST_KNOWN)
        self.coarse_now = now()
        self.is_shutting_down = False
        shortest = min(limits.head_timeout, limits.idle_timeout, limits.silence_timeout)
        self._interval = min(CHECK_INTERVAL, shortest / 4)
        self.pool = UpstreamPool(address, limits, now=now)
        self._sink, self._frontend, self._rules = sink, frontend, rules
        self._url, self._name, self.asks_usage = url, name, asks_usage
        self._host, self._prefix = parts.netloc.encode(), parts.path.encode()
        self._connections: set[Connection] = set()
        self._ids = itertools.count(1)
        self._servers: list[asyncio.Server] = []
        self._connection_closed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._is_full = False
        self._has_logged_loop = False
        self._deferred = Deferred()
        self._defer = self._deferred if defer is None else defer
        self._routes: dict[tuple[bytes, bytes], Route] = {}
        self._has_own_token = any(
            field[0] == AUTHORIZATION for each in self._backend.fields if (field := each.current())
        )
        self._admission = None if frontend.locks is None else frontend.locks.admission
        self._logins: set[asyncio.Task[int]] = set()
        self.added_fields: tuple[tuple[bytes, bytes], ...] = ()
        self._client_token, self._client_tokens = b"", ClientTokens()
        self._use_tokens()

    @property
    def connection_count(self) -> int:
        """The number of open client connections."""
        return len(self._connections)

    @property
    def rewrite_rules(self) -> RewriteRules | None:
        """The rules for requests, if there are any."""
        return self._rules if self._rules is not None and self._rules.is_active else None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept connections on bound sockets."""
        loop = asyncio.get_running_loop()
        certificate, locks = self._frontend.certificate, self._frontend.locks
        tls = None if certificate is None else listening_context(certificate)
        if locks is not None:
            tls = tls or locks.context()
        for listening in sockets:
            server = await loop.create_server(
                lambda: ClientConnection(self),
                sock=listening,
                ssl=tls,
                ssl_handshake_timeout=self.limits.head_timeout if tls else None,
            )
            self._servers.append(server)
        self._check()
        self._refreshing = loop.create_task(self._refresh_files())

    async def stop(self) -> None:
        """Stop accepting, wait a bounded time for open responses, then abort them."""
        self.is_shutting_down = True
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.shut_down()
        try:
            async with asyncio.timeout(self.limits.shutdown_timeout):
                while self._connections:
                    self._connection_closed.clear()
                    await self._connection_closed.wait()
        except TimeoutError:
            values = {"open": len(self._connections)}
            logger.warning("Aborted unfinished responses at shutdown", extra=values)
        for connection in list(self._connections):
            connection.transport.abort()
        self.pool.close()
        if self._timer is not None:
            self._timer.cancel()
        if self._refreshing is not None:
            self._refreshing.cancel()
        for login in list(self._logins):
            login.cancel()
        await asyncio.sleep(0)  # connection_lost of aborted connections runs in the next turn
        self.catch_up()

    def catch_up(self) -> None:
        """Record at once what waits for its turn."""
        self._deferred.finish()

    # -- for connections -------------------------------------------------------------------------

    def on_connection_open(self, connection: Connection) -> bool:
        """Count a new connection. Return False if there are too many."""
        limit, count = self.limits.max_connections, len(self._connections)
        is_full = count >= limit
        if is_full and not self._is_full:
            logger.warning("Too many proxy connections, answering 503", extra={"limit": limit})
        if is_full or count < limit // 2:  # not a line for each time that it is full again
            self._is_full = is_full
        self._connections.add(connection)
        return not is_full

    def on_connection_close(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        self._connection_closed.set()

    def check_access(
        self, request: RequestHead, *, peer: bytes, on_loopback: bool
    ) -> asyncio.Task[int] | None:
        """Reject a request in a loop, without a credential, or with a foreign Host.

        Notes the client's name. Returns a task if a password has to be checked. Raises
        RequestRejected.
        """
        if self._name and has_passed(request, self._name):
            if not self._has_logged_loop:
                self._has_logged_loop = True
                values = {"ollama_url": self._url}
                logger.error(
                    "Requests come back to the proxy: ollama.url leads to it", extra=values
                )
            raise RequestRejected(508, LOOP)
        login = self._check_client(request, on_loopback=on_loopback)
        if self._frontend.identify is not None:
            request.client = self._frontend.identify(request, peer)
        return login

    def _check_client(self, request: RequestHead, *, on_loopback: bool) -> asyncio.Task[int] | None:
        """Check the rate, then a token or a password: either opens where both are asked for."""
        frontend, admission = self._frontend, self._admission
        if admission is not None and (status := admission.refusal()) is not None:
            raise RequestRejected(status, WHY_REFUSED[status])
        has_tokens = frontend.token is not None or frontend.client_tokens is not None
        if has_tokens and self._has_token(request):
            return None
        if admission is not None and admission.has_users:
            return self._check_login(request, admission)
        if has_tokens:
            raise RequestRejected(401, "a valid bearer token is required")
        is_guarded = on_loopback and not frontend.any_host
        if is_guarded and not is_this_machine(request.noted.get(b"host", b"")):
            raise RequestRejected(403, "the Host field does not name this machine")
        return None

    def _check_login(
        self, request: RequestHead, admission: PortAdmission
    ) -> asyncio.Task[int] | None:
        sent = request.noted.get(b"authorization", b"")
        status = admission.remembered(sent)
        if status is None:
            login = asyncio.get_running_loop().create_task(admission.login(sent))
            self._logins.add(login)
            login.add_done_callback(self._logins.discard)
            return login
        if status != OK:
            raise RequestRejected(status, WHY_REFUSED[status])
        return None

    def _has_token(self, request: RequestHead) -> bool:
        """Return whether a request has a valid token. Note whose it is."""
        frontend = self._frontend
        sent = request.noted.get(b"authorization", b"")
        token, given = self._client_token, sent[len(BEARER) :]
        is_equal = bool(token) and hmac.compare_digest(given, token)
        if frontend.client_tokens is not None:
            name = self._client_tokens.name_of(given)
            request.client = name or OTHER_CLIENT  # one with the token of all
            is_equal = is_equal or name is not None
        if is_equal and sent[: len(BEARER)].lower() == BEARER:
            return True
        request.client = None
        return False

    def on_reject(self, request: RequestHead, status: int) -> None:
        """Record a request that the proxy answers itself."""
        self.start_exchange(request).on_rejected(status)

    def start_exchange(self, request: RequestHead) -> Exchange:
        """Start recording a request."""
        path = request.target.partition(b"?")[0]
        route = self._routes.get((request.method, path)) or self._route(request.method, path)
        exchange = Exchange(
            self._sink,
            route,
            method=request.method,
            id=next(self._ids),
            now=self.now,
            traceparent=request.noted.get(b"traceparent", b""),
            defer=self._defer,
        )
        if request.client is not None:
            exchange.client = request.client
        return exchange

    def _route(self, method: bytes, path: bytes) -> Route:
        route = route_of(method.decode("latin-1"), path.decode("latin-1"))
        if route is not OTHER and path.decode("latin-1") == route.label:
            self._routes[method, path] = route  # no more of them than the table has rows
        return route

    async def _refresh_files(self) -> None:
        """Read tokens and certificate again and again."""
        frontend = self._frontend
        files: list[WatchedFile[Any]] = list(self._backend.fields)
        files += [
            each for each in (frontend.certificate, frontend.token, frontend.client_tokens) if each
        ]
        while files:
            await asyncio.sleep(self._interval)
            await asyncio.gather(*(each.refresh() for each in files))

    def _use_tokens(self) -> None:
        """Use the tokens that were read last. A client token that is not valid lets nobody in."""
        backend = self._backend
        read = [field for each in backend.fields if (field := each.current()) is not None]
        own_token = self._frontend.token
        client_token = own_token.current() if own_token is not None else None
        self._client_token = (client_token or "").encode()
        clients = self._frontend.client_tokens
        headers = () if self._admission is None else self._admission.headers
        self.added_fields = tuple((x.lower().encode(), y.encode()) for x, y in headers)
        self._client_tokens = (None if clients is None else clients.current()) or ClientTokens()
        self.outgoing = OutgoingFields(
            host=self._host,
            prefix=self._prefix,
            fields=tuple(
                (name.encode(), value.encode()) for name, value in (*backend.static_fields, *read)
            ),
            drops_token=self._keeps_authorization or self._has_own_token,
            forwarded_for=self._frontend.forwarded_for,
            name=self._name,
        )

    @property
    def _keeps_authorization(self) -> bool:
        """Whether the field is for the proxy, and so not for the server."""
        frontend, admission = self._frontend, self._admission
        has_tokens = frontend.token is not None or frontend.client_tokens is not None
        return has_tokens or (admission is not None and admission.has_users)

    def is_peer_allowed(self, certificate: Mapping[str, object] | None) -> bool:
        """Return whether a client with this certificate may connect; None: it shows none."""
        locks = self._frontend.locks
        return locks is None or locks.is_peer_allowed(certificate)

    def own_response(self, rejection: RequestRejected, *, method: bytes) -> bytes:
        """Return the response to a request that the proxy answers itself."""
        frontend, fields = self._frontend, list(self.added_fields)
        if rejection.status == HTTPStatus.UNAUTHORIZED:
            if frontend.token is not None or frontend.client_tokens is not None:
                fields.append((b"WWW-Authenticate", b"Bearer"))
            if self._admission is not None and self._admission.has_users:
                fields.append((b"WWW-Authenticate", b"Basic"))
        return own_response(rejection.status, rejection.text, method=method, fields=fields)

    def _check(self) -> None:
        """End what takes too long, and use the tokens that were read last."""
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._check)
        now = self.coarse_now = self.now()
        for connection in list(self._connections):
            connection.check_timeouts(now)
        self.pool.close_stale()
        self._use_tokens()
