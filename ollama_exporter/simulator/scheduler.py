# SPDX-License-Identifier: Apache-2.0
"""The server's scheduler. Pure: no I/O, no clock, time is an argument.

As in the server, two loops share the runners. The *pending* loop handles one request at a time that
needs a load, a reload or memory, and blocks until that request has its runner. The *completed* loop
handles ended requests and expiries one by one, and blocks while it waits for the memory of the
runner that it has just unloaded. Therefore deadlines may be written late, and removals may be late.

Callers report what happens (`arrive`, `finish`, `leave`, `stop`, `crash`, `out_of_memory`), let
time pass (`advance`, `due`), and carry out `effects`. `truth` has what really happened.
"""

import itertools
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from ollama_exporter.simulator import placement
from ollama_exporter.simulator.completed_loop import CompletedLoop
from ollama_exporter.simulator.runners import Ended, Runners
from ollama_exporter.simulator.state import (
    Cause,
    Effect,
    Host,
    Listed,
    LoadRefused,
    QueuedRequest,
    Runner,
    ServerStarted,
    ServerStopped,
    Signal,
    TrueReason,
    Truth,
)

OUT_OF_MEMORY = (
    "llama-server process has terminated: cudaMalloc failed: out of memory\n"
    "CUDA error: out of memory"
)
LOAD_FAILED = "llama-server process has terminated: exit status 1"


