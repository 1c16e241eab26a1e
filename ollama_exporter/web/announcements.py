# SPDX-License-Identifier: Apache-2.0
"""Commands on this machine announce the requests that they send to the server.

Polls alone cannot tell what such a request does from other causes. Only this machine is heard, and
only JSON: a page in a browser cannot send that without being asked first.
"""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Final

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ollama_exporter.web.plain_text import plain

MAX_BYTES: Final = 4096
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})


class RequestEnd(StrEnum):
    """How an announced request ended."""

    ANSWERED = "answered"
    FAILED = "failed"


class Announcement(msgspec.Struct, kw_only=True):
    """A request that is about to be sent, or that has ended. `url`: of its server."""

    id: Annotated[str, msgspec.Meta(max_length=64)]
    model: Annotated[str, msgspec.Meta(max_length=512)]
    url: str
    keep_alive: float | None = None  # seconds, negative: for ever
    num_ctx: int | None = None
    stop: bool = False  # `ollama stop`
    longest: float = 0.0  # seconds; then the request has ended in any case
    end: RequestEnd | None = None  # None: it begins


# Another proxy on this machine passes requests on, whoever sent them.
FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
OnAnnounced = Callable[[Announcement], bool]
_DECODER: Final = msgspec.json.Decoder(Announcement)


def announcing(on_announced: OnAnnounced) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler. `on_announced`: returns whether this exporter watches that server."""

    async def handle(request: Request) -> Response:
        is_here = request.client is not None and request.client.host in LOOPBACK
        if not is_here or any(name in request.headers for name in FORWARDED):
            return plain("Accepted from this machine only.\n", HTTPStatus.FORBIDDEN)
        if request.headers.get("content-type") != "application/json":
            return plain("Accepted: application/json.\n", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BYTES:
                    return plain("Too long.\n", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            announcement = _DECODER.decode(bytes(body))
        except (ClientDisconnect, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return plain("Accepted: id, model and url.\n", HTTPStatus.BAD_REQUEST)
        if not on_announced(announcement):
            return plain("This exporter watches another server.\n", HTTPStatus.CONFLICT)
        return plain("Noted.\n")

    return handle
