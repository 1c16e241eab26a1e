# SPDX-License-Identifier: Apache-2.0
"""What the parts of the proxy need of each other."""

import asyncio
from typing import TYPE_CHECKING, Protocol

from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.proxy.headers import Outward, RequestHead
from ollama_exporter.shim.proxy.limits import Limits
from ollama_exporter.shim.proxy.upstream_pool import Pool

if TYPE_CHECKING:  # they import this
    from ollama_exporter.shim.proxy.client_connection import ClientConnection
    from ollama_exporter.shim.proxy.rewriting import RewriteRules


class ProxyClient(Protocol):
    """The client's connection, as a relay needs it."""

    peer: bytes
    paused: bool  # it does not take what was written
    stopped: bool  # nothing is read from it
    transport: asyncio.Transport

    def stop_reading(self) -> None:
        """Take no more of the request."""

    def read_on(self) -> None:
        """Take more of it."""

    def answered(self, *, keep_alive: bool) -> None:
        """Take that the answer is complete."""

    def cut(self, *, hard: bool) -> None:
        """End the connection in the middle of an answer; `hard`: its end must not look like one."""


class ForwardingContext(Protocol):
    """The proxy, as a relay needs it."""

    limits: Limits
    pool: Pool
    outward: Outward

    @property
    def amend(self) -> "RewriteRules | None":
        """What sets something in requests; None: nothing does."""

    def now(self) -> float:
        """Return the moment."""


class ProxyContext(ForwardingContext, Protocol):
    """The proxy, as a connection needs it."""

    ending: bool
    coarse: float  # the moment, up to a second old: for deadlines

    def opened(self, connection: "ClientConnection") -> bool:
        """Take a new connection; False: there are too many."""

    def closed(self, connection: "ClientConnection") -> None:
        """Take that it is gone."""

    def admit(self, request: RequestHead, *, on_loopback: bool) -> None:
        """Raise Refusal for who may not; `on_loopback`: the connection came in there."""

    def exchange(self, request: RequestHead) -> Exchange:
        """Begin the exchange of a request."""

    def refused(self, request: RequestHead, status: int) -> None:
        """Take that a request was answered by the proxy itself."""
