# SPDX-License-Identifier: Apache-2.0
"""One table: method and path of a request -> what the server does with it.

Paths of the servers 0.9 to 0.33 (facts: `server/routes.go`). What is not in it is `other`: it
passes, and its path never becomes a label.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


class Body(Enum):
    """Which shape the answers of a route have; `protocol/tap.py` has a reader for each."""

    OPAQUE = auto()  # not looked into
    NATIVE = auto()  # NDJSON or one object, ended by done:true with durations
    EMBED = auto()  # one object without done
    OPENAI = auto()  # chat and text completions, ended by [DONE] when streamed
    RESPONSES = auto()  # OpenAI's newer API, ended by response.completed or its like
    ANTHROPIC = auto()  # ended by message_stop when streamed


@dataclass(frozen=True, slots=True)
class Route:
    """One row. `label`: the value of the metrics' label `route`."""

    label: str
    body: Body = Body.OPAQUE
    runs: bool = False  # it needs a runner: what it waits for is measured
    native: bool = False  # takes keep_alive and options
    multipart: bool = False  # its model is a field of a form


OTHER: Final = Route("other")
_GENERATE: Final = Route("/api/generate", Body.NATIVE, runs=True, native=True)
_CHAT: Final = Route("/api/chat", Body.NATIVE, runs=True, native=True)
_TRANSCRIPTIONS: Final = "/v1/audio/transcriptions"

_EXACT: Final[dict[tuple[str, str], Route]] = {
    ("POST", "/api/generate"): _GENERATE,
    ("POST", "/api/chat"): _CHAT,
    ("POST", "/api/embed"): Route("/api/embed", Body.EMBED, runs=True, native=True),
    ("POST", "/api/embeddings"): Route("/api/embeddings", Body.EMBED, runs=True, native=True),
    ("POST", "/v1/chat/completions"): Route("/v1/chat/completions", Body.OPENAI, runs=True),
    ("POST", "/v1/completions"): Route("/v1/completions", Body.OPENAI, runs=True),
    ("POST", "/v1/embeddings"): Route("/v1/embeddings", Body.EMBED, runs=True),
    ("POST", "/v1/responses"): Route("/v1/responses", Body.RESPONSES, runs=True),
    ("POST", "/v1/messages"): Route("/v1/messages", Body.ANTHROPIC, runs=True),
    ("POST", _TRANSCRIPTIONS): Route(_TRANSCRIPTIONS, runs=True, multipart=True),
}
_UNMEASURED: Final = {
    "/": ("GET", "HEAD"),
    "/api/version": ("GET", "HEAD"),
    "/api/status": ("GET",),
    "/api/tags": ("GET", "HEAD"),
    "/api/ps": ("GET",),
    "/api/show": ("POST",),
    "/api/pull": ("POST",),
    "/api/push": ("POST",),
    "/api/create": ("POST",),
    "/api/copy": ("POST",),
    "/api/delete": ("DELETE",),
    "/v1/models": ("GET",),
}
_BENEATH: Final = {
    "/api/blobs/": (("POST", "HEAD"), Route("/api/blobs")),
    "/v1/models/": (("GET",), Route("/v1/models")),
}
_TABLE: Final = {
    **_EXACT,
    **{(method, path): Route(path) for path, methods in _UNMEASURED.items() for method in methods},
}
LABELS: Final = tuple(
    sorted({route.label for route in [*_TABLE.values(), *(r for _, r in _BENEATH.values()), OTHER]})
)


def route_of(method: str, target: str) -> Route:
    """Return the route of a request; `target` as in its request line."""
    path = target.partition("?")[0]
    route = _TABLE.get((method, path))
    if route is not None:
        return route
    for prefix, (methods, beneath) in _BENEATH.items():
        if path.startswith(prefix) and method in methods:
            return beneath
    return OTHER
