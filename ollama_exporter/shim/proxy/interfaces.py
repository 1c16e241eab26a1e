# SPDX-License-Identifier: Apache-2.0
"""The protocols through which the parts of the proxy know each other."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Protocol

from ollama_exporter.protocol.request_body import RequestFields
from ollama_exporter.protocol.routes import Route
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.proxy.headers import OutgoingFields, RequestHead, RequestRejected
from ollama_exporter.shim.proxy.limits import HeldBytes, Limits
from ollama_exporter.shim.proxy.response_parser import KnownHeads
from ollama_exporter.shim.proxy.upstream_pool import UpstreamPool


class RewrittenBody(Protocol):
    """A request body after a change."""

    @property
    def body(self) -> bytes:
        """The new body."""

    @property
    def asked(self) -> RequestFields:
        """What the new body asks for."""

    @property
    def said(self) -> str:
        """The change, as the response header names it."""


class RewriteRules(Protocol):
    """Decides what the proxy sets in requests. Never raises."""

    @property
    def is_active(self) -> bool:
        """Whether there is anything to set. It changes with each reload."""

    def change(self, route: Route, body: bytes) -> RewrittenBody | None:
        """Return the changed body; None: it stays as it is."""

    def append(self, route: Route, asked: RequestFields) -> RewrittenBody | None:
        """Return members to put behind those of a body that asks for this; None: none.

        They are joined by commas, with none at either end.
        """

    def afterwards(self, exchange: Exchange) -> str:
        """Return what is set once the request is over, for the response header; empty: nothing."""


class ProxyClient(Protocol):
    """A client's connection, as the forwarding of a request needs it."""

    peer: bytes  # the client's address
    is_write_paused: bool  # the client does not read what was written
    is_read_stopped: bool  # nothing is read from the client
    transport: asyncio.Transport

    def stop_reading(self) -> None:
        """Read no more of the request for now."""

    def resume_reading(self) -> None:
        """Read on, if nothing else forbids it."""

    def on_response_end(self, *, keep_alive: bool) -> None:
        """Go on with the next request, or end the connection."""

    def abort_response(self, *, hard: bool) -> None:
        """End the connection in the middle of a response.

        `hard` resets it: the body has no framing, so a plain close would look like its end.
        """


class ForwardingContext(Protocol):
    """The proxy, as the forwarding of a request needs it."""

    limits: Limits
    held: HeldBytes
    pool: UpstreamPool
    outgoing: OutgoingFields
    asks_usage: bool  # streams of OpenAI's API are asked for their usage
    added_fields: tuple[tuple[bytes, bytes], ...]  # of all responses, names in lower case
    known_heads: KnownHeads  # of responses that were parsed

    @property
    def rewrite_rules(self) -> RewriteRules | None:
        """The rules for requests, if there are any."""

    def own_response(self, rejection: RequestRejected, *, method: bytes) -> bytes:
        """Return the response to a request that the proxy answers itself."""

    def now(self) -> float:
        """Return the current moment."""


class PortAdmission(Protocol):
    """Decides which requests pass a port that a web configuration file locks."""

    @property
    def has_users(self) -> bool:
        """Whether requests need a password."""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The fields that responses get."""

    def refusal(self) -> int | None:
        """Return the status of a refusal that does not depend on the client; None: it may pass."""

    def remembered(self, authorization: bytes) -> int | None:
        """Return 200 or the status of a refusal; None: `login` has to check the password."""

    async def login(self, authorization: bytes) -> int:
        """Return the same after a check, which takes its time."""


class PortLocks(Protocol):
    """The locks that a web configuration file puts on a port."""

    @property
    def admission(self) -> PortAdmission:
        """What requests meet."""

    def context(self) -> ssl.SSLContext | None:
        """Return the context to listen with; None without TLS."""

    def is_peer_allowed(self, certificate: Mapping[str, object] | None) -> bool:
        """Return whether a client may connect. `certificate`: as `getpeercert` returns it."""


class Connection(Protocol):
    """A client's connection, as the proxy needs it."""

    transport: asyncio.Transport

    def check_timeouts(self, now: float) -> None:
        """End what takes too long."""

    def shut_down(self) -> None:
        """End the connection now if it is idle, else after the current response."""


class ProxyContext(ForwardingContext, Protocol):
    """The proxy, as a client's connection needs it."""

    is_shutting_down: bool
    coarse_now: float  # up to a second old: for deadlines

    def on_connection_open(self, connection: Connection) -> bool:
        """Count a new connection. Return False if there are too many."""

    def on_connection_close(self, connection: Connection) -> None:
        """Forget a connection."""

    def is_peer_allowed(self, certificate: Mapping[str, object] | None) -> bool:
        """Return whether a client with this certificate may connect; None: it shows none."""

    def check_access(
        self, request: RequestHead, *, peer: bytes, on_loopback: bool
    ) -> asyncio.Task[int] | None:
        """Raise RequestRejected if this client may not ask. Note its name on the request.

        If a password has to be checked, return a task that ends with 200 or the status of a
        refusal.
        `peer`: the address of the client. `on_loopback`: whether the connection was accepted on a
        loopback address.
        """

    def start_exchange(self, request: RequestHead) -> Exchange:
        """Start recording a request."""

    def on_reject(self, request: RequestHead, status: int) -> None:
        """Record a request that the proxy answers itself."""
