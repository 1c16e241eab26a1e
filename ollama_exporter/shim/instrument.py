# SPDX-License-Identifier: Apache-2.0
"""`instrument()`: put the recording transports around those that a client has already.

Whatever the client was built with stays: proxies of the environment, custom transports, mounts.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

from ollama_exporter.shim.seam import OnRequest, Seam
from ollama_exporter.shim.transport import AsyncPassing, Passing, kinds

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

LIBRARIES: Final = ("httpx", "httpx2")  # openai and anthropic went over to the second
DEEPEST: Final = 4  # langchain's model holds ollama's client, which holds httpx's


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
    found, library = _inner_client(client)
    if _is_instrumented(found._transport):
        return
    url = str(found.base_url) if found.base_url.host else None
    seam = Seam(url, registry, on_request)
    found._transport = _wrapped(found._transport, library, seam)
    found._mounts = {
        pattern: None if inner is None else _wrapped(inner, library, seam)
        for pattern, inner in found._mounts.items()
    }


def uninstrument(client: object = None) -> None:
    """Undo `instrument`: the client has its own transports again."""
    found, _ = _inner_client(client)
    if not _is_instrumented(found._transport):
        return
    found._transport = found._transport.inner
    found._mounts = {
        pattern: inner.inner if _is_instrumented(inner) else inner
        for pattern, inner in found._mounts.items()
    }


def _inner_client(client: object) -> tuple[Any, str]:
    """Return the client that has the transports, and the name of its library."""
    # The module's functions are methods of one client, which bears its submodule's name.
    found = importlib.import_module("ollama")._client if client is None else client
    for _ in range(DEEPEST):
        for kind in type(found).__mro__:
            library = kind.__module__.partition(".")[0]
            if library in LIBRARIES and kind.__name__ in ("Client", "AsyncClient"):
                return found, library
        found = getattr(found, "_client", None)
    raise TypeError(
        f"client: {type(client).__name__} is not accepted; accepted: an ollama, openai or "
        "anthropic client, or one of httpx"
    )


def _is_instrumented(transport: object) -> bool:
    """Tell it from one that the application put there itself."""
    return isinstance(transport, Passing | AsyncPassing) and transport.put_there


def _wrapped(inner: Any, library: str, seam: Seam) -> Passing | AsyncPassing:  # noqa: ANN401 - of either kind
    made = kinds(library)
    kind = made.async_transport if hasattr(inner, "handle_async_request") else made.transport
    transport: Passing | AsyncPassing = kind(inner, seam)
    transport.put_there = True
    return transport
