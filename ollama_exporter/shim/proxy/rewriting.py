# SPDX-License-Identifier: Apache-2.0
"""A relay that may set something in a request: it holds the head until the body is there.

Only bodies within the bound that is looked at anyway; all others pass as they come.
"""

import asyncio
from typing import Final, Protocol

from ollama_exporter.actions.defaults.rewrite_rules import Changed
from ollama_exporter.protocol.request_body import PEEK
from ollama_exporter.protocol.routes import Route
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.proxy.forwarding import Forwarding
from ollama_exporter.shim.proxy.headers import RequestHead, request_head
from ollama_exporter.shim.proxy.response_parser import INFORMATIONAL

HEADER: Final = b"X-Ollama-Exporter-Set: "
# A client that waits for 100 Continue would wait for a head that is held back; an encoded body
# cannot be looked into.
UNTOUCHED: Final = (b"expect:", b"content-encoding:")


class RewriteRules(Protocol):
    """Knows what to set. Never raises."""

    @property
    def active(self) -> bool:
        """Whether there is anything to set; may change at any time."""

    def change(self, route: Route, body: bytes) -> Changed | None:
        """Set something in a body; None: it stays as it is."""

    def afterwards(self, exchange: Exchange) -> str:
        """Say what will be set when a request is over; empty: nothing."""


class RewritingForwarding(Forwarding):
    """The way of one client's requests where rules are in force."""

    _body: list[bytes] | None = None  # of the request that is held
    _size = 0
    _said = ""

    def begin(self, request: RequestHead, exchange: Exchange) -> None:
        """Take a request, and hold its head if it may be changed."""
        self._body, self._size, self._said = None, 0, ""
        super().begin(request, exchange)
        if exchange.route.native and not any(
            line.lower().startswith(UNTOUCHED) for line in request.lines
        ):
            self._body, self._out = [], []

    def body(self, data: bytes) -> None:
        """Take bytes of the body; too many, and all goes on as it came."""
        if self._body is None:
            super().body(data)
            return
        self._exchange.on_request_body(data)
        self._body.append(data)
        self._size += len(data)
        if self._size > PEEK:
            self._let_go(b"".join(self._body))

    def complete(self) -> None:
        """Set what is to be set, and let the request go."""
        if self._body is not None:
            body = b"".join(self._body)
            amend = self._place.amend
            changed = None if amend is None else amend.change(self._exchange.route, body)
            if changed is not None:
                body = changed.body
                self._exchange.rewritten_fields = changed.asked
                self._said = changed.said
                if b"content-length" in self._request.noted:
                    self._request.noted[b"content-length"] = b"%d" % len(body)
            self._let_go(body)
        super().complete()

    def flush(self) -> None:
        """Send what was taken, but for what is held: its size has a bound."""
        if self._body is None:
            super().flush()

    def lost(self, exc: Exception | None) -> None:
        """Take that the server's connection ended; one that was only held ready is replaced."""
        if self._body is None:
            super().lost(exc)
            return
        self._upstream = None
        self._expect()
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def _let_go(self, body: bytes) -> None:
        self._body = None
        self._out.append(request_head(self._request, self._place.outward, self._client.peer))
        if body:
            self._out.append(b"%x\r\n%b\r\n" % (len(body), body) if self._request.chunked else body)

    def _head_of(self, lines: list[bytes]) -> bytes:
        amend = self._place.amend
        after = "" if amend is None else amend.afterwards(self._exchange)
        said = ", ".join(part for part in (self._said, after) if part)
        if not said or self._status in INFORMATIONAL:
            return super()._head_of(lines)
        return super()._head_of([*lines, HEADER + said.encode("latin-1", "replace")])
