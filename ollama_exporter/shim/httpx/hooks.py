# SPDX-License-Identifier: Apache-2.0
"""Turns the requests of a recording transport into exchanges."""

import itertools
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

from ollama_exporter.clock import Timeline
from ollama_exporter.config.target import SCHEME_PORTS, base_url
from ollama_exporter.protocol.routes import OTHER, Route, route_of
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.httpx.recorders import RECORDERS
from ollama_exporter.shim.observation import Observation

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

# All are this machine. Ollama's clients use a wildcard address in $OLLAMA_HOST as it is.
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"})  # noqa: S104 - compared, not bound
APIS: Final = ("/api/", "/v1/")  # the server may be below another path
NUMBERS: Final = itertools.count(1)
OnRequest = Callable[[Observation], None]
Server = tuple[str, int | None]  # host and port


class HttpxHooks:
    """Makes an exchange of each request to one server.

    `timeout_error`: the base class of the library's timeouts.
    """

    def __init__(
        self,
        server: Server,
        registry: "CollectorRegistry | None",
        on_request: OnRequest | None,
        *,
        timeout_error: type[Exception],
    ) -> None:
        self._server, self._timeout_error = server, timeout_error
        self.recorder, self._on_request = RECORDERS.of(registry), on_request
        self._now = Timeline(wall=time.time, monotonic=time.monotonic).now

    def on_request_start(self, request: Any) -> Exchange | None:  # noqa: ANN401 - of any library
        """Return the exchange of a request; None if it goes elsewhere or is recorded already."""
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
            traceparent=_field(request.headers, b"traceparent"),
        )
        exchange.on_request = self._on_request
        return exchange

    def on_error(self, exchange: Exchange, err: BaseException) -> None:
        """End an exchange whose request or answer failed."""
        if isinstance(err, self._timeout_error):
            exchange.on_upstream_error(timeout=True)
        elif isinstance(err, Exception):
            exchange.on_upstream_error()
        else:  # cancelled or interrupted, or its generator was closed
            exchange.on_client_gone()

    def on_response_start(self, exchange: Exchange, request: Any, response: Any) -> bool:  # noqa: ANN401 - as above
        """Record an answer's head. Return whether its body follows as a stream."""
        if exchange.route.runs and not exchange.request_bytes:
            _record_request_body(exchange, request)
        fields = response.headers
        exchange.on_response_head(
            response.status_code,
            _field(fields, b"content-type"),
            _field(fields, b"content-encoding"),
        )
        if not response.is_closed:
            return True
        exchange.on_response_body(response.content)  # a transport without a network, as in tests
        exchange.on_response_complete()
        return False


def _record_request_body(exchange: Exchange, request: Any) -> None:  # noqa: ANN401 - as above
    """Record a body that the transport did not read as a stream; the one of aiohttp does that."""
    with suppress(RuntimeError):  # httpx raises it for a body that is not in memory
        exchange.on_request_body(request.content)
        exchange.on_request_complete()


def server_of(url: str | None) -> Server:
    """Return host and port of a base URL (default: $OLLAMA_HOST). Raises ConfigError."""
    text = os.environ.get("OLLAMA_HOST", "") if url is None else url
    return origin(urlsplit(base_url(text, field="$OLLAMA_HOST" if url is None else "base_url")))


def origin(url: Any) -> Server:  # noqa: ANN401 - of urllib or any library
    """Return host and port of a URL, with one name for this machine."""
    host = url.hostname if isinstance(url, SplitResult) else url.host
    return ("loopback" if host in LOOPBACK else str(host), url.port or SCHEME_PORTS.get(url.scheme))


def _field(headers: Any, name: bytes) -> bytes:  # noqa: ANN401 - of any library
    """Return the values of a field, as `get` does in four times the time; empty without one."""
    size = len(name)
    values = [value for key, value in headers.raw if len(key) == size and key.lower() == name]
    return b", ".join(values)


@lru_cache(maxsize=256)
def _route(method: str, path: str) -> Route:
    for api in APIS:
        at = path.find(api)
        if at >= 0:
            return route_of(method, path[at:])
    return route_of(method, path) if path == "/" else OTHER
