# SPDX-License-Identifier: Apache-2.0
"""One exit and all that is known around it at the moment of judging."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.evidence.exit_requests import ExitRequests, RequestCause
from ollama_exporter.residency.evidence.log_lines import LogEvidence, LoggedUnload
from ollama_exporter.residency.evidence.process_exits import ProcessExit, ProcessExits
from ollama_exporter.residency.evidence.requests import SeenRequest
from ollama_exporter.residency.evidence.runner_processes import RunnerProcess, RunnerProcesses
from ollama_exporter.residency.facts import LogKind, LogSaid
from ollama_exporter.residency.incarnation import Incarnation, Key
from ollama_exporter.residency.poll_unloads import Room

MOST_DROPPED: Final = 4  # that leave one after the other
OWN_CAUSES: Final = frozenset({Reason.EXPIRED, Reason.STOPPED})  # nothing waited for its room


@dataclass(frozen=True)
class ExitEvidence:
    """What the rules look at. `scanned`: all births up to this moment are known."""

    exited: ProcessExit
    now: float
    scanned: float
    scans: bool  # scans are reported; else a birth is known after a while
    polled: float  # start of the last answered poll
    exits: ProcessExits
    runners: RunnerProcesses
    requests: ExitRequests
    room: Room
    shown: Mapping[str, RunningModel]  # weights -> the model as last listed
    lives: Mapping[Key, Incarnation]
    window: float  # seconds for which evidence is waited for
    log: LogEvidence

    @property
    def born(self) -> float:
        """Birth of the process."""
        return self.exited.runner.born

    @property
    def over(self) -> bool:
        """Whether the window in which evidence is waited for is over."""
        return self.now >= self.exited.at + self.window

    @cached_property
    def queue_start(self) -> float:
        """Since when one unload followed the other without a pause."""
        return self._queue_start(self.exited)

    def _queue_start(self, exited: ProcessExit) -> float:
        return self.exits.queue_start(exited, [runner.born for runner in self.runners.all])

    @property
    def another_is_due(self) -> bool:
        """Whether another model that was never idle will be unloaded when its requests end."""
        return any(life.at_now for life in self.lives.values())

    @cached_property
    def at_load_end(self) -> bool:
        """Whether a load ended at that very moment, as far as polls can tell."""
        at = self.exited.at
        if self.log.followed:
            done = self.log.moments(LogKind.LOAD_DONE, at - timings.VICTIM_AT_LOAD_END, at + 0.005)
            return bool(done)
        near = timings.LOAD_POLLS
        return any(
            at - near <= runner.unlisted < at <= ended <= at + near
            for runner in self.runners.all
            if runner is not self.exited.runner
            and runner.unlisted is not None
            and (ended := runner.listed or runner.died) is not None
        )

    def births_known(self, moment: float) -> bool:
        """Return whether all processes that were born by then are known."""
        wait = timings.SCAN_HANGS if self.scans else timings.SCAN
        return self.scanned >= moment or self.now >= moment + wait

    # -- the log ---------------------------------------------------------------------------------

    @cached_property
    def logged_unload(self) -> LoggedUnload | None:
        """This unload as the log shows it, at debug level."""
        at, near, late = self.exited.at, timings.LOGGED_WITHIN, timings.NOTICED_LATE
        runner = self.exited.runner
        own = self.log.unload(at - late, at + near, weights=runner.weights, pid=runner.pid)
        return own or self.log.unload(at - near, at + near, weights=runner.weights)

    def logged(self, kind: LogKind, around: float) -> list[LogSaid]:
        """Return the lines of a kind that were written at about the moment of the exit."""
        at = self.exited.at
        return self.log.moments(kind, at - around, at + around)

    @property
    def logged_death(self) -> bool:
        """Whether the log says that a runner ended by itself, and this exit is the nearest."""
        lines = self.logged(LogKind.RUNNER_DIED, timings.LOGGED_WITH)
        return any(
            abs(line.written - self.exited.at)
            == min(abs(line.written - x.at) for x in self.exits.recent)
            for line in lines
        )

    # -- requests --------------------------------------------------------------------------------

    @cached_property
    def request_cause(self) -> RequestCause | None:
        """The reason that the requests seen give."""
        return self.requests.cause(self.exited, queue_start=self.queue_start)

    @cached_property
    def demand(self) -> SeenRequest | None:
        """The oldest request that was waiting for a load."""
        return self.requests.demand(self.exited)

    @cached_property
    def first_in_line(self) -> SeenRequest | None:
        """The oldest request that was waiting at all, if surely for a load."""
        return self.requests.first_in_line(self.exited)

    def waited_in_vain(self, since: float) -> bool:
        """Return whether a request waited from then on although the scheduler was free."""
        free = self.exited.at - timings.PROMPT
        queued = self.queue_start < self.exited.at
        return since < free and not queued and not self.runners.busy(free, self.exited.at)

    # -- births ----------------------------------------------------------------------------------

    def births(self, low: float, high: float) -> list[RunnerProcess]:
        """Return the processes that were born within these bounds, without this one."""
        own = self.exited.runner
        return [r for r in self.runners.all if low <= r.born <= high and r is not own]

    @cached_property
    def next_birth(self) -> RunnerProcess | None:
        """The process that the same server started next."""
        died, at = self.exits.server_died, self.exited.at
        newborn = next(iter(self.births(at - timings.SAME_MOMENT, self.now)), None)
        if newborn is not None and died is not None and at < died < newborn.born:
            return None
        return newborn

    @property
    def next_weights(self) -> str | None:
        """Weights of what was started next, by processes or by the log."""
        at = self.exited.at
        logged = self.log.moments(LogKind.LOAD_STARTED, at, self.now)
        if logged and logged[0].weights is not None:
            return logged[0].weights
        return None if self.next_birth is None else self.next_birth.weights

    @cached_property
    def chain(self) -> list[ProcessExit]:
        """The unloads between this one and the next birth."""
        died, at, newborn = self.exits.server_died, self.exited.at, self.next_birth
        return [
            other
            for other in self.exits.after(self.exited)
            if not (died is not None and at < died <= other.at)
            and (newborn is None or other.at < newborn.born - timings.SAME_MOMENT)
        ]

    @property
    def follower(self) -> ProcessExit | None:
        """The next unload, if it can be that of a further victim of the same load."""
        if not self.chain or self.runners.loading(self.exited.at):
            return None
        follower = self.chain[0]
        usual = self.exits.memory_wait.usual(follower.at - self.exited.at)
        return follower if usual or not follower.life.written else None

    def occupied(self, newborn: RunnerProcess) -> bool:
        """Return whether that birth cannot follow from this exit, whatever the time between them.

        Something was loading then; or it follows from an earlier eviction, and this unload only
        came at the end of that one's wait.
        """
        at = self.exited.at
        if self.runners.loading(at):
            return True
        if newborn.weights != self.exited.runner.weights and any(
            runner.weights == newborn.weights and runner.lived(at) for runner in self.runners.all
        ):
            return True  # it was loaded then, so nothing needed room for it
        if (
            abs(newborn.born - at) > timings.SAME_MOMENT
            or newborn.weights == self.exited.runner.weights
        ):
            return False
        if self.exits.memory_wait.usual(0.0):
            return False
        return any(
            other is not self.exited
            and not other.listed_dead
            and other.reason not in OWN_CAUSES
            and timings.SAME_MOMENT < newborn.born - other.at <= timings.MEMORY_WAIT
            and self.exits.memory_wait.usual(newborn.born - other.at)
            and self._is_next_after(other, newborn)
            for other in self.exits.recent
        )

    def _is_next_after(self, other: ProcessExit, newborn: RunnerProcess) -> bool:
        """Return whether nothing else was started between that exit and that birth."""
        low, high = other.at - timings.SAME_MOMENT, newborn.born
        own = (other.runner, newborn)
        return not any(low <= r.born < high and r not in own for r in self.runners.all)

    def answers(self, newborn: RunnerProcess) -> bool | None:
        """Return whether that runner was started because of this exit. None: it cannot be known."""
        at, gap = self.exited.at, newborn.born - self.exited.at
        if self.occupied(newborn):
            return False
        if abs(gap) <= timings.SAME_MOMENT and not self.exits.memory_wait.none:
            return True  # something else woke the scheduler, and this room let it go on
        slower = any(
            x.listed_dead and x.at < newborn.born and (x.removed is None or x.removed > at)
            for x in self.exits.recent
        )
        cpu = self.exited.life.model.size_vram == 0
        usual = self.exits.memory_wait.usual(max(0.0, gap), slower=slower, cpu=cpu)
        return False if usual is None and self._waited_longer(gap) else usual

    def _waited_longer(self, gap: float) -> bool:
        """Return whether what came at the end of the wait shows that it was longer than that."""
        later = [r.born for r in self.runners.all] + [x.at for x in self.exits.after(self.exited)]
        gaps = [moment - self.exited.at for moment in later]
        return any(
            gap + timings.SAME_MOMENT < other <= timings.MEMORY_WAIT
            and self.exits.memory_wait.usual(other)
            for other in gaps
        )

    # -- room ------------------------------------------------------------------------------------

    def _beside(self, at: float) -> list[RunningModel] | None:
        """Return what else was in memory at a moment. None: not known of all of it."""
        alive = [r for r in self.runners.all if r is not self.exited.runner and r.lived(at)]
        held = [self.shown.get(runner.weights) for runner in alive]
        return None if None in held else [model for model in held if model is not None]

    def _fits(self, newcomer: RunningModel | None, *, beside_this: bool) -> bool:
        held = self._beside(self.exited.at)
        if held is None or newcomer is None:
            return False
        own = [self.exited.life.model] if beside_this else []
        return self.room.fits([*held, *own], [newcomer])

    def roomy(self, newborn: RunnerProcess) -> bool:
        """Return whether the server is known to hold that newcomer beside this one."""
        if newborn.weights == self.exited.runner.weights:
            return False
        return self._fits(self.shown.get(newborn.weights), beside_this=True)

    def needed_more(self, follower: ProcessExit) -> bool | None:
        """Return whether what took the follower's room is not known to fit into this one's.

        None: it is still loading, and its size shows when it is listed.
        """
        low, high = follower.at - timings.LOGGED_WITH, follower.at + timings.LOGGED_WITH
        if self.log.moments(LogKind.ROOM_WANTED, low, high):
            return True
        newcomer = next((m for m in self.shown.values() if m.name == follower.by), None)
        if newcomer is None:
            loading = any(follower.by in self.runners.names(r.weights) for r in self.runners.living)
            return None if loading else False
        return not self._fits(newcomer, beside_this=False)

    # -- busy runners that became due --------------------------------------------------------------

    @cached_property
    def others_due(self) -> bool:
        """Whether busy ones became due as it exited: an out-of-memory does that to all of them.

        The scheduler condemns one at a time, and none while it loads or waits for memory.
        """
        at, others = self.exited.at, [*self.lives.values(), *(x.life for x in self.exits.recent)]
        due = {
            id(life): life
            for life in others
            if life is not self.exited.life and life.slid and _became_due(life, at)
        }
        if len(due) > 1:
            return True
        if self.exited.listed_dead:
            return any(not self._at_a_load_end(life) for life in due.values())
        return any(
            self.runners.loading_through(life.due_after or 0.0, life.due_at or 0.0)
            for life in due.values()
        )

    def condemned(self, life: Incarnation) -> bool:
        """Return whether it became due, though busy, as a load ended: to make room for the next."""
        return life.slid and life.at_now and self._at_a_load_end(life)

    def _at_a_load_end(self, life: Incarnation) -> bool:
        """Return whether a load can have ended as this became due, as far as polls can tell."""
        low, high = life.due_after, life.due_at
        return (
            low is not None
            and high is not None
            and any(
                runner.unlisted < high and low < ended
                for runner in self.runners.all
                if runner.unlisted is not None
                and (ended := runner.listed or runner.died) is not None
            )
        )

    @property
    def another_condemned(self) -> bool:
        """Return whether a busy one was to make room for the next load: no other does so then."""
        at = self.exited.at
        gone = (x.life for x in self.exits.recent if x.at > at)
        return any(
            life is not self.exited.life and self.condemned(life) and (life.due_at or at) < at
            for life in (*self.lives.values(), *gone)
        )

    # -- out of memory ---------------------------------------------------------------------------

    @property
    def left_together(self) -> bool:
        """Whether another exited at that very moment: a server that waits unloads one at a time."""
        at, error = self.exited.at, timings.SAME_DECISION
        wait = self.exits.memory_wait
        return not wait.none and any(
            x is not self.exited and abs(x.at - at) <= error and not x.listed_dead
            for x in self.exits.recent
        )

    def dropped_with(self, exited: ProcessExit, crash: ProcessExit) -> bool | None:
        """Return whether an out-of-memory of that other runner can have dropped this one.

        All that were loaded leave then, one after the other without a pause, each with its wait for
        memory, and none has a reason of its own. None: it is not known yet.
        """
        if exited is crash or exited.listed_dead or exited.polled is None:
            return False
        gap, longest = exited.at - crash.at, self.exits.memory_wait.longest
        start, same = self._queue_start(exited), timings.SAME_MOMENT
        in_turn = gap > same and self._in_turn(exited, crash)
        loaded = exited.runner.born < crash.at and (exited.runner.unlisted or 0.0) < crash.at
        followed = gap >= -timings.SAME_DECISION and (gap <= longest or in_turn)
        if not (loaded and followed) or self._has_own_reason(exited, start) or self._crashed(crash):
            return False
        if gap <= timings.DROPPED_TOGETHER and start > crash.at - same:
            return not self._answered(exited, -same, same)
        between = any(
            crash.at + same < x.at < exited.at - same
            and not x.listed_dead
            and x.reason is not Reason.OUT_OF_MEMORY
            for x in self.exits.recent
        )
        if between or (start > crash.at + same and not in_turn):
            return False
        if not self.births_known(exited.at + timings.MEMORY_WAIT):
            return None
        return not self._answered(exited, same, timings.MEMORY_WAIT, but=crash)

    def _in_turn(self, exited: ProcessExit, crash: ProcessExit) -> bool:
        """Return whether it exited whole waits for memory after that crash, or after the queue."""
        wait = self.exits.memory_wait.typical
        before = (
            x.at for x in self.exits.recent if not x.listed_dead and 0 < crash.at - x.at < wait
        )
        start = max(before, default=None)
        passed = exited.at - (crash.at if start is None else start)
        turns = round(passed / wait) if wait else 0
        error = timings.SAME_MOMENT
        return 0 < turns <= MOST_DROPPED and abs(passed - turns * wait) <= error

    def _has_own_reason(self, exited: ProcessExit, start: float) -> bool:
        """Return whether its deadline came, or a stop was seen. `start`: of the queue."""
        life = exited.life
        earliest, latest = start - timings.PROMPT, exited.at + timings.DEADLINE_ERROR
        due = earliest <= life.expires <= latest and not life.at_now
        return due or life.stopped_at is not None

    def _crashed(self, exited: ProcessExit) -> bool:
        """Return whether a request says that this was a crash, not an out-of-memory."""
        cause = self.requests.cause(exited, queue_start=self._queue_start(exited))
        return cause is not None and cause[0] is Reason.CRASHED

    def _answered(
        self, exited: ProcessExit, low: float, high: float, *, but: ProcessExit | None = None
    ) -> bool:
        """Return whether something was started for its room. `but`: a runner loaded again."""
        other = replace(self, exited=exited)
        return any(
            other.answers(r)
            for r in other.births(exited.at + low, exited.at + high)
            if but is None or r.weights != but.runner.weights
        )


def _became_due(life: Incarnation, moment: float) -> bool:
    """Return whether it became due between the polls around that moment."""
    low, high = life.due_after, life.due_at
    near = timings.LOAD_POLLS
    return low is not None and high is not None and low <= moment <= high <= low + near
