# SPDX-License-Identifier: Apache-2.0
"""Recording transports for httpx, each around the transport that does the work.

They add and delay nothing. An exchange also ends when its stream is dropped, closed or cancelled,
or breaks.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

import httpx

from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.httpx.hooks import HttpxHooks, OnRequest, server_of
from ollama_exporter.shim.httpx.streams import AsyncReceived, AsyncSent, Received, Sent

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class _Sending:
    """A block in which a request is sent: its body is recorded, and so is an error."""

    __slots__ = ("_body", "_exchange", "_hooks", "_request", "_sent")

    def __init__(
        self,
        request: Any,  # noqa: ANN401 - of any library
        exchange: Exchange,
        hooks: HttpxHooks,
        sent: type[Sent | AsyncSent],
    ) -> None:
        self._request, self._exchange, self._hooks, self._sent = request, exchange, hooks, sent
        self._body = request.stream

    def __enter__(self) -> None:
        self._request.stream = self._sent(self._body, self._exchange, self._hooks)

    def __exit__(self, _: object, err: BaseException | None, __: object) -> None:
        self._request.stream = self._body
        if err is not None:
            self._hooks.on_error(self._exchange, err)


class RecordingTransport:
    """Passes on and records a client's requests. `library_of` makes a library's transport of it."""

    is_removable = False  # `instrument` put it there, so `uninstrument` removes it
    library: "HttpLibrary"

    def __init__(self, inner: Any, hooks: HttpxHooks) -> None:  # noqa: ANN401 - of any library
        self.inner, self._hooks = inner, hooks

    def handle_request(self, request: Any) -> Any:  # noqa: ANN401 - as above
        """Send a request and record it."""
        exchange = self._hooks.on_request_start(request)
        if exchange is None:
            return self.inner.handle_request(request)
        with _Sending(request, exchange, self._hooks, self.library.sent):
            response = self.inner.handle_request(request)
        if self._hooks.on_response_start(exchange, request, response):
            response.stream = self.library.received(response.stream, exchange, self._hooks)
        return response

    def close(self) -> None:
        """Close the inner transport."""
        self.inner.close()

    def __enter__(self) -> Self:
        self.inner.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self.inner.__exit__(*raised)


class AsyncRecordingTransport:
    """RecordingTransport for asynchronous clients."""

    is_removable = False
    library: "HttpLibrary"

    def __init__(self, inner: Any, hooks: HttpxHooks) -> None:  # noqa: ANN401 - of any library
        self.inner, self._hooks = inner, hooks

    async def handle_async_request(self, request: Any) -> Any:  # noqa: ANN401 - as above
        """Send a request and record it."""
        exchange = self._hooks.on_request_start(request)
        if exchange is None:
            return await self.inner.handle_async_request(request)
        with _Sending(request, exchange, self._hooks, self.library.async_sent):
            response = await self.inner.handle_async_request(request)
        if self._hooks.on_response_start(exchange, request, response):
            response.stream = self.library.async_received(response.stream, exchange, self._hooks)
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self.inner.aclose()

    async def __aenter__(self) -> Self:
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.inner.__aexit__(*raised)


# -- the classes of each library ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HttpLibrary:
    """The classes above as subclasses of what one library requires, and its timeouts."""

    sent: type[Sent]
    async_sent: type[AsyncSent]
    received: type[Received]
    async_received: type[AsyncReceived]
    transport: type[RecordingTransport]
    async_transport: type[AsyncRecordingTransport]
    timeout_error: type[Exception]


@cache
def library_of(name: str) -> HttpLibrary:
    """Return the classes for `httpx`, or for `httpx2`, which has the same interface."""
    of = import_module(name)
    made = HttpLibrary(
        type("Sent", (Sent, of.SyncByteStream), {}),
        type("AsyncSent", (AsyncSent, of.AsyncByteStream), {}),
        type("Received", (Received, of.SyncByteStream), {}),
        type("AsyncReceived", (AsyncReceived, of.AsyncByteStream), {}),
        type("Transport", (RecordingTransport, of.BaseTransport), {}),
        type("AsyncTransport", (AsyncRecordingTransport, of.AsyncBaseTransport), {}),
        of.TimeoutException,
    )
    made.transport.library = made.async_transport.library = made
    return made


class Transport(RecordingTransport, httpx.BaseTransport):
    """Records the requests of an `httpx.Client`.

    `inner` sends them (default: httpx's transport). `base_url`: the server whose requests are
    recorded, by host and port (default: $OLLAMA_HOST, as Ollama's clients read it). `registry`:
    where the metrics go (default: prometheus_client's). `on_request` receives each finished
    request. Raises ConfigError for an invalid URL.
    """

    def __init__(
        self,
        inner: httpx.BaseTransport | None = None,
        *,
        base_url: str | None = None,
        registry: "CollectorRegistry | None" = None,
        on_request: OnRequest | None = None,
    ) -> None:
        self.library = library_of("httpx")
        hooks = _hooks(base_url, registry, on_request)
        super().__init__(httpx.HTTPTransport() if inner is None else inner, hooks)


class AsyncTransport(AsyncRecordingTransport, httpx.AsyncBaseTransport):
    """Records the requests of an `httpx.AsyncClient`. See Transport."""

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport | None = None,
        *,
        base_url: str | None = None,
        registry: "CollectorRegistry | None" = None,
        on_request: OnRequest | None = None,
    ) -> None:
        self.library = library_of("httpx")
        hooks = _hooks(base_url, registry, on_request)
        super().__init__(httpx.AsyncHTTPTransport() if inner is None else inner, hooks)


def _hooks(
    base_url: str | None, registry: "CollectorRegistry | None", on_request: OnRequest | None
) -> HttpxHooks:
    server = server_of(base_url)
    return HttpxHooks(server, registry, on_request, timeout_error=httpx.TimeoutException)
