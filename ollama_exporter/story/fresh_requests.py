# SPDX-License-Identifier: Apache-2.0
"""Finished requests of which the history has made no record yet. Pure.

Of the thousands of a busy second few are ever looked at, so each is only counted, and kept while
it is one of the last.
"""

import math
from collections import deque
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from ollama_exporter.shim.observation import Observation, Outcome, Start

FAILED: Final = frozenset(Outcome) - {Outcome.ANSWERED, Outcome.CLIENT_GONE}
MINUTE: Final = 60.0
PART: Final = 0.0005  # seconds: less is no part of a wait


class MinuteCount(Struct):
    """The requests of one model in one minute."""

    cold: int = 0
    warm: int = 0
    failed: int = 0


class Fresh(Struct, frozen=True):
    """What has ended since the last look, with the models' names."""

    requests: deque[tuple[Observation, str]]  # the last ones
    minutes: dict[tuple[str, float], MinuteCount]  # of all, by the beginning of the minute
    speeds: dict[str, float]  # tokens per second of the last answer
    has_skipped: bool  # there were more than are kept


class FreshRequests:
    """Keeps the last `most` requests, and counts all."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._requests: deque[tuple[Observation, str]] = deque()
        self._minutes: dict[tuple[str, float], MinuteCount] = {}
        self._speeds: dict[str, float] = {}
        self._has_skipped = False

    def __len__(self) -> int:
        """Return for how many models and minutes there is a count."""
        return len(self._minutes)

    def add(self, seen: Observation, model: str) -> None:
        """Add a finished request."""
        key = (model, seen.began - seen.began % MINUTE)
        count = self._minutes.get(key)
        if count is None:
            count = self._minutes[key] = MinuteCount()
        if seen.outcome in FAILED:
            count.failed += 1
        elif seen.start is Start.COLD:
            count.cold += 1
        else:
            count.warm += 1
        tokens, seconds = seen.response.output_tokens, seen.response.eval
        if tokens and seconds:
            self._speeds[model] = tokens / seconds
        self._requests.append((seen, model))
        if len(self._requests) > self._most:
            self._requests.popleft()
            self._has_skipped = True

    def take(self) -> Fresh:
        """Return what there is, and begin anew."""
        fresh = Fresh(self._requests, self._minutes, self._speeds, self._has_skipped)
        self._requests, self._minutes, self._speeds = deque(), {}, {}
        self._has_skipped = False
        return fresh


def parts_of(seen: Observation) -> Iterator[tuple[str, float]]:
    """Yield what the time of a request was made of, in order of time."""
    read, left = seen.response, seen.duration
    named = [
        ("load", seen.load_wait),
        ("queue", seen.unaccounted),
        ("prompt", read.prompt_eval),
        ("answer", read.eval),
    ]
    if read.eval is None and read.total is None and seen.time_to_first_token is not None:
        # OpenAI's and Anthropic's formats have no durations: only the first word is seen.
        named = [("first word", seen.time_to_first_token), ("answer", math.inf)]
    for name, seconds in named:
        part = min(left, seconds or 0.0)
        if part >= PART:
            yield name, part
            left -= part
    if left >= PART:
        yield "other", left
