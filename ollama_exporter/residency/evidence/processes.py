# SPDX-License-Identifier: Apache-2.0
"""What births and exits of processes, and lines of the log, mean for incarnations.

An incarnation whose process is known ends with that process; the polls judge every other one.
"""

import math
from typing import Final, assert_never

from ollama_exporter.residency import timings
from ollama_exporter.residency.events import (
    Event,
    Evidence,
    Found,
    Loaded,
    Reason,
    Restarted,
    Source,
)
from ollama_exporter.residency.evidence.exit_evidence import ExitEvidence
from ollama_exporter.residency.evidence.exit_requests import ExitRequests
from ollama_exporter.residency.evidence.log_lines import LogEvidence
from ollama_exporter.residency.evidence.matching import ProcessMatching, Sifted
from ollama_exporter.residency.evidence.process_exits import ProcessExit, ProcessExits
from ollama_exporter.residency.evidence.requests import SeenRequests
from ollama_exporter.residency.facts import (
    LogKind,
    LogSaid,
    ProcessesScanned,
    ProcessesSeen,
    ProcessExited,
    ProcessFact,
    ProcessStarted,
    Snapshot,
    WeightsNamed,
)
from ollama_exporter.residency.incarnation import Incarnation, Key
from ollama_exporter.residency.poll_unloads import Room
from ollama_exporter.residency.rules.all_rules import decide
from ollama_exporter.residency.rules.restarts import SERVER_EXITED
from ollama_exporter.residency.rules.verdict import Verdict, Wait, unknown
from ollama_exporter.residency.unload import ModelUnload, PendingUnloads, unloaded

LOAD_STEP: Final = 0.1  # polls that wait for the end of a load: share of the time it has taken,
LEAST_STEP: Final = 0.5  # and at least so many seconds apart
RUNNER_STEP: Final = 1.0  # until the next look at a living runner that is not listed
MOST_WANTED: Final = 16
# After these lines the list has changed, or is about to.
LIST_CHANGES: Final = frozenset({LogKind.LOAD_STARTED, LogKind.LOAD_DONE, LogKind.REMOVED})
# With these a runner ran out of memory at the very moment of the exit.
AT_OUT_OF_MEMORY: Final = frozenset({Evidence.OTHERS_DUE_WITH_IT, Evidence.LEFT_TOGETHER})
# Nothing waited for these, so the next birth says nothing about how long such waits are.
NOT_WAITED_FOR: Final = frozenset({Reason.EXPIRED, Reason.CRASHED, Reason.SERVER_RESTARTED})


