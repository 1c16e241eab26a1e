# SPDX-License-Identifier: Apache-2.0
"""The rate limit: a token bucket, as in golang.org/x/time/rate."""

from ollama_exporter.web.locks.web_config import RateLimit


class TokenBucket:
    """Allows `burst` requests at once, and one more each `interval` seconds."""

    def __init__(self, limit: RateLimit, *, now: float) -> None:
        self.limit = limit
        self._tokens, self._at = float(limit.burst), now

    def is_allowed(self, now: float) -> bool:
        """Return whether a request may pass now; if so, count it."""
        gained = max(0.0, now - self._at) / self.limit.interval
        self._tokens, self._at = min(float(self.limit.burst), self._tokens + gained), now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
