# SPDX-License-Identifier: Apache-2.0
"""Prometheus exporter for Ollama, and the shim for Python programs that use it.

`instrument()` records the requests of a client in this process; see docs/shim.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ollama_exporter.version import __version__

if TYPE_CHECKING:
    from ollama_exporter.shim.httpx.instrument import instrument, uninstrument
    from ollama_exporter.shim.httpx.transports import AsyncTransport, Transport
    from ollama_exporter.shim.observation import Observation

__all__ = [
    "AsyncTransport",
    "Observation",
    "Transport",
    "__version__",
    "instrument",
    "uninstrument",
]

_HOMES: Final = {
    "AsyncTransport": "httpx.transports",
    "Observation": "observation",
    "Transport": "httpx.transports",
    "instrument": "httpx.instrument",
    "uninstrument": "httpx.instrument",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever has that name
    # On demand: most commands of this package need no httpx.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.shim.{_HOMES[name]}"), name)
