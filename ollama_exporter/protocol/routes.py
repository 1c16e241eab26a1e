# SPDX-License-Identifier: Apache-2.0
"""The table of the server's routes: method and path -> what a request on it does.

From `server/routes.go` of Ollama 0.9 to 0.35. Any other request is `other`: it passes, and its path
never becomes a label.
"""

from enum import Enum, auto
from typing import Final
from urllib.parse import unquote

from msgspec import Struct


class Body(Enum):
    """The format of a route's answers; `stream_parsers.py` has a parser for each."""

    OPAQUE = auto()  # not parsed
    NATIVE = auto()  # NDJSON or one object; the last record has done:true and durations
    OBJECT = auto()  # one object without `done`
    OPENAI = auto()  # chat and text completions; a stream ends with [DONE]
    RESPONSES = auto()  # OpenAI's Responses API; a stream ends with response.completed or similar
    ANTHROPIC = auto()  # Anthropic's Messages API; a stream ends with message_stop


class Route(Struct, frozen=True):
    """A route. `label` is the value of the label `route`."""

    label: str
    body: Body = Body.OPAQUE
    runs: bool = False  # its requests need a runner
    native: bool = False  # its requests accept keep_alive and options
    multipart: bool = False  # its requests are forms, with the model in a field


OTHER: Final = Route("other")
_GENERATE: Final = Route("/api/generate", Body.NATIVE, runs=True, native=True)
_CHAT: Final = Route("/api/chat", Body.NATIVE, runs=True, native=True)
# Image generation of Ollama 0.17 to 0.30, and `systemone` of 0.35 and later.
_OBJECTS: Final = ("/v1/images/generations", "/v1/images/edits", "/v1/systemone")
_TRANSCRIPTIONS: Final = "/v1/audio/transcriptions"

_EXACT: Final[dict[tuple[str, str], Route]] = {
    ("POST", "/api/generate"): _GENERATE,
    ("POST", "/api/chat"): _CHAT,
    ("POST", "/api/embed"): Route("/api/embed", Body.OBJECT, runs=True, native=True),
    ("POST", "/api/embeddings"): Route("/api/embeddings", Body.OBJECT, runs=True, native=True),
    ("POST", "/v1/chat/completions"): Route("/v1/chat/completions", Body.OPENAI, runs=True),
    ("POST", "/v1/completions"): Route("/v1/completions", Body.OPENAI, runs=True),
    ("POST", "/v1/embeddings"): Route("/v1/embeddings", Body.OBJECT, runs=True),
    ("POST", "/v1/responses"): Route("/v1/responses", Body.RESPONSES, runs=True),
    ("POST", "/v1/messages"): Route("/v1/messages", Body.ANTHROPIC, runs=True),
    **{("POST", path): Route(path, Body.OBJECT, runs=True) for path in _OBJECTS},
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
_BY_PREFIX: Final = {
    "/api/blobs/": (("POST", "HEAD"), Route("/api/blobs")),
    "/v1/models/": (("GET",), Route("/v1/models")),
}
_TABLE: Final = {
    **_EXACT,
    **{(method, path): Route(path) for path, methods in _UNMEASURED.items() for method in methods},
}
LABELS: Final = tuple(
    sorted(
        {route.label for route in [*_TABLE.values(), *(r for _, r in _BY_PREFIX.values()), OTHER]}
    )
)


def route_of(method: str, target: str) -> Route:
    """Return the route of a request. `target`: as in the request line."""
    path = target.partition("?")[0]
    if "%" in path:  # the server's router compares the decoded path (URL.Path of Go's net/url)
        path = unquote(path)
    route = _TABLE.get((method, path))
    if route is not None:
        return route
    for prefix, (methods, by_prefix) in _BY_PREFIX.items():
        if path.startswith(prefix) and method in methods:
            return by_prefix
    return OTHER
