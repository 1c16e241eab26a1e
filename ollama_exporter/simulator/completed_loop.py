# SPDX-License-Identifier: Apache-2.0
"""The loop that handles ended requests and expiries one by one, and waits for freed memory.

While it waits it handles nothing else, so deadlines are written late and removals are late too.
"""

import math
from collections import deque

from ollama_exporter.simulator.runners import Ended, Event, Runners
from ollama_exporter.simulator.state import Cause, Host, Runner


class CompletedLoop:
    """The queue of events, the wait for memory, and the unload events for the pending loop."""

    def __init__(self, host: Host, runners: Runners) -> None:
        self.blocked_until = math.inf  # until when it waits for freed memory; inf: it does not wait
        self.unloads = 0  # unload events that the pending loop has not taken yet
        self._host = host
        self._runners = runners
        self._events: deque[Event] = deque()

    def put(self, event: Event) -> None:
        """Queue an event."""
        self._events.append(event)

    def unload_when_idle(self, runner: Runner, cause: Cause) -> None:
        """Set keep-alive 0 and unload when idle. The listed deadline stays as it is."""
        runner.timer = None
        runner.session = 0.0
        if runner.cause is None:
            runner.cause = cause
        if runner.refs == 0 and not runner.loading:
            self.put(self._runners.begin_expiry(runner))

    def step(self, now: float, *, loading: bool) -> bool:
        """Handle one event; False: no event is left, or the loop waits for memory."""
        if self.blocked_until < math.inf or not self._events:
            return False
        event = self._events.popleft()
        if isinstance(event, Ended):
            again = self._runners.ended(now, event)
            if again is not None:
                self.put(again)
        elif self._runners.expire(now, event.runner):
            wait = self._memory_wait(event.runner, loading=loading)
            if wait > 0:
                self.blocked_until = now + wait
            else:
                self.unloads += 1
        return True

    def go_on(self) -> None:
        """End the wait for memory."""
        self.blocked_until = math.inf
        self.unloads += 1

    def take_unloads(self, most: int) -> int:
        """Remove up to `most` unload events and return how many there were."""
        taken = min(most, self.unloads)
        self.unloads -= taken
        return taken

    def _memory_wait(self, gone: Runner, *, loading: bool) -> float:
        """Return how long the loop waits: the full time if another runner is loaded."""
        if not self._host.gpu or gone.size_vram == 0:
            return 0.0
        alone = not self._runners.by_key and not loading
        return self._host.convergence if alone else self._host.recovery
