# SPDX-License-Identifier: Apache-2.0
"""Stands before the routes: rate limit, header fields, passwords."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ollama_exporter.web.locks.passwords import Passwords, TooManyLoginsError
from ollama_exporter.web.locks.token_bucket import TokenBucket
from ollama_exporter.web.locks.web_config import WebConfig

CHALLENGE: Final = {"www-authenticate": "Basic"}


class GuardMetrics(Protocol):
    """What the guard counts."""

    def login_refused(self) -> None:
        """Count a login."""

    def request_limited(self) -> None:
        """Count a request that was answered with 429 or 503."""


class Guard:
    """An ASGI application in front of another one.

    `open_paths` need no password: an orchestrator's probes have none, and the answers say nothing.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: Callable[[], WebConfig | None],
        *,
        metrics: GuardMetrics,
        now: Callable[[], float],
        open_paths: frozenset[str] = frozenset(),
    ) -> None:
        """`config` returns the locks in use; None: their file has been unusable for too long."""
        self._app, self._config, self._metrics, self._now = app, config, metrics, now
        self._open_paths = open_paths
        self._passwords = Passwords()
        self._bucket: TokenBucket | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        config = self._config()
        if config is None:
            await _refuse(HTTPStatus.SERVICE_UNAVAILABLE)(scope, receive, send)
            return
        answer = await self._answer(scope, config)
        if config.headers:
            send = _adding(send, [(x.lower().encode(), y.encode()) for x, y in config.headers])
        await (self._app if answer is None else answer)(scope, receive, send)

    async def _answer(self, scope: Scope, config: WebConfig) -> ASGIApp | None:
        """Return the answer to a request that may not pass; None: it may."""
        if not self._is_within_rate(config):
            self._metrics.request_limited()
            return _refuse(HTTPStatus.TOO_MANY_REQUESTS)
        if not config.users or scope["path"] in self._open_paths:
            return None
        sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        try:
            if sent and await self._passwords.is_valid(config.users, sent):
                return None
        except TooManyLoginsError:
            self._metrics.request_limited()
            return _refuse(HTTPStatus.SERVICE_UNAVAILABLE, {"retry-after": "1"})
        if sent:  # browsers ask without a password first
            self._metrics.login_refused()
        return _refuse(HTTPStatus.UNAUTHORIZED, CHALLENGE)

    def _is_within_rate(self, config: WebConfig) -> bool:
        if config.rate_limit is None:
            self._bucket = None
            return True
        if self._bucket is None or self._bucket.limit != config.rate_limit:
            self._bucket = TokenBucket(config.rate_limit, now=self._now())
        return self._bucket.is_allowed(self._now())


def _refuse(status: HTTPStatus, headers: dict[str, str] | None = None) -> ASGIApp:
    return PlainTextResponse(f"{status.phrase}\n", status, headers=headers)


def _adding(send: Send, added: list[tuple[bytes, bytes]]) -> Send:
    """Return a `send` that adds header fields to a response that lacks them."""

    async def adding(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            new = [(name, value) for name, value in added if name not in present]
            message["headers"] = [*message["headers"], *new]
        await send(message)

    return adding
