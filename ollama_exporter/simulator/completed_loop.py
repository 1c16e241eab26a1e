# SPDX-License-Identifier: Apache-2.0
"""The loop that handles ended requests and expiries, one by one, and waits for freed memory.

While it waits nothing else is handled: deadlines are written late, removals trail theirs.
"""

import math
from collections import deque

from ollama_exporter.simulator.runners import Ended, Event, Runners
from ollama_exporter.simulator.state import Cause, Host, Runner


class CompletedLoop:
    """Queue, wait, and the unload events that the pending loop takes."""

    def __init__(self, host: Host, runners: Runners) -> None:
        self.blocked_until = math.inf  # the wait for freed memory; inf: none
        self.unloads = 0  # unload events that nobody has taken yet
        self._host = host
        self._runners = runners
        self._events: deque[Event] = deque()

    def put(self, event: Event) -> None:
        """Queue an event."""
        self._events.append(event)

    def condemn(self, runner: Runner, cause: Cause) -> None:
        """Keep-alive 0 and out when idle; the deadline on the list stays as it was."""
        runner.timer = None
        runner.session = 0.0
        if runner.cause is None:
            runner.cause = cause
        if runner.refs == 0 and not runner.loading:
            self.put(self._runners.doom(runner))

    def step(self, now: float, *, loading: bool) -> bool:
        """Handle one event; False: there is none, or the loop waits for memory."""
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
        """Take up to `most` unload events; returns how many there were."""
        taken = min(most, self.unloads)
        self.unloads -= taken
        return taken

    def _memory_wait(self, gone: Runner, *, loading: bool) -> float:
        """Full when another runner is there: free memory is then their own account of it."""
        if not self._host.gpu or gone.size_vram == 0:
            return 0.0
        alone = not self._runners.by_key and not loading
        return self._host.convergence if alone else self._host.recovery
