# SPDX-License-Identifier: Apache-2.0
"""`instrument()`: put the recording transports around those that a client has already.

Whatever the client was built with stays: proxies of the environment, custom transports, mounts.
"""

import importlib
import threading
from typing import TYPE_CHECKING, Any, Final

from ollama_exporter.shim.httpx.hooks import HttpxHooks, OnRequest, origin, server_of
from ollama_exporter.shim.httpx.transports import AsyncRecordingTransport, RecordingTransport, kinds

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

LIBRARIES: Final = ("httpx", "httpx2")  # openai and anthropic went over to the second
DEEPEST: Final = 4  # langchain's model holds ollama's client, which holds httpx's
LOCK: Final = threading.Lock()  # two threads that instrument one client wrap it once


def instrument(
    client: object = None,
    *,
    registry: "CollectorRegistry | None" = None,
    on_request: OnRequest | None = None,
) -> None:
    """Record the requests of a client; twice is once.

    `client`: an `ollama.Client` or `AsyncClient`, the client of an SDK that is built on httpx
    (openai, anthropic), an httpx client; default: that of ollama's module functions. `registry`:
    where the metrics go (default: prometheus_client's). `on_request` is handed each finished
    request. Raises TypeError for what has no httpx client in it.
    """
    found, kind = _inner_client(client)
    with LOCK:
        if _is_instrumented(found._transport):
            return
        # Its URL is not read as a setting is: it may carry a password.
        server = origin(found.base_url) if found.base_url.host else server_of(None)
        seam = HttpxHooks(server, registry, on_request)
        found._transport = _wrapped(found._transport, kind, seam)
        found._mounts = {
            pattern: None if inner is None else _wrapped(inner, kind, seam)
            for pattern, inner in found._mounts.items()
        }


def uninstrument(client: object = None) -> None:
    """Undo `instrument`: the client has its own transports again."""
    found, _ = _inner_client(client)
    with LOCK:
        if not _is_instrumented(found._transport):
            return
        found._transport = found._transport.inner
        found._mounts = {
            pattern: inner.inner if _is_instrumented(inner) else inner
            for pattern, inner in found._mounts.items()
        }


def _inner_client(client: object) -> tuple[Any, type[RecordingTransport | AsyncRecordingTransport]]:
    """Return the client that has the transports, and the kind that it takes."""
    # The module's functions are methods of one client, which bears its submodule's name.
    found = importlib.import_module("ollama")._client if client is None else client
    for _ in range(DEEPEST):
        for kind in type(found).__mro__:
            library = kind.__module__.partition(".")[0]
            if library in LIBRARIES and kind.__name__ == "Client":
                return found, kinds(library).transport
            if library in LIBRARIES and kind.__name__ == "AsyncClient":
                return found, kinds(library).async_transport
        found = getattr(found, "_client", None)
    raise TypeError(
        f"client: {type(client).__name__} is not accepted; accepted: an ollama, openai or "
        "anthropic client, or one of httpx"
    )


def _is_instrumented(transport: object) -> bool:
    """Tell it from one that the application put there itself."""
    return (
        isinstance(transport, RecordingTransport | AsyncRecordingTransport) and transport.put_there
    )


def _wrapped(
    inner: object, kind: type[RecordingTransport | AsyncRecordingTransport], seam: HttpxHooks
) -> RecordingTransport | AsyncRecordingTransport:
    transport = kind(inner, seam)
    transport.put_there = True
    return transport
