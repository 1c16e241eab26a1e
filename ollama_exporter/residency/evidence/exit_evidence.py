# SPDX-License-Identifier: Apache-2.0
"""One exit and all that is known around it at the moment of judging."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Evidence, Reason
from ollama_exporter.residency.evidence.case import Due, NextLoad
from ollama_exporter.residency.evidence.exit_requests import ExitRequests
from ollama_exporter.residency.evidence.log_lines import LogEvidence, LoggedUnload
from ollama_exporter.residency.evidence.process_exits import ProcessExit, ProcessExits
from ollama_exporter.residency.evidence.queue_replay import Queue, condemned
from ollama_exporter.residency.evidence.request_causes import RequestCause
from ollama_exporter.residency.evidence.requests import SeenRequest
from ollama_exporter.residency.evidence.runner_processes import RunnerProcess, RunnerProcesses
from ollama_exporter.residency.facts import LogKind, LogSaid
from ollama_exporter.residency.incarnation import Incarnation, Key
from ollama_exporter.residency.poll_unloads import Room


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
    def life(self) -> Incarnation:
        """What ended."""
        return self.exited.life

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
        return self.queue_start_of(self.exited)

    def queue_start_of(self, exited: ProcessExit) -> float:
        """Return the same for another exit."""
        return self.exits.queue_start(exited, [runner.born for runner in self.runners.all])

    @property
    def another_is_due(self) -> bool:
        """Whether another model that was never idle will be unloaded when its requests end."""
        return any(life.at_now for life in self.lives.values())

    def was_at_load_end(self, exited: ProcessExit) -> bool:
        """Return whether a load ended at the very moment of an exit, as far as polls can tell."""
        at = exited.left
        if self.log.followed:
            done = self.log.moments(LogKind.LOAD_DONE, at - timings.VICTIM_AT_LOAD_END, at + 0.005)
            return bool(done)
        near = timings.LOAD_POLLS
        return any(
            at - near <= runner.unlisted < at
            and (at <= ended or exited.listed_dead)
            and ended <= at + near
            for runner in self.runners.all
            if runner is not exited.runner
            and runner.unlisted is not None
            and (ended := runner.listed or runner.died) is not None
        )

    def births_known(self, moment: float) -> bool:
        """Return whether all processes that were born by then are known."""
        wait = timings.SCAN_HANGS if self.scans else timings.SCAN
        return self.scanned >= moment or self.now >= moment + wait

    @property
    def rests_on_polls(self) -> bool:
        """Return whether the next listings may still show that another server had answered."""
        return False

    # -- its deadline ----------------------------------------------------------------------------

    @property
    def deadlines(self) -> Sequence[float]:
        """E, as polls or the end of a request show it."""
        expires, promised = self.life.expires, self.life.promised
        return (expires,) if promised is None else (expires, promised)

    @property
    def due(self) -> Sequence[Due]:
        """Where E lies if its deadline ended it: at its exit, or while another left before it.

        A look at the GPUs may also come between.
        """
        at, error, life = self.exited.at, timings.DEADLINE_ERROR, self.life
        found = [
            Due(Evidence.EXITED_AT_DEADLINE, at - timings.PROMPT, at + error),
            Due(Evidence.DEADLINE_BEHIND_ANOTHER, self.queue_start - error, at),
        ]
        if life.seen < life.expires + timings.CLOCK_ERROR and self.request_cause is None:
            found.append(Due(Evidence.EXITED_AFTER_DEADLINE, at - timings.SLOW_KILL, at))
        return found

    # -- the log ---------------------------------------------------------------------------------

    @cached_property
    def logged(self) -> LoggedUnload | None:
        """The same unload in the log, at debug level. None if the server did not end it."""
        if not self.log.detailed or self.exited.listed_dead:
            return None
        at, near, late = self.exited.at, timings.LOGGED_WITHIN, timings.NOTICED_LATE
        runner = self.exited.runner
        own = self.log.unload(at - late, at + near, weights=runner.weights, pid=runner.pid)
        if own is not None:
            return own  # else the server is in a container, with pids of its own
        return self.log.unload(at - near, at + near, weights=runner.weights)

    @property
    def log_is_behind(self) -> bool:
        """Whether lines of that moment may still be to come."""
        return self.log.behind(self.exited.at + timings.LOGGED_WITHIN, self.now)

    def lines(self, kind: LogKind, around: float) -> list[LogSaid]:
        """Return the lines of a kind that were written at about the moment of the exit."""
        at = self.exited.at
        return self.log.moments(kind, at - around, at + around)

    @property
    def logged_death(self) -> bool:
        """Whether the log says that a runner ended by itself, and this exit is the nearest."""
        lines = self.lines(LogKind.RUNNER_DIED, timings.LOGGED_WITH)
        return any(
            abs(line.written - self.exited.at)
            == min(abs(line.written - x.at) for x in self.exits.recent)
            for line in lines
        )

    # -- requests --------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether the requests seen are (nearly) all."""
        return self.requests.seen.complete

    @cached_property
    def request_cause(self) -> RequestCause | None:
        """The reason that the requests seen give."""
        return self.requests.cause(self.exited, queue_start=self.queue_start)

    @cached_property
    def demand(self) -> SeenRequest | None:
        """The oldest request that was waiting for a load."""
        return self.requests.demand(self.exited)

    @property
    def demand_counts(self) -> bool:
        """Whether no other request can have wanted its room."""
        demand, at = self.demand, self.exited.at
        if demand is None or self.runners.loading(at):
            return False
        return self.complete or demand.fact.at > at - timings.PROMPT

    def wants_new_weights(self, request: SeenRequest) -> bool | None:
        """Return whether its name stood for other weights when a request of it came."""
        return self.requests.wants_new_weights(request, self.exited)

    @cached_property
    def first_in_line(self) -> SeenRequest | None:
        """The oldest request that was waiting at all, if surely for a load."""
        return self.requests.first_in_line(self.exited)

    @cached_property
    def condemned_for(self) -> SeenRequest | None:
        """The request for which it was told to leave while it was busy, by the queue."""
        exits, runners = self.exits, self.runners.all
        wait, ran_out = exits.memory_wait.typical, exits.out_of_memory
        return condemned(Queue(self.exited, exits.recent, runners, self.requests, wait, ran_out))

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
    def server_exited_soon(self) -> bool:
        """Whether the server exited before it could start anything."""
        died, at = self.exits.server_died, self.exited.at
        return died is not None and at < died < at + timings.BORN_WITHIN

    @property
    def next_weights(self) -> str | None:
        """Weights of what was started next, by processes or by the log."""
        logged = self.log.next_load(self.exited.at)
        if logged is not None:
            return logged[0]
        return None if self.next_birth is None else self.next_birth.weights

    @property
    def next_load(self) -> NextLoad | None:
        """What was loaded next, as far as is known."""
        weights, exited = self.next_weights, self.exited
        if weights is None:
            return None
        names, other = self.runners.names(weights), weights != exited.runner.weights
        own = exited.name in names and other
        return NextLoad(exited.name if own else next(iter(names), None), other)

    @property
    def awaits_next_load(self) -> bool:
        """Whether it is still to be loaded, or its name to be known: the server will be asked."""
        found = self.next_load
        if found is None:
            return self.now < self.exited.at + 2 * timings.BORN_WITHIN
        return found.name is None and not self.over

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
        usual = self.waited(follower.at - self.exited.at)
        return follower if usual or not follower.life.written else None

    @property
    def alone(self) -> bool:
        """Whether no other runner was left."""
        return self._was_alone(self.exited)

    def _was_alone(self, exited: ProcessExit) -> bool:
        return not any(r.lived(exited.at) for r in self.runners.all)

    def waited(self, gap: float, *, cpu: bool = False) -> bool | None:
        """Return whether what came so long after this exit waited for it. None: it may have."""
        wait = self.exits.memory_wait
        return wait.usual(gap, alone=self.alone, cpu=cpu)

    def occupied(self, newborn: RunnerProcess) -> bool:
        """Return whether that birth cannot follow from this exit, whatever the time between them.

        Something was loading then; or it follows from an earlier eviction, and this unload only
        came at the end of that one's wait.
        """
        at = self.exited.at
        if self.runners.loading(at):
            return True
        if any(r.weights == newborn.weights and r.lived(at) for r in self.runners.all):
            return True  # it was loaded then, so nothing needed room for it
        if (
            abs(newborn.born - at) > timings.SAME_MOMENT
            or newborn.weights == self.exited.runner.weights
        ):
            return False
        before, life = self.a_wait_before(newborn), self.exited.life
        if before is None:
            return False
        if self.was_at_load_end(before) or (life.at_now and not life.slid):
            return True
        return before.runner.weights == newborn.weights and not before.listed_dead

    def a_wait_before(self, newborn: RunnerProcess) -> ProcessExit | None:
        """Return the unload whose wait for memory ended with that birth, and with this exit.

        A load took its victim at once if it was waiting for the end of another: what left as late
        as this had a cause of its own. Else the scheduler waited for the end of a busy victim, and
        the earlier unload only came before it.
        """
        if self.exits.memory_wait.none:
            return None
        return next(
            (
                other
                for other in self.exits.recent
                if other is not self.exited
                and (not other.listed_dead or other.removed is not None)
                and other.reason is not Reason.EXPIRED
                and self._a_wait_after(other, newborn)
                and self._is_next_after(other, newborn)
            ),
            None,
        )

    def follows_another(self, newborn: RunnerProcess) -> bool:
        """Return whether that birth came at the end of the wait after another exit.

        Then a birth at the very moment of this exit says nothing about how long a wait is. What
        was started right after that other exit shows that it was not waited for.
        """
        low, high = timings.MEMORY_WAIT_TIMED_OUT
        return any(
            low <= newborn.born - x.left <= high
            and not self.births(x.left, x.left + timings.NO_MEMORY_WAIT)
            for x in self.exits.recent
        )

    def _a_wait_after(self, other: ProcessExit, newborn: RunnerProcess) -> bool:
        """Return whether a wait for memory lies between that unload and that birth."""
        gap = newborn.born - other.left
        if not timings.SAME_MOMENT < gap <= timings.MEMORY_WAIT:
            return False
        if other.listed_dead:  # polls showed when it was removed
            low, high = timings.MEMORY_WAIT_TIMED_OUT
            return low - timings.REMOVAL_SEEN_LATE <= gap <= high
        return self.exits.memory_wait.usual(gap, alone=self._was_alone(other)) is not False

    def _is_next_after(self, other: ProcessExit, newborn: RunnerProcess) -> bool:
        """Return whether nothing else was started between that exit and that birth."""
        low = other.left - timings.SAME_MOMENT
        return not any(low <= r.born < newborn.born for r in self.runners.all)

    def became_due_at_load_end(self, life: Incarnation) -> bool:
        """Return whether a load can have ended as that became due, as far as polls can tell."""
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
