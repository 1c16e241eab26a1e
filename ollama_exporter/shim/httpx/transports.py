# SPDX-License-Identifier: Apache-2.0
"""The shim inside an application: httpx transports around the ones that are there.

They see what the application sends and gets, add nothing and hold nothing back. An exchange also
ends when its stream is dropped, closed, cancelled, or breaks.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

import httpx

from ollama_exporter.shim.httpx.hooks import HttpxHooks, OnRequest, server_of
from ollama_exporter.shim.httpx.streams import AsyncReceived, AsyncSent, Received, Sent

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class RecordingTransport:
    """Passes a client's requests on; what `kinds` makes of it is a transport of one library."""

    put_there = False  # by `instrument`, which may take it away again
    kinds: "Kinds"

    def __init__(self, inner: Any, seam: HttpxHooks) -> None:  # noqa: ANN401 - of whichever library
        self.inner, self._seam = inner, seam

    def handle_request(self, request: Any) -> Any:  # noqa: ANN401 - as above
        """Pass a request on."""
        exchange = self._seam.begin(request)
        if exchange is None:
            return self.inner.handle_request(request)
        body = request.stream
        request.stream = self.kinds.sent(body, exchange, self._seam)
        try:
            response = self.inner.handle_request(request)
        except BaseException as err:
            self._seam.failed(exchange, err)
            raise
        finally:
            request.stream = body
        if self._seam.headed(exchange, request, response):
            response.stream = self.kinds.received(response.stream, exchange, self._seam)
        return response

    def close(self) -> None:
        """Close the transport inside."""
        self.inner.close()

    def __enter__(self) -> Self:
        self.inner.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self.inner.__exit__(*raised)


class AsyncRecordingTransport:
    """Like Passing, for asynchronous clients."""

    put_there = False
    kinds: "Kinds"

    def __init__(self, inner: Any, seam: HttpxHooks) -> None:  # noqa: ANN401 - of whichever library
        self.inner, self._seam = inner, seam

    async def handle_async_request(self, request: Any) -> Any:  # noqa: ANN401 - as above
        """Pass a request on."""
        exchange = self._seam.begin(request)
        if exchange is None:
            return await self.inner.handle_async_request(request)
        body = request.stream
        request.stream = self.kinds.async_sent(body, exchange, self._seam)
        try:
            response = await self.inner.handle_async_request(request)
        except BaseException as err:
            self._seam.failed(exchange, err)
            raise
        finally:
            request.stream = body
        if self._seam.headed(exchange, request, response):
            response.stream = self.kinds.async_received(response.stream, exchange, self._seam)
        return response

    async def aclose(self) -> None:
        """Close the transport inside."""
        await self.inner.aclose()

    async def __aenter__(self) -> Self:
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.inner.__aexit__(*raised)


# -- one set of classes for each library -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kinds:
    """The classes above, each also what its library asks for."""

    sent: type[Sent]
    async_sent: type[AsyncSent]
    received: type[Received]
    async_received: type[AsyncReceived]
    transport: type[RecordingTransport]
    async_transport: type[AsyncRecordingTransport]


@cache
def kinds(library: str) -> Kinds:
    """Return the classes for `httpx`, or for a library that took over its interface: httpx2."""
    of = import_module(library)
    made = Kinds(
        type("Sent", (Sent, of.SyncByteStream), {}),
        type("AsyncSent", (AsyncSent, of.AsyncByteStream), {}),
        type("Received", (Received, of.SyncByteStream), {}),
        type("AsyncReceived", (AsyncReceived, of.AsyncByteStream), {}),
        type("Transport", (RecordingTransport, of.BaseTransport), {}),
        type("AsyncTransport", (AsyncRecordingTransport, of.AsyncBaseTransport), {}),
    )
    made.transport.kinds = made.async_transport.kinds = made
    return made


class Transport(RecordingTransport, httpx.BaseTransport):
    """Records the requests of an `httpx.Client`.

    `inner` does the work (default: httpx's own). `base_url`: the server whose requests are
    recorded, by host and port (default: $OLLAMA_HOST, as Ollama's clients read it). `registry`:
    where the metrics go (default: prometheus_client's). `on_request` is handed each finished
    request. Raises ConfigError for a URL that is none.
    """

    def __init__(
        self,
        inner: httpx.BaseTransport | None = None,
        *,
        base_url: str | None = None,
        registry: "CollectorRegistry | None" = None,
        on_request: OnRequest | None = None,
    ) -> None:
        self.kinds = kinds("httpx")
        seam = HttpxHooks(server_of(base_url), registry, on_request)
        super().__init__(httpx.HTTPTransport() if inner is None else inner, seam)


class AsyncTransport(AsyncRecordingTransport, httpx.AsyncBaseTransport):
    """Records the requests of an `httpx.AsyncClient`; like Transport."""

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport | None = None,
        *,
        base_url: str | None = None,
        registry: "CollectorRegistry | None" = None,
        on_request: OnRequest | None = None,
    ) -> None:
        self.kinds = kinds("httpx")
        seam = HttpxHooks(server_of(base_url), registry, on_request)
        super().__init__(httpx.AsyncHTTPTransport() if inner is None else inner, seam)