class Scheduler:
    """The scheduler of one server, from its start to its stop."""

    def __init__(self, host: Host, at: float, *, pids: Iterator[int] | None = None) -> None:
        self.host = host
        self.effects: list[Effect] = []
        self.truth: list[Truth] = [ServerStarted(at)]
        self.failing_loads: deque[TrueReason] = deque()  # faults of the next loads
        self._now = at
        self._pids = pids or itertools.count(1000)
        self._runners = Runners(self.effects, self.truth)
        self._queue: deque[QueuedRequest] = deque()
        self._gone: set[int] = set()  # requests whose clients left while queued
        self._current: QueuedRequest | None = None  # the request of the pending loop
        self._loading: Runner | None = None
        self._load_ends = math.inf
        self._load_fails: TrueReason | None = None
        self._awaited = 0  # unload events for which the pending loop waits
        self._completed = CompletedLoop(host, self._runners)

    # -- what happens ---------------------------------------------------------------------------

    def arrive(self, now: float, request: QueuedRequest) -> None:
        """Accept a request. A loaded and compatible runner serves it at once, past the queue."""
        self.advance(now)
        runner = self._runners.by_key.get(request.key)
        if runner and not runner.loading and not placement.needs_reload(runner, request):
            self._runners.grant(now, runner, request)
        elif len(self._queue) >= self.host.max_queue:
            self.effects.append(LoadRefused(request.id, now, 503, placement.SERVER_BUSY))
        else:
            self._queue.append(request)
        self._settle()

    def finish(self, now: float, request_id: int) -> None:
        """End a request that has a runner: it was answered, failed, or its client left."""
        self.advance(now)
        runner = self._runners.release(now, request_id)
        self._completed.put(Ended(runner, request_id))
        self._settle()

    def leave(self, now: float, request_id: int) -> None:
        """End a request whose client left, in any state."""
        self.advance(now)
        if self._runners.serves(request_id):
            self.finish(now, request_id)
        elif self._current is not None and self._current.id == request_id and self._loading:
            self._abandon_load()
            self._settle()
        elif self._pending(request_id):
            self._gone.add(request_id)

    def stop(self, now: float, key: str) -> None:
        """Serve an empty request with keep_alive 0. The deadline becomes now, even if busy."""
        self.advance(now)
        runner = self._runners.by_key.get(key)
        if runner is not None:
            runner.expires_at = now
            self._completed.unload_when_idle(runner, Cause(TrueReason.STOPPED, now))
            self._settle()

    def crash(self, now: float, key: str) -> list[int]:
        """Crash the runner, which stays listed. Return the requests that fail."""
        self.advance(now)
        runner = self._runners.by_key.get(key)
        if runner is None or runner.loading or runner.crashed_at is not None:
            return []
        runner.crashed_at = now
        return [*runner.active, *runner.waiting]

    def abort_load(self, now: float) -> None:
        """Fail the load under way: its process died."""
        self.advance(now)
        if self._loading is not None:
            self._fail_load(TrueReason.CRASHED)
            self._settle()

    def out_of_memory(self, now: float, key: str) -> list[int]:
        """Let a runner run out of memory during an answer: the server expires all runners."""
        failed = self.crash(now, key)
        if failed:
            for runner in list(self._runners.by_key.values()):
                self._completed.unload_when_idle(runner, Cause(TrueReason.OUT_OF_MEMORY, now))
            self._settle()
        return failed

    def shut_down(self, now: float, signal: Signal) -> None:
        """Stop the server and its runners."""
        self.advance(now)
        for runner in list(self._runners.by_key.values()):
            self._runners.remove(now, runner, Cause(TrueReason.SERVER_RESTARTED, now))
        self.truth.append(ServerStopped(now, signal))

    # -- what can be seen -----------------------------------------------------------------------

    def listed(self, now: float) -> list[Listed]:
        """Return what `/api/ps` shows, in no order."""
        self.advance(now)
        return self._runners.listed(now)

    @property
    def runners(self) -> tuple[Runner, ...]:
        """The loaded runners. Before 0.30 a loading one is among them."""
        return tuple(self._runners.by_key.values())

    @property
    def loading(self) -> str | None:
        """The name of the model that is being loaded."""
        return None if self._loading is None else self._loading.name

    def processes(self) -> dict[int, Runner]:
        """Return each runner that has a process, by pid."""
        return self._runners.processes(self._loading)

    def runner_of(self, request_id: int) -> Runner | None:
        """Return the runner that serves a request; None: none does."""
        return self._runners.of(request_id)

    @property
    def queued(self) -> int:
        """The number of requests that wait for the pending loop."""
        return len(self._queue)

    # -- time -----------------------------------------------------------------------------------

    def due(self) -> float:
        """Return the next moment at which something falls due; inf: never."""
        return min(self._load_ends, self._completed.blocked_until, self._runners.next_timer())

    def advance(self, now: float) -> None:
        """Let time pass until `now`, and do what falls due at its moment."""
        self._settle()
        while (due := self.due()) <= now:
            self._now = max(self._now, due)
            if due == self._load_ends:
                self._end_load()
            elif due == self._completed.blocked_until:
                self._completed.go_on()
            else:
                self._completed.put(self._runners.fire_timer(due))
            self._settle()
        self._now = max(self._now, now)

    def _settle(self) -> None:
        """Run both loops as far as they can at this moment."""
        while (
            self._completed.step(self._now, loading=self._loading is not None)
            or self._pending_step()
        ):
            pass

    # -- the pending loop -----------------------------------------------------------------------

    def _pending_step(self) -> bool:
        if self._loading is not None:
            return False
        if self._current is None:
            return self._start_next()
        if self._awaited:
            taken = self._completed.take_unloads(self._awaited)
            self._awaited -= taken
            if not taken or self._awaited:
                return False
        self._place(self._current)
        return True

    def _start_next(self) -> bool:
        self._completed.unloads = 0  # ignored while nothing is pending
        if not self._queue:
            return False
        request = self._queue.popleft()
        if request.id in self._gone:
            self._gone.discard(request.id)
        else:
            self._current = request
        return True

    def _place(self, request: QueuedRequest) -> None:
        """Serve the request, load for it, or unload a runner and wait for any unload event."""
        by_key = self._runners.by_key
        runner = by_key.get(request.key)
        if runner is not None:
            if not placement.needs_reload(runner, request):
                self._current = None
                self._serve(runner, request)
                return
            crashed = runner.crashed_at is not None
            reason = TrueReason.CRASHED if crashed else TrueReason.OPTIONS_CHANGED
            self._evict(runner, Cause(reason, self._now, request=request.id))
        elif len(by_key) >= self.host.max_loaded or (
            by_key and not placement.fits_beside(self.host, by_key.values(), request)
        ):
            chosen = placement.victim(by_key.values())
            assert chosen is not None  # noqa: S101 - the list is not empty here
            reason = TrueReason.REPLACED if chosen.name == request.name else TrueReason.EVICTED
            self._evict(chosen, Cause(reason, self._now, request.name, request.id))
        else:
            self._start_load(request)

    def _evict(self, runner: Runner, cause: Cause) -> None:
        self._completed.unload_when_idle(runner, cause)
        self._awaited = 1

    def _serve(self, runner: Runner, request: QueuedRequest) -> None:
        self._runners.grant(self._now, runner, request)
        if request.id in self._gone:  # its client left meanwhile
            self._gone.discard(request.id)
            self._completed.put(Ended(self._runners.release(self._now, request.id), request.id))

    # -- loading --------------------------------------------------------------------------------

    def _start_load(self, request: QueuedRequest) -> None:
        if request.id in self._gone:
            self._gone.discard(request.id)
            self._current = None
            return
        self._loading = placement.new_runner(
            self.host, self._runners.by_key.values(), request, pid=next(self._pids), now=self._now
        )
        self._load_fails = self.failing_loads.popleft() if self.failing_loads else None
        # a load fails when it allocates, half-way
        self._load_ends = self._now + request.file.load_seconds * (0.5 if self._load_fails else 1.0)
        if self.host.generation == "old":
            self._runners.by_key[request.key] = self._loading

    def _finish_load(self) -> tuple[Runner, QueuedRequest]:
        """End the load. Return its runner and its request."""
        runner, request = self._loading, self._current
        assert runner is not None and request is not None  # noqa: S101, PT018 - callers load
        self._loading = self._current = None
        self._load_ends = math.inf
        return runner, request

    def _abandon_load(self) -> QueuedRequest:
        """Abort the load and return its request."""
        _, request = self._finish_load()
        if self.host.generation == "old":
            del self._runners.by_key[request.key]
        return request

    def _end_load(self) -> None:
        if self._load_fails is not None:
            self._fail_load(self._load_fails)
            return
        runner, request = self._finish_load()
        self._runners.add(self._now, runner, request.id)
        self._runners.grant(self._now, runner, request)

    def _fail_load(self, how: TrueReason) -> None:
        """Refuse the request, or retry once after an out of memory: alone, with less context."""
        request = self._abandon_load()
        others = list(self._runners.by_key.values())
        if how is not TrueReason.OUT_OF_MEMORY or request.oom_retried:
            text = OUT_OF_MEMORY if how is TrueReason.OUT_OF_MEMORY else LOAD_FAILED
            self.effects.append(LoadRefused(request.id, self._now, 500, text))
            return
        lower = None
        if request.options.num_ctx_auto:
            lower = placement.next_lower_context(placement.effective_context(request))
        if lower is None and not others:
            self.effects.append(LoadRefused(request.id, self._now, 500, OUT_OF_MEMORY))
            return
        if lower is not None:
            request.options = replace(request.options, num_ctx=lower)
        request.oom_retried = True
        self._current = request
        for runner in others:
            self._completed.unload_when_idle(
                runner, Cause(TrueReason.EVICTED, self._now, request.name, request.id)
            )
        self._awaited = len(others)

    def _pending(self, request_id: int) -> bool:
        current = self._current is not None and self._current.id == request_id
        return current or any(request.id == request_id for request in self._queue)
