# SPDX-License-Identifier: Apache-2.0
"""Requests that commands on this machine announce, as facts for the tracker."""

import asyncio
import math
from collections.abc import Callable
from typing import Final, Protocol

from ollama_exporter.config.target import is_same_server
from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.residency.facts import (
    RequestAnswered,
    RequestEnded,
    RequestFact,
    RequestStarted,
)

ANNOUNCE: Final = "/-/announce"  # where commands announce them
MOST_OPEN: Final = 64  # announced requests at a time; others are not heard
LONGEST: Final = 3600.0  # seconds; a command that was killed announces no end


class Announced(Protocol):
    """What a command announces: `web/announcements.py` has the meaning of each field."""

    id: str
    model: str
    url: str
    keep_alive: float | None
    num_ctx: int | None
    stop: bool
    longest: float

    @property
    def end(self) -> str | None:
        """How it ended: `answered` or `failed`; None: it begins."""


class AnnouncedRequests:
    """Reports announced requests of one server. Each ends by itself if its end is not heard."""

    def __init__(
        self, report: Callable[[RequestFact], None], now: Callable[[], float], url: str
    ) -> None:
        self._report, self._now, self._url = report, now, url
        self._open: dict[str, asyncio.TimerHandle] = {}

    def on_announced(self, request: Announced) -> bool:
        """Hear an announcement; return whether it is about this server."""
        if not is_same_server(request.url, self._url):
            return False
        if request.end is not None:
            self._end(request.id, answered=request.end == "answered")
        elif request.id not in self._open and len(self._open) < MOST_OPEN:
            self._begin(request)
        return True

    def _begin(self, request: Announced) -> None:
        kept = request.keep_alive
        fact = RequestStarted(
            self._now(),
            _fact_id(request.id),
            normalise(request.model),
            keep_alive=math.inf if kept is not None and kept < 0 else kept,
            num_ctx=request.num_ctx,
            stop=request.stop,
            announced=True,
        )
        self._report(fact)
        longest = min(LONGEST, max(0.0, request.longest))
        loop = asyncio.get_running_loop()
        self._open[request.id] = loop.call_later(longest, self._end, request.id)

    def _end(self, request_id: str, *, answered: bool = False) -> None:
        timer = self._open.pop(request_id, None)
        if timer is None:
            return
        timer.cancel()
        now, fact_id = self._now(), _fact_id(request_id)
        if answered:
            self._report(RequestAnswered(now, fact_id))
        self._report(RequestEnded(now, fact_id, failure=None if answered else Failure.OTHER))


def _fact_id(request_id: str) -> tuple[str, str]:
    return ("announced", request_id)