class ProcessEvidence:
    """Turns births and exits into the ends of incarnations."""

    def __init__(
        self,
        lives: dict[Key, Incarnation],
        pending: PendingUnloads,
        requests: SeenRequests,
        room: Room,
        *,
        window: float,
    ) -> None:
        self.exits, self.log = ProcessExits(pending), LogEvidence()
        self.matching = ProcessMatching(lives, self.exits, self.log)
        self.seen = False  # processes can be seen at present
        self.server: ProcessStarted | None = None
        self.down: tuple[float, float] | None = None  # the server's exit, until it is back
        self.back_at = -math.inf  # when the server was last back, as its processes showed
        self.requests = ExitRequests(requests, self.matching.runners)
        self._lives, self._pending, self._room, self._window = lives, pending, room, window
        self._scanned = 0.0  # all births up to then are known
        self._wanted: list[float] = []  # moments at which a poll is wanted

    # -- facts -----------------------------------------------------------------------------------

    def observe(self, fact: ProcessFact) -> list[Event]:
        """Process a fact; return what it settles."""
        match fact:
            case WeightsNamed():
                self.matching.runners.name(fact)
                return []
            case ProcessStarted():
                self.seen = True
                events = self._on_start(fact)
            case ProcessExited():
                events = self._on_exit(fact)
            case ProcessesScanned():
                self.matching.scans = True
                self._scanned = max(self._scanned, fact.began - timings.SAME_MOMENT)
                self._look_again(scanned=fact.began)
                events = []
            case ProcessesSeen():
                self.seen = fact.seen
                if not fact.seen:
                    self.server = None
                    self.matching.runners.forget()
                events = []
            case _:
                assert_never(fact)
        return events

    def _on_start(self, fact: ProcessStarted) -> list[Event]:
        if fact.weights is None:
            return self._on_server_start(fact)
        runners = self.matching.runners
        missed = runners.missed_exit(fact)
        events = self._on_exit(missed) if missed is not None else []
        runner = runners.start(fact)
        if runner is None:
            return events
        if not self.matching.scans:
            self._scanned = max(self._scanned, runner.born)
        self._want(fact.at)
        for exited in self.exits.pending:
            newborn = exited.at - timings.SAME_MOMENT < runner.born <= (exited.polled or 0.0)
            if exited.seen_dead is not None and newborn and runner.weights == exited.runner.weights:
                # Its successor was listed.
                exited.dead_at = exited.seen_dead = exited.alone_at = None
                self.matching.dead.pop(exited.key, None)
        return events

    def _on_server_start(self, fact: ProcessStarted) -> list[Event]:
        known, self.server = self.server, fact
        events: list[Event] = []
        if known is not None and known.pid == fact.pid and abs(known.born - fact.born) < 1.0:
            return []
        if known is not None:  # its exit was missed
            events = self._on_server_exit(fact.at, alive=known.born)
        return [*events, *self.on_server_back(fact.born)]

    def on_server_back(self, at: float) -> list[Event]:
        """Return that the server was restarted, if its exit was seen."""
        down, self.down = self.down, None
        if down is None:
            return []
        self.back_at = at
        return [Restarted(down[0], max(down[1], at))]

    def _on_exit(self, fact: ProcessExited) -> list[Event]:
        if self.server is not None and fact.pid == self.server.pid:
            self.server = None
            return self._on_server_exit(fact.at, alive=fact.alive)
        runner = self.matching.runners.exit(fact)
        if runner is None or runner.orphan:
            return []
        self._want(fact.at)
        events: list[Event] = []
        if fact.alive is not None and fact.at - fact.alive > timings.EXIT_ERROR:
            self.matching.suspect(runner)
            return events
        life = self.matching.end(runner)
        if life is None:
            life = self.matching.never_listed(runner, fact.at)
            if life is not None and self.matching.polled is not None:
                source = frozenset({Source.PROCESS})
                events.append(Loaded(life.model, life.first_seen, fact.at, fact.at, source))
        if life is not None:
            self.exits.add(ProcessExit.of(life, runner, fact.at))
        return events

    def _on_server_exit(self, at: float, *, alive: float | None) -> list[Event]:
        """End every incarnation: the server is gone, and what it had loaded with it."""
        low = at - timings.NOTICED_AT_ONCE if alive is None else alive
        events: list[Event] = []
        for life in list(self._lives.values()):
            del self._lives[life.key]
            events.append(unloaded(ModelUnload(life, low, at), SERVER_EXITED, at))
        self.matching.runners.orphan()
        self.exits.server_died, self.exits.died_with_server = at, bool(events)
        for exited in self.exits.pending:
            found = decide(self.case(exited, exited.at + self._window + 1.0))
            found = unknown(Evidence.SERVER_EXITED_NEXT) if isinstance(found, Wait) else found
            events.append(self._pending.settle(exited, found, at))
            self.on_settled(exited, found, at)
        self.exits.listed.clear()
        self.matching.dead.clear()
        self.down = (low, at)
        self._want(at)
        return events

    def server_lived(self, since: float) -> bool:
        """Return whether the server's process has lived since that moment."""
        return self.server is not None and self.server.born < since

    def on_log_line(self, line: LogSaid) -> None:
        """Read a line of the log."""
        self.log.observe(line)
        if line.kind is LogKind.OUT_OF_MEMORY:
            self.exits.on_out_of_memory(line.written)
        if line.kind in LIST_CHANGES:
            self._want(line.at)

    def sift(self, poll: Snapshot) -> Sifted:
        """Remove dead models from a listing, and join the others to their processes."""
        before = self.matching.polled
        sifted = self.matching.sift(poll, seen=self.seen)
        if self.log.detailed and before is not None:
            lives = (self._lives.get(key) for key in sifted.living)
            listed = {life.model.name: life.first_seen for life in lives if life is not None}
            self.log.compare(listed, before, poll.started)
        self._wanted = [moment for moment in self._wanted if moment > poll.started]
        self._look_again()
        return sifted

    def _look_again(self, *, scanned: float | None = None) -> None:
        """Want a second look at what was listed once after its exit: it tells a crash.

        `scanned`: start of a complete scan.
        """
        for exited in self.exits.pending:
            seen = exited.seen_dead
            if seen is None or exited.listed_dead or exited.removed is not None:
                continue
            if exited.alone_at is None and scanned is not None and scanned >= seen:
                exited.alone_at = scanned
            model = self.matching.dead.get(exited.key)
            moment = math.inf if model is None else self.matching.dead_from(exited, model)
            if moment < math.inf:
                self._want(moment)

    def on_load(
        self,
        life: Incarnation,
        poll: Snapshot,
        last: Snapshot | None,
        *,
        requested: bool,
    ) -> Event:
        """Return that an incarnation began. `last`: the answered poll before.

        `requested`: a request for it was seen.
        """
        runner = self.matching.begin(life, poll)
        if last is None:
            return Found(life.model, poll.ended)
        low = last.started if runner is None or life.since is None else life.since
        sources = {Source.REQUEST: requested, Source.PROCESS: runner is not None}
        witnessed = frozenset(source for source, saw in sources.items() if saw)
        seconds, measured = self.matching.load_time(life, runner, poll)
        return Loaded(life.model, low, poll.ended, poll.ended, witnessed, seconds, measured)

    def holds(self, key: Key, poll: Snapshot) -> bool:
        """Return whether a model that a poll does not list goes on, because its process lives."""
        held = self.matching.holds(key, poll)
        if held:
            self._want(poll.started + RUNNER_STEP)
        return held

    # -- judging ---------------------------------------------------------------------------------

    def case(self, exited: ProcessExit, now: float) -> ExitEvidence:
        """Return what is known around an exit at this moment."""
        return ExitEvidence(
            exited,
            now,
            self._scanned,
            self.matching.scans,
            self.matching.polled or 0.0,
            self.exits,
            self.matching.runners,
            self.requests,
            self._room,
            self.matching.shown,
            self._lives,
            self._window,
            self.log,
        )

    def on_settled(self, exited: ProcessExit, found: Verdict, now: float) -> None:
        """Learn from an exit whose reason is known."""
        logged = self.log.followed  # then its line has told the moment
        ran_out = exited.listed_dead or not AT_OUT_OF_MEMORY.isdisjoint(found.evidence)
        if found.reason is Reason.OUT_OF_MEMORY and ran_out and not logged:
            self.exits.on_out_of_memory(exited.at)
        if found.reason not in NOT_WAITED_FOR:
            latest = exited.at + timings.BEHIND_ANOTHER
            case = self.case(exited, now)
            births = case.births(exited.at - timings.SAME_MOMENT, latest)
            gap = births[0].born - exited.at if births else math.inf
            at_once = gap <= timings.SAME_MOMENT and case.follows_another(births[0])
            if births and not at_once and case.a_wait_before(births[0]) is None:
                self.exits.memory_wait.learn(gap, alone=case.alone)

    # -- polls that are wanted -------------------------------------------------------------------

    def _want(self, moment: float) -> None:
        self._wanted = sorted({*self._wanted, moment})[:MOST_WANTED]

    def urgent(self) -> float | None:
        """Return when the next poll is wanted for a birth, an exit or a load under way."""
        wanted, last = self._wanted[:1], self.matching.polled
        if last is not None:
            if self.exits.pending:
                longest = self.exits.memory_wait.longest
                ends = (exited.at + longest for exited in self.exits.pending)
                wanted += [end for end in ends if end > last]
            loading = [r.born for r in self.matching.runners.living if r.key is None]
            if loading:
                wanted.append(last + max(LEAST_STEP, LOAD_STEP * (last - max(loading))))
        return min(wanted) if wanted else None
