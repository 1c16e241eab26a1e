# SPDX-License-Identifier: Apache-2.0
"""`instrument()` puts recording transports around the transports of a client.

What the client was built with stays: environment proxies, custom transports, mounts.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

from ollama_exporter.errors import MissingPackageError
from ollama_exporter.shim.httpx.hooks import HttpxHooks, OnRequest, origin, server_of
from ollama_exporter.shim.httpx.recorders import RECORDERS
from ollama_exporter.shim.httpx.transports import (
    AsyncRecordingTransport,
    HttpLibrary,
    RecordingTransport,
    library_of,
)

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

LIBRARIES: Final = ("httpx", "httpx2")  # newer versions of openai and anthropic use httpx2
DEEPEST: Final = 4  # langchain's model has an ollama client, which has an httpx client


def instrument(
    client: object = None,
    *,
    registry: "CollectorRegistry | None" = None,
    on_request: OnRequest | None = None,
) -> None:
    """Record the requests of a client. A second call has no effect.

    `client`: an `ollama.Client` or `AsyncClient`, the client of an SDK that is built on httpx
    (openai, anthropic), or an httpx client (default: the client of ollama's module functions).
    `registry`: where the metrics go (default: prometheus_client's). `on_request` receives each
    finished request. Raises TypeError if there is no httpx client in `client`.
    """
    found, library, is_async = _inner_client(client)
    transport = library.async_transport if is_async else library.transport
    with RECORDERS.lock:  # two threads may instrument one client
        if _is_instrumented(found._transport):
            return
        # Not read as a setting, whose errors quote it: this URL may contain a password.
        server = origin(found.base_url) if found.base_url.host else server_of(None)
        hooks = HttpxHooks(server, registry, on_request, timeout_error=library.timeout_error)
        found._transport = _wrapped(found._transport, transport, hooks)
        found._mounts = {
            pattern: None if inner is None else _wrapped(inner, transport, hooks)
            for pattern, inner in found._mounts.items()
        }


def uninstrument(client: object = None) -> None:
    """Undo `instrument`: restore the client's own transports."""
    found, _, _ = _inner_client(client)
    with RECORDERS.lock:
        if not _is_instrumented(found._transport):
            return
        found._transport = found._transport.inner
        found._mounts = {
            pattern: inner.inner if _is_instrumented(inner) else inner
            for pattern, inner in found._mounts.items()
        }


def _inner_client(client: object) -> tuple[Any, HttpLibrary, bool]:
    """Return the client that has the transports, its library, and whether it is asynchronous."""
    # The module's functions are methods of one client, which has the name of a submodule.
    found = _default_client() if client is None else client
    for _ in range(DEEPEST):
        for kind in type(found).__mro__:
            name = kind.__module__.partition(".")[0]
            if name in LIBRARIES and kind.__name__ in ("Client", "AsyncClient"):
                return found, library_of(name), kind.__name__ == "AsyncClient"
        found = getattr(found, "_client", None)
    raise TypeError(
        f"client: a {type(client).__name__} cannot be instrumented; pass an ollama, openai or "
        "anthropic client, or one of httpx"
    )


def _default_client() -> object:
    """Return the client of the ollama package's module functions. Raises MissingPackageError."""
    try:
        return importlib.import_module("ollama")._client
    except ModuleNotFoundError as err:
        raise MissingPackageError(
            "instrument() without a client needs the package ollama: pip install ollama, or pass "
            "the client to record: instrument(client)"
        ) from err


def _is_instrumented(transport: object) -> bool:
    """Return whether `instrument` put this transport there, not the application itself."""
    return (
        isinstance(transport, RecordingTransport | AsyncRecordingTransport)
        and transport.is_removable
    )


def _wrapped(
    inner: object, kind: type[RecordingTransport | AsyncRecordingTransport], hooks: HttpxHooks
) -> RecordingTransport | AsyncRecordingTransport:
    transport = kind(inner, hooks)
    transport.is_removable = True
    return transport
