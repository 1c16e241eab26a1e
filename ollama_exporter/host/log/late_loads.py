# SPDX-License-Identifier: Apache-2.0
"""Joins loads with the lines of the log that were read after them. Pure.

A poll may list a model before the line is read that says how long its load took, or before its
weights are known, by which that line is found. Servers before 0.30 list a model while it loads, so
their lines always come later.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from ollama_exporter.residency.events import Loaded
from ollama_exporter.residency.facts import LogKind, LogSaid

KEPT: Final = 64  # loads, and lines
LATEST: Final = 600.0  # seconds after the poll that listed a model; no load takes longer
SLACK: Final = 0.5  # seconds between the server's moments and ours
SAME_BEGIN: Final = 0.3  # seconds between the begin that two lines tell


class LateLoad(Struct, frozen=True):
    """The duration of a load that was counted without one. `ended`: on our timeline."""

    model: str
    seconds: float
    ended: float


class LateLoads:
    """Remembers loads without a duration. `weights_of`: of a digest; None: not known yet."""

    def __init__(self, weights_of: Callable[[str], str | None]) -> None:
        self._weights_of = weights_of
        self._pending: deque[Loaded] = deque(maxlen=KEPT)
        self._begun: deque[LogSaid] = deque(maxlen=KEPT)
        self._done: deque[LogSaid] = deque(maxlen=KEPT)

    def on_loaded(self, event: Loaded) -> None:
        """Note a load. If it has a duration, the line of the log that told it is spent."""
        if event.load_seconds is None:
            self._pending.append(event)
        else:
            self._take(event)

    def on_line(self, line: LogSaid) -> None:
        """Note a line."""
        if line.kind is LogKind.LOAD_STARTED and line.weights is not None:
            self._begun.append(line)
        elif line.kind is LogKind.LOAD_DONE and line.seconds is not None:
            self._done.append(line)

    def settle(self, now: float) -> list[LateLoad]:
        """Return the loads whose duration is known now, each once."""
        found: list[LateLoad] = []
        for event in list(self._pending):
            done = self._take(event)
            if done is not None:
                found.append(LateLoad(event.model.name, done.seconds or 0.0, done.written))
            if done is not None or now - event.settled_at > LATEST:
                self._pending.remove(event)
        return found

    def _take(self, event: Loaded) -> LogSaid | None:
        """Return the line that tells how long this load took, and forget it."""
        weights = self._weights_of(event.model.digest)
        if not weights:
            return None
        for done in self._done:
            began = done.written - (done.seconds or 0.0)
            if began > event.not_after + SLACK or done.written < event.not_before - SLACK:
                continue
            if any(
                line.weights == weights and abs(line.written - began) < SAME_BEGIN
                for line in self._begun
            ):
                self._done.remove(done)
                return done
        return None
