# SPDX-License-Identifier: Apache-2.0
"""Stands before the routes: rate limit, header fields, passwords."""

from http import HTTPStatus
from typing import Final

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ollama_exporter.web.locks.admission import Admission

MORE: Final = {
    HTTPStatus.UNAUTHORIZED: {"www-authenticate": "Basic"},
    HTTPStatus.SERVICE_UNAVAILABLE: {"retry-after": "1"},
}


class Guard:
    """An ASGI application in front of another one.

    `open_paths` need no password: an orchestrator's probes have none, and the answers say nothing.
    """

    def __init__(
        self, app: ASGIApp, admission: Admission, *, open_paths: frozenset[str] = frozenset()
    ) -> None:
        self._app, self._admission, self._open_paths = app, admission, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = self._admission.refusal() or await self._login(scope)
        if headers := self._admission.headers:
            send = _adding(send, [(x.lower().encode(), y.encode()) for x, y in headers])
        await (self._app if status is HTTPStatus.OK else _refuse(status))(scope, receive, send)

    async def _login(self, scope: Scope) -> HTTPStatus:
        admission = self._admission
        if not admission.has_users or scope["path"] in self._open_paths:
            return HTTPStatus.OK
        sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return admission.remembered(sent) or await admission.login(sent)


def _refuse(status: HTTPStatus) -> ASGIApp:
    return PlainTextResponse(f"{status.phrase}\n", status, headers=MORE.get(status))


def _adding(send: Send, added: list[tuple[bytes, bytes]]) -> Send:
    """Return a `send` that adds header fields to a response that lacks them."""

    async def adding(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            new = [(name, value) for name, value in added if name not in present]
            message["headers"] = [*message["headers"], *new]
        await send(message)

    return adding
