# SPDX-License-Identifier: Apache-2.0
"""What the end of a connection says about the server: sometimes a restart, often nothing.

Ollama itself never closes an idle connection (routes.go:2009-2019 sets no timeouts), so on a direct
path its end means a restart. A proxy or a balancer between closes connections every day: haproxy
and uvicorn after some seconds, nginx after some number of requests. So the habit of this path is
learned, and a connection that ends by habit proves nothing.
"""

from collections import deque
from typing import Final

from ollama_exporter.errors import FailureReason

WATCHED: Final = 50  # answered polls over which the habit is learned
HABIT: Final = 2  # ends without a restart that make a habit,
HABIT_SHARE: Final = 0.1  # if they are at least this share of the polls
LOST: Final = frozenset({FailureReason.REFUSED, FailureReason.RESET, FailureReason.UNREACHABLE})


class ConnectionEnds:
    """Notes how connections end between two answered polls, and learns what that means here."""

    def __init__(self) -> None:
        self.refused = False  # a poll was refused since the last answered one
        self.failed_at: float | None = None  # end of the first one that was refused or reset
        self._closed_by_us = False
        self._harmless: deque[bool] = deque(maxlen=WATCHED)

    def on_failed_poll(self, reason: FailureReason, ended: float) -> None:
        """Note a failed poll."""
        if reason is FailureReason.UNREACHABLE and self._closed_by_us:
            return  # the network is gone, and our own connection had timed out before
        if reason in LOST:
            self.failed_at = self.failed_at or ended
            self.refused |= reason is FailureReason.REFUSED
        else:
            self._closed_by_us = True

    def is_lost(self, *, new_connection: bool) -> bool:
        """Return whether the connection of the poll before was ended, and not by us.

        `new_connection`: this poll had to open one.
        """
        return self.failed_at is not None or (new_connection and not self._closed_by_us)

    def on_poll(self, *, lost: bool, restarted: bool) -> None:
        """Learn from an answered poll, and begin anew."""
        self._harmless.append(lost and not restarted)
        self.refused, self.failed_at, self._closed_by_us = False, None, False

    def on_restore(self) -> None:
        """Note that the connection of an earlier process ended with it."""
        self._closed_by_us = True

    @property
    def habitual(self) -> bool:
        """Whether connections end on this path without a restart."""
        ends = sum(self._harmless)
        return ends >= HABIT and ends >= HABIT_SHARE * len(self._harmless)
