# SPDX-License-Identifier: Apache-2.0
"""One death and all that is known around it at the moment of judging."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.evidence.exit_requests import PROMPT, ExitRequests
from ollama_exporter.residency.evidence.log_lines import LogEvidence, LoggedExit
from ollama_exporter.residency.evidence.process_exits import LONGEST_WAIT, ProcessExit, ProcessExits
from ollama_exporter.residency.evidence.requests import SeenRequest
from ollama_exporter.residency.evidence.runner_processes import SAME, RunnerProcess, RunnerProcesses
from ollama_exporter.residency.facts import LogKind, LogSaid
from ollama_exporter.residency.incarnation import Incarnation, Key
from ollama_exporter.residency.poll_unloads import Room

NOTICED: Final = 0.02  # two deaths are noticed in their order, up to this
AT_ONCE: Final = 0.06  # those condemned by an out-of-memory go that soon
UNANSWERED: Final = 12.0  # a poll hangs no longer than this; then a death is judged without
SCAN: Final = 1.2  # a birth is known at most this much later: a scan a second
ANSWERED_BY: Final = LONGEST_WAIT + 0.6  # who waited for a death is born by then
LOGGED_END: Final = 0.03  # a victim goes so soon after the line that says that a load is done
LOGGED: Final = 0.3  # the server logs a removal at most this long after the kill
LOAD_END: Final = 1.1  # polls that wait for the end of a load are no farther apart
OWN_CAUSES: Final = frozenset({Reason.EXPIRED, Reason.STOPPED})


@dataclass(frozen=True)
class ExitEvidence:
    """What the rules look at. `scanned`: all births up to then are known."""

    death: ProcessExit
    now: float
    scanned: float
    polled: float  # start of the last answered poll
    deaths: ProcessExits
    runners: RunnerProcesses
    accounts: ExitRequests
    room: Room
    shown: Mapping[str, RunningModel]  # weights -> as last listed
    lives: Mapping[Key, Incarnation]
    window: float  # seconds for which evidence is waited for
    journal: LogEvidence

    @property
    def born(self) -> float:
        """Birth of the dead."""
        return self.death.runner.born

    @cached_property
    def queue_start(self) -> float:
        """Since when one unload followed the other without a pause."""
        return self._queue_start(self.death)

    def _queue_start(self, death: ProcessExit) -> float:
        return self.deaths.queue_start(death, [runner.born for runner in self.runners.all])

    @cached_property
    def said(self) -> tuple[Reason, str] | None:
        """What the requests seen say."""
        return self.accounts.said(self.death, queue_start=self.queue_start)

    @cached_property
    def demand(self) -> SeenRequest | None:
        """The oldest request that waited for a load."""
        return self.accounts.demand(self.death)

    @property
    def over(self) -> bool:
        """The window in which evidence is waited for is over."""
        return self.now >= self.death.at + self.window

    @property
    def somebody_is_condemned(self) -> bool:
        """Tell whether another one that was never idle is to go as soon as its requests end."""
        return any(life.at_now for life in self.lives.values())

    @cached_property
    def at_a_load_s_end(self) -> bool:
        """Tell whether a load ended at that very moment, as far as polls can tell."""
        at = self.death.at
        if self.journal.followed:
            return bool(self.journal.moments(LogKind.LOAD_DONE, at - LOGGED_END, at + 0.005))
        return any(
            at - LOAD_END <= runner.unlisted < at <= ended <= at + LOAD_END
            for runner in self.runners.all
            if runner is not self.death.runner
            and runner.unlisted is not None
            and (ended := runner.listed or runner.died) is not None
        )

    @cached_property
    def ending(self) -> LoggedExit | None:
        """What the log says of it, at debug level."""
        at = self.death.at
        return self.journal.ending(at - LOGGED, at + LOGGED, weights=self.death.runner.weights)

    def logged(self, kind: LogKind, around: float) -> list[LogSaid]:
        """Return the lines of a kind that were written about when it died."""
        at = self.death.at
        return self.journal.moments(kind, at - around, at + around)

    @cached_property
    def first_in_line(self) -> SeenRequest | None:
        """The oldest request that waited at all, if it is known to have waited for a load."""
        return self.accounts.first_in_line(self.death)

    def births_known(self, moment: float) -> bool:
        """Tell whether whoever was born by then is known."""
        return self.scanned >= moment or self.now >= moment + SCAN

    def waited_in_vain(self, since: float) -> bool:
        """Tell whether a request waited from then on, though the scheduler was free for a while."""
        free = self.death.at - PROMPT
        queued = self.queue_start < self.death.at
        return since < free and not queued and not self.runners.busy(free, self.death.at)

    # -- births ----------------------------------------------------------------------------------

    def births(self, low: float, high: float) -> list[RunnerProcess]:
        """Return who was born within these bounds, this one aside."""
        return [r for r in self.runners.all if low <= r.born <= high and r is not self.death.runner]

    @cached_property
    def next_birth(self) -> RunnerProcess | None:
        """Who was born next, by the same server."""
        died, at = self.deaths.server_died, self.death.at
        newborn = next(iter(self.births(at - SAME, self.now)), None)
        if newborn is not None and died is not None and at < died < newborn.born:
            return None
        return newborn

    @property
    def newcomer(self) -> str | None:
        """Weights of what was started next, by processes or by the log."""
        at = self.death.at
        logged = self.journal.moments(LogKind.LOAD_STARTED, at, self.now)
        if logged and logged[0].weights is not None:
            return logged[0].weights
        return None if self.next_birth is None else self.next_birth.weights

    @cached_property
    def chain(self) -> list[ProcessExit]:
        """The unloads between this one and the next birth."""
        died, at, newborn = self.deaths.server_died, self.death.at, self.next_birth
        return [
            other
            for other in self.deaths.after(self.death)
            if not (died is not None and at < died <= other.at)
            and (newborn is None or other.at < newborn.born - SAME)
        ]

    @property
    def follower(self) -> ProcessExit | None:
        """The next unload, if it can be that of a further victim of the same load."""
        if not self.chain or self.runners.loading(self.death.at):
            return None
        follower = self.chain[0]
        usual = self.deaths.rhythm.usual(follower.at - self.death.at)
        return follower if usual or not follower.life.written else None

    def occupied(self, newborn: RunnerProcess) -> bool:
        """Tell whether that birth cannot answer this death, whatever the time between them.

        Something was loading at T; or it answers an earlier eviction, and this unload only came at
        the end of that one's wait.
        """
        at = self.death.at
        if self.runners.loading(at):
            return True
        if newborn.weights != self.death.runner.weights and any(
            runner.weights == newborn.weights and runner.lived(at) for runner in self.runners.all
        ):
            return True  # it was loaded then: whoever asked for it had no need of room
        if abs(newborn.born - at) > SAME or newborn.weights == self.death.runner.weights:
            return False
        if self.deaths.rhythm.usual(0.0):
            return False
        return any(
            other is not self.death
            and not other.listed_dead
            and other.reason not in OWN_CAUSES
            and SAME < newborn.born - other.at <= LONGEST_WAIT
            and self.deaths.rhythm.usual(newborn.born - other.at)
            for other in self.deaths.recent
        )

    def answers(self, newborn: RunnerProcess) -> bool | None:
        """Tell whether that runner was started because of this death. None: cannot be told."""
        at, gap = self.death.at, newborn.born - self.death.at
        if self.occupied(newborn):
            return False
        if abs(gap) <= SAME and not self.deaths.rhythm.none:
            return True  # something else woke the scheduler, and this room let it go on
        slower = any(
            x.listed_dead and x.at < newborn.born and (x.removed is None or x.removed > at)
            for x in self.deaths.recent
        )
        cpu = self.death.life.model.size_vram == 0
        usual = self.deaths.rhythm.usual(max(0.0, gap), slower=slower, cpu=cpu)
        return False if usual is None and self._waited_longer(gap) else usual

    def _waited_longer(self, gap: float) -> bool:
        """Tell whether what came at the end of the wait shows that it was longer than that."""
        later = [r.born for r in self.runners.all] + [x.at for x in self.deaths.after(self.death)]
        gaps = [moment - self.death.at for moment in later]
        return any(
            gap + SAME < other <= LONGEST_WAIT and self.deaths.rhythm.usual(other) for other in gaps
        )

    # -- room ------------------------------------------------------------------------------------

    def _beside(self, at: float) -> list[RunningModel] | None:
        """Return what was in memory at a moment, this one aside; None: of some it is not known."""
        alive = [r for r in self.runners.all if r is not self.death.runner and r.lived(at)]
        held = [self.shown.get(runner.weights) for runner in alive]
        return None if None in held else [model for model in held if model is not None]

    def _fits(self, newcomer: RunningModel | None, *, beside_this: bool) -> bool:
        held = self._beside(self.death.at)
        if held is None or newcomer is None:
            return False
        own = [self.death.life.model] if beside_this else []
        return self.room.fits([*held, *own], [newcomer])

    def roomy(self, newborn: RunnerProcess) -> bool:
        """Tell whether the server is known to hold that newcomer beside this one."""
        if newborn.weights == self.death.runner.weights:
            return False
        return self._fits(self.shown.get(newborn.weights), beside_this=True)

    def needed_more(self, follower: ProcessExit) -> bool | None:
        """Tell whether who took the room of the follower is not known to fit into this one's.

        None: it is still loading, and how big it is shows when it is listed.
        """
        low, high = follower.at - LOGGED_END, follower.at + LOGGED_END
        if self.journal.moments(LogKind.ROOM_WANTED, low, high):
            return True
        newcomer = next((m for m in self.shown.values() if m.name == follower.by), None)
        if newcomer is None:
            loading = any(follower.by in self.runners.names(r.weights) for r in self.runners.living)
            return None if loading else False
        return not self._fits(newcomer, beside_this=False)

    # -- out of memory ---------------------------------------------------------------------------

    def condemned_with(self, death: ProcessExit, crash: ProcessExit) -> bool | None:
        """Tell whether that unload is the first that the server could make after that crash.

        And has no reason of its own. None: it is not known yet.
        """
        gap, longest = death.at - crash.at, self.deaths.rhythm.longest
        early = death.runner.born < crash.at and -NOTICED <= gap <= longest
        if death is crash or death.listed_dead or death.polled is None or not early:
            return False
        start, life = self._queue_start(death), death.life
        due = start - PROMPT <= life.expires <= death.at + 0.05 and not life.at_now
        said = self.accounts.said(crash, queue_start=self._queue_start(crash))
        crashed = said is not None and said[0] is Reason.CRASHED
        if due or crashed or life.stopped_at is not None:
            return False
        if gap <= AT_ONCE and start > crash.at - SAME:
            return not self._answered(death, -SAME, SAME)
        between = (
            crash.at + SAME < x.at < death.at - SAME and not x.listed_dead
            for x in self.deaths.recent
        )
        if start > crash.at + SAME or any(between):
            return False
        known = self.births_known(death.at + LONGEST_WAIT)
        return not self._answered(death, SAME, LONGEST_WAIT) if known else None

    def _answered(self, death: ProcessExit, low: float, high: float) -> bool:
        other = ExitEvidence(
            death,
            self.now,
            self.scanned,
            self.polled,
            self.deaths,
            self.runners,
            self.accounts,
            self.room,
            self.shown,
            self.lives,
            self.window,
            self.journal,
        )
        return any(other.answers(r) for r in other.births(death.at + low, death.at + high))
