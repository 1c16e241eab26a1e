# SPDX-License-Identifier: Apache-2.0
"""What the poller publishes: one frozen value, so that every reader sees one moment.

A scrape or a page may be rendered while the poller is between two steps. Neither ever sees a server
that is up beside the listing of before an outage, because both are replaced at once.
"""

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from ollama_exporter.errors import FailureReason
from ollama_exporter.residency.events import View
from ollama_exporter.residency.facts import PollFailed, Snapshot


class ServerState(Struct, frozen=True):
    """The server as of the last poll. Moments are wall-clock Unix seconds."""

    up: bool = False
    version: str | None = None
    last_success: float | None = None
    last_duration: float | None = None
    polls: int = 0
    failures: Mapping[FailureReason, int] = field(default_factory=dict)
    installed: tuple[tuple[str, int], ...] | None = None  # name and bytes on disk; None: not known

    def after(self, poll: Snapshot | PollFailed, *, at: float) -> "ServerState":
        """Return the state after a poll; `at`: its end, in wall-clock Unix seconds."""
        up, failures = isinstance(poll, Snapshot), self.failures
        if isinstance(poll, PollFailed):
            failures = {**failures, poll.reason: failures.get(poll.reason, 0) + 1}
        return replace(
            self,
            up=up,
            polls=self.polls + 1,
            failures=failures,
            last_duration=poll.ended - poll.started,
            last_success=at if up else self.last_success,
        )


class Published(Struct, frozen=True):
    """All that is known of the server and its models at one moment."""

    server: ServerState
    view: View

    @property
    def is_listed(self) -> bool:
        """Whether the server answers, so that the view's models are what it lists."""
        return self.server.up and self.view.last_seen is not None
