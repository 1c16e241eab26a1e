# SPDX-License-Identifier: Apache-2.0
"""Commands on this machine announce the stops that they are about to send.

Polls alone cannot tell such a stop from other causes. Only this machine is heard, and only JSON: a
page in a browser cannot send that without being asked first.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

STOPPING: Final = "/-/stopping"
MAX_BYTES: Final = 4096
LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})


class Announcement(msgspec.Struct):
    """A model that is about to be stopped, and the URL of its server."""

    model: str
    url: str


def stopping(on_stopping: Callable[[str, str], bool]) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler. `on_stopping`: returns whether this exporter watches that server."""

    async def handle(request: Request) -> Response:
        if request.client is None or request.client.host not in LOOPBACK:
            return _plain("Accepted from this machine only.\n", HTTPStatus.FORBIDDEN)
        if request.headers.get("content-type") != "application/json":
            return _plain("Accepted: application/json.\n", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BYTES:
                return _plain("Too long.\n", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            stop = msgspec.json.decode(bytes(body), type=Announcement)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _plain("Accepted: model and url.\n", HTTPStatus.BAD_REQUEST)
        if not on_stopping(stop.model, stop.url):
            return _plain("This exporter watches another server.\n", HTTPStatus.CONFLICT)
        return _plain("Noted.\n", HTTPStatus.OK)

    return handle


def _plain(text: str, status: HTTPStatus) -> Response:
    return PlainTextResponse(text, status, headers={"x-content-type-options": "nosniff"})
