# SPDX-License-Identifier: Apache-2.0
"""The proxy as its connections need it."""

from typing import TYPE_CHECKING, Protocol

from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.proxy.heads import Outward, Request
from ollama_exporter.shim.proxy.limits import Limits
from ollama_exporter.shim.proxy.upstream import Pool

if TYPE_CHECKING:  # it imports this
    from ollama_exporter.shim.proxy.downstream import Downstream


class Place(Protocol):
    """The proxy, as a relay needs it."""

    limits: Limits
    pool: Pool
    outward: Outward

    def now(self) -> float:
        """Return the moment."""


class Site(Place, Protocol):
    """The proxy, as a connection needs it."""

    ending: bool
    coarse: float  # the moment, up to a second old: for deadlines

    def opened(self, connection: "Downstream") -> bool:
        """Take a new connection; False: there are too many."""

    def closed(self, connection: "Downstream") -> None:
        """Take that it is gone."""

    def admit(self, request: Request) -> None:
        """Raise Refusal for who may not."""

    def exchange(self, request: Request) -> Exchange:
        """Begin the exchange of a request."""

    def refused(self, request: Request, status: int) -> None:
        """Take that a request was answered by the proxy itself."""
