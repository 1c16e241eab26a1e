# SPDX-License-Identifier: Apache-2.0
"""What the server's log says about its runners.

At debug level it names every decision, so the reason of an unload is known. At the default level it
shows loads to the millisecond, out-of-memory, crashes and that room is needed, without names. A
line may be missing or wrong, so polls and processes decide what happened, and the log only why.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.facts import LogKind, LogSaid

MOST_RUNNERS: Final = 256
MOST_LINES: Final = 256


class LoggedRunner(Struct):
    """One runner as the log shows it. Moments are those of its lines, on our timeline."""

    pid: int
    model: str | None = None
    weights: str | None = None
    reloading: float | None = None
    num_ctx: int | None = None
    due: Reason | None = None  # why it is to be unloaded
    due_at: float = 0.0
    busy: bool = False  # when it became due
    timer: bool = False
    expiring: bool = False
    killed: bool = False
    closed: bool = False  # a request found it dead
    ran_out: bool = False  # of memory, itself

    def observe(self, line: LogSaid) -> None:
        """Follow a line that names it."""
        match line.kind:
            case LogKind.IDLE:  # it goes on
                self.due, self.reloading, self.timer = None, None, False
            case LogKind.RELOADING:
                self.reloading = line.written
            case LogKind.EVICTING:
                again = self.reloading is not None
                again = again and line.written - (self.reloading or 0.0) < timings.SAME_DECISION
                self.become_due(line.written, Reason.OPTIONS_CHANGED if again else Reason.EVICTED)
            case LogKind.IDLE_AT_ZERO:
                self.busy = True
            case LogKind.TIMER_EXPIRED:
                self.timer = True
            case LogKind.EXPIRING:
                self.expiring, self.killed = True, False
            case LogKind.KILLED:
                self.killed = True
            case LogKind.CLOSED:
                self.closed |= not self.expiring

    def become_due(self, at: float, reason: Reason) -> None:
        """Note why it is to be unloaded. The first cause stands until the runner goes on."""
        if self.due is None:
            self.due, self.due_at = reason, at


class LoggedUnload(Struct, frozen=True):
    """An unload, as the log shows it."""

    at: float
    model: str | None
    weights: str | None
    reason: Reason
    runner: LoggedRunner


class LogEvidence:
    """Remembers what the log said lately."""

    def __init__(self) -> None:
        self.followed = False  # a line was read that the server wrote itself
        self.detailed = False  # it is at debug level: an absence means something
        self.read_to = 0.0  # moment of the latest line
        self.contradictions = 0
        self._ran_out = 0.0  # when a runner last ran out of memory: all others are to be unloaded
        self._logs_kills = False  # from 0.30 on: a kill that is not logged did not happen
        self._runners: OrderedDict[int, LoggedRunner] = OrderedDict()
        self._names: BoundedDict[str, str] = BoundedDict(MOST_RUNNERS)  # weights -> name
        self._unloads: deque[LoggedUnload] = deque(maxlen=MOST_LINES)
        self._lines: deque[LogSaid] = deque(maxlen=MOST_LINES)

    def observe(self, line: LogSaid) -> None:
        """Read a line, in the order in which they were written."""
        self.followed = True
        self.read_to = max(self.read_to, line.written)
        match line.kind:
            case LogKind.SERVER_STARTED:
                self._runners.clear()
                self._ran_out = 0.0
            case LogKind.OUT_OF_MEMORY:
                self._ran_out = line.written
                for runner in self._runners.values():
                    runner.ran_out |= runner.weights == line.weights
                    runner.become_due(line.written, Reason.OUT_OF_MEMORY)
            case LogKind.SHUT_DOWN:
                # Requests in flight were given up first; that is no reason of its own.
                shutdown = line.written - timings.LOGGED_SHUTDOWN
                while self._unloads and self._unloads[-1].at > shutdown:
                    self._unloads.pop()
                self._runners.clear()
        if line.pid is None:
            self._lines.append(line)
        else:
            self.detailed = True
            self._observe_runner(line, line.pid)

    def _observe_runner(self, line: LogSaid, pid: int) -> None:
        runner = self._runners.get(pid)
        if runner is None:
            runner = self._runners[pid] = LoggedRunner(pid)
            if self._ran_out and line.kind is not LogKind.SET_UP:  # older than what was read
                runner.become_due(self._ran_out, Reason.OUT_OF_MEMORY)
        runner.model, runner.weights = line.model or runner.model, line.weights or runner.weights
        runner.num_ctx = line.num_ctx or runner.num_ctx
        if line.model is not None and line.weights is not None:
            self._names[line.weights] = line.model
        if line.kind is LogKind.REMOVED:
            del self._runners[pid]
            self._unloads.append(self._unload(runner, line.written))
        else:
            self._logs_kills |= line.kind is LogKind.KILLED
            runner.observe(line)
        while len(self._runners) > MOST_RUNNERS:
            self._runners.popitem(last=False)

    def _unload(self, runner: LoggedRunner, at: float) -> LoggedUnload:
        """Return why it was unloaded, from what was logged on the way: the first cause stands."""
        dead = runner.closed or (self._logs_kills and not runner.killed)
        if dead and not runner.ran_out and not (runner.due and runner.busy):
            reason = Reason.CRASHED
        elif runner.due is not None:
            reason = runner.due
        else:
            reason = Reason.EXPIRED if runner.timer else Reason.STOPPED
        return LoggedUnload(at, runner.model, runner.weights, reason, runner)

    def compare(self, listed: Mapping[str, float], since: float, until: float) -> None:
        """Count the unloads that a listing contradicts. `listed`: name -> since when, at `until`.

        `since`: when the listing before was made, which was compared already.
        """
        for unload in self._unloads:
            begun, follows = listed.get(unload.model or ""), unload.at + timings.LISTING_FOLLOWS
            if begun is None or not since < follows <= until or begun > unload.at:
                continue
            again = self.moments(LogKind.LOAD_STARTED, unload.at, until)
            self.contradictions += not any(line.weights == unload.weights for line in again)

    # -- questions -------------------------------------------------------------------------------

    def behind(self, moment: float, now: float) -> bool:
        """Return whether lines of that moment may still be to come."""
        return self.followed and self.read_to < moment and now < moment + timings.LOG_LAG

    def due_before(self, weights: str, moment: float) -> Reason | None:
        """Return why a runner was to be unloaded already at that moment, if the log said so."""
        gone = (unload.runner for unload in self._unloads if unload.at >= moment)
        runners = (x for x in [*gone, *self._runners.values()] if x.weights == weights)
        return next((x.due for x in runners if x.due and x.due_at < moment), None)

    def next_load(self, at: float) -> tuple[str, str | None] | None:
        """Return weights and name of what was loaded next. None: nothing, before a restart."""
        for line in self._lines:
            if line.kind is LogKind.SERVER_STARTED and line.written >= at:
                return None
            if line.kind is LogKind.LOAD_STARTED and line.written >= at and line.weights:
                return line.weights, self._names.get(line.weights)
        return None

    def load_time(self, weights: str, until: float) -> float | None:
        """Return how long the latest load of those weights took, by the server's own figure."""
        begun = self.moments(LogKind.LOAD_STARTED, until - timings.LONGEST_LOAD, until)
        starts = [line.written for line in begun if line.weights == weights]
        if not starts:
            return None
        done = self.moments(LogKind.LOAD_DONE, starts[-1], until)
        took = (x.seconds for x in done if x.seconds and _began_at(x, starts[-1]))
        return next(took, None)

    def loaded(self, born: float, died: float) -> bool | None:
        """Return whether the load that began at `born` was done. None: no log is followed."""
        if not self.followed:
            return None
        done = self.moments(LogKind.LOAD_DONE, born, died + timings.SAME_DECISION)
        return any(_began_at(line, born) for line in done)

    def moments(self, kind: LogKind, low: float, high: float) -> list[LogSaid]:
        """Return the lines of a kind that name no process, within these bounds."""
        return [x for x in self._lines if x.kind is kind and low <= x.written <= high]

    def unload(
        self,
        low: float,
        high: float,
        *,
        model: str | None = None,
        weights: str | None = None,
        pid: int | None = None,
        context: int | None = None,
    ) -> LoggedUnload | None:
        """Return the first unload of a model, or of weights, within these bounds.

        `pid`: only of this process. `context`: of several, the one that had this context is meant.
        """
        found = [
            unload
            for unload in self._unloads
            if low <= unload.at <= high
            and pid in (None, unload.runner.pid)
            and (unload.weights == weights if weights is not None else unload.model == model)
        ]
        meant = (unload for unload in found if unload.runner.num_ctx == context)
        return next(meant, found[0] if found else None)


def _began_at(done: LogSaid, moment: float) -> bool:
    """Return whether the load that this line reports as done began at that moment."""
    return abs(done.written - (done.seconds or 0.0) - moment) < timings.LOGGED_BIRTH
