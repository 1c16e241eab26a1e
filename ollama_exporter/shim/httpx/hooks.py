# SPDX-License-Identifier: Apache-2.0
"""Where a transport's requests become exchanges: which are the server's, and how they end."""

import itertools
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

from ollama_exporter.clock import Timeline
from ollama_exporter.config.target import SCHEME_PORTS, base_url
from ollama_exporter.protocol.routes import OTHER, Route, route_of
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.observation import Observation
from ollama_exporter.shim.recorder import recorder_of

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

# One machine's spellings. Ollama's clients take a wildcard out of $OLLAMA_HOST as it is.
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"})  # noqa: S104 - compared, not bound
APIS: Final = ("/api/", "/v1/")  # a server may be found below another path
NUMBERS: Final = itertools.count(1)
OnRequest = Callable[[Observation], None]
Server = tuple[str, int | None]  # host and port


class HttpxHooks:
    """Makes exchanges of those requests that go to the server."""

    def __init__(
        self,
        server: Server,
        registry: "CollectorRegistry | None",
        on_request: OnRequest | None,
    ) -> None:
        self._server = server
        self.recorder, self._on_request = recorder_of(registry), on_request
        self._now = Timeline(wall=time.time, monotonic=time.monotonic).now

    def begin(self, request: Any) -> Exchange | None:  # noqa: ANN401 - of whichever library
        """Begin the exchange of a request; None: it goes elsewhere, or is recorded already."""
        if origin(request.url) != self._server:
            return None
        if getattr(request.stream, "recorder", None) is self.recorder:
            return None
        exchange = Exchange(
            self.recorder,
            _route(request.method, request.url.path),
            method=request.method.encode(),
            id=next(NUMBERS),
            now=self._now,
            traceparent=request.headers.get("traceparent", "").encode(),
        )
        exchange.on_request = self._on_request
        return exchange

    def failed(self, exchange: Exchange, err: BaseException) -> None:
        """End an exchange whose request or answer did not get through."""
        if _named(err, "TimeoutException"):
            exchange.on_upstream_error(timeout=True)
        elif isinstance(err, Exception):
            exchange.on_upstream_error()
        else:  # cancelled, interrupted, a generator that was closed
            exchange.on_client_gone()

    def headed(self, exchange: Exchange, request: Any, response: Any) -> bool:  # noqa: ANN401 - as above
        """Take an answer's head; False: its body is there already and was taken as well."""
        if exchange.route.runs and not exchange.request_bytes:
            _take_whole(exchange, request)
        fields = response.headers
        exchange.on_response_head(
            response.status_code,
            fields.get("content-type", "").encode(),
            fields.get("content-encoding", "").encode(),
        )
        if not response.is_closed:
            return True
        exchange.on_response_body(response.content)  # a transport without a network
        exchange.on_response_complete()
        return False


def _take_whole(exchange: Exchange, request: Any) -> None:  # noqa: ANN401 - as above
    """Take a body that its transport had from memory (aiohttp's does), past the stream."""
    with suppress(RuntimeError):  # what httpx raises for a body that is not in memory
        exchange.on_request_body(request.content)
        exchange.on_request_complete()


def _named(err: BaseException, name: str) -> bool:
    """Tell an error of any of the libraries by its class: no two share theirs."""
    return any(kind.__name__ == name for kind in type(err).__mro__)


def server_of(url: str | None) -> Server:
    """Return host and port of a base URL; default: $OLLAMA_HOST. Raises ConfigError."""
    text = os.environ.get("OLLAMA_HOST", "") if url is None else url
    return origin(urlsplit(base_url(text, field="$OLLAMA_HOST" if url is None else "base_url")))


def origin(url: Any) -> Server:  # noqa: ANN401 - of urllib, or of whichever library
    """Return host and port of a URL; this machine has one name only."""
    host = url.hostname if isinstance(url, SplitResult) else url.host
    return ("loopback" if host in LOOPBACK else str(host), url.port or SCHEME_PORTS.get(url.scheme))


def _route(method: str, path: str) -> Route:
    for api in APIS:
        at = path.find(api)
        if at >= 0:
            return route_of(method, path[at:])
    return route_of(method, path) if path == "/" else OTHER
