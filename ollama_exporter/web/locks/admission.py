# SPDX-License-Identifier: Apache-2.0
"""Decides whether a request may pass: rate limit, users, and locks that have become void."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

from ollama_exporter.web.locks.passwords import Passwords, TooManyLoginsError
from ollama_exporter.web.locks.token_bucket import TokenBucket
from ollama_exporter.web.locks.web_config import WebConfig


class AdmissionMetrics(Protocol):
    """What is counted."""

    def login_refused(self) -> None:
        """Count a login."""

    def request_limited(self) -> None:
        """Count a request that was answered with 429 or 503."""


class Admission:
    """The locks of one port, as requests meet them."""

    def __init__(
        self,
        config: Callable[[], WebConfig | None],
        *,
        metrics: AdmissionMetrics,
        now: Callable[[], float],
        passwords: Passwords | None = None,
    ) -> None:
        """`config` returns the locks in use; None: their file has been unusable for too long."""
        self._config, self._metrics, self._now = config, metrics, now
        self._passwords = passwords or Passwords()
        self._bucket: TokenBucket | None = None

    @property
    def has_users(self) -> bool:
        """Whether requests need a password."""
        config = self._config()
        return config is None or bool(config.users)

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The fields that responses get."""
        config = self._config()
        return () if config is None else config.headers

    def refusal(self) -> HTTPStatus | None:
        """Return why no request may pass now; None: one may. Counts it."""
        config = self._config()
        if config is None:
            return HTTPStatus.SERVICE_UNAVAILABLE
        if not self._is_within_rate(config):
            self._metrics.request_limited()
            return HTTPStatus.TOO_MANY_REQUESTS
        return None

    def remembered(self, authorization: bytes) -> HTTPStatus | None:
        """Return the answer to a login; None: `login` has to check it, which takes its time."""
        config = self._config()
        if config is None:
            return HTTPStatus.SERVICE_UNAVAILABLE
        if not authorization:
            return HTTPStatus.UNAUTHORIZED  # not counted: browsers ask without a password first
        known = self._passwords.remembered(config.users, authorization)
        return None if known is None else self._answer(is_valid=known)

    async def login(self, authorization: bytes) -> HTTPStatus:
        """Check a password. It takes its time, in a thread."""
        config = self._config()
        if config is None:
            return HTTPStatus.SERVICE_UNAVAILABLE
        try:
            is_valid = await self._passwords.is_valid(config.users, authorization)
        except TooManyLoginsError:
            self._metrics.request_limited()
            return HTTPStatus.SERVICE_UNAVAILABLE
        return self._answer(is_valid=is_valid)

    def _answer(self, *, is_valid: bool) -> HTTPStatus:
        if is_valid:
            return HTTPStatus.OK
        self._metrics.login_refused()
        return HTTPStatus.UNAUTHORIZED

    def _is_within_rate(self, config: WebConfig) -> bool:
        if config.rate_limit is None:
            self._bucket = None
            return True
        if self._bucket is None or self._bucket.limit != config.rate_limit:
            self._bucket = TokenBucket(config.rate_limit, now=self._now())
        return self._bucket.is_allowed(self._now())
