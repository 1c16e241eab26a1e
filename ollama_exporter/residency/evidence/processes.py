# SPDX-License-Identifier: Apache-2.0
"""What births and deaths of processes, and lines of the log, mean for lives.

A life whose process is known ends at that process' death; every other one is judged by the polls.
"""

import math
from typing import Final

from ollama_exporter.residency.events import (
    Event,
    Found,
    Loaded,
    Reason,
    Restarted,
    Source,
    Unloaded,
)
from ollama_exporter.residency.evidence.exit_evidence import ExitEvidence
from ollama_exporter.residency.evidence.exit_requests import ExitRequests
from ollama_exporter.residency.evidence.log_lines import LogEvidence
from ollama_exporter.residency.evidence.matching import AT_ONCE, ProcessMatching, Sifted
from ollama_exporter.residency.evidence.process_exits import ProcessExit, ProcessExits
from ollama_exporter.residency.evidence.requests import SeenRequests
from ollama_exporter.residency.evidence.runner_processes import SAME
from ollama_exporter.residency.facts import (
    LogKind,
    LogSaid,
    ProcessExited,
    ProcessFact,
    ProcessStarted,
    Snapshot,
    WeightsNamed,
)
from ollama_exporter.residency.incarnation import Incarnation, Key
from ollama_exporter.residency.poll_unloads import Room
from ollama_exporter.residency.rules.poll_rules import Verdict, unknown
from ollama_exporter.residency.rules.process_rules import decide

KNOWN_MOMENT: Final = 0.1  # a death that is known less well tells nothing of who waited for it
IN_ORDER: Final = 3.0  # a server that ends in order kills its runners before it goes
LOAD_STEP: Final = 0.1  # of the time that a load has taken: polls that wait for its end
LEAST_STEP: Final = 0.5
AGAIN: Final = 1.0  # until the next look at a living runner that is off the list
ANSWER_WITHIN: Final = 6.0  # a birth later than that answers no death
MOST_WANTED: Final = 16
# After these lines the list has changed, or is about to.
TELLING: Final = frozenset({LogKind.LOAD_STARTED, LogKind.LOAD_DONE, LogKind.REMOVED})
# Nobody waited for these; what was born next says nothing of how long such waits are.
NOBODY_WAITED: Final = frozenset({Reason.EXPIRED, Reason.CRASHED, Reason.SERVER_RESTARTED})
DIED: Final = Verdict(Reason.SERVER_RESTARTED, ("the server's process died",))


class ProcessEvidence:
    """Turns births and deaths into the ends of lives."""

    def __init__(
        self, lives: dict[Key, Incarnation], traffic: SeenRequests, room: Room, *, window: float
    ) -> None:
        self.deaths, self.journal = ProcessExits(), LogEvidence()
        self.census = ProcessMatching(lives, self.deaths, self.journal)
        self.seen = False
        self.server: ProcessStarted | None = None
        self.down: tuple[float, float] | None = None  # the server's death, until it is back
        self.told = -math.inf  # when it was back last, as its processes showed
        self.accounts = ExitRequests(traffic, self.census.runners)
        self._lives, self._room, self._window = lives, room, window
        self._scanned = 0.0
        self._wanted: list[float] = []  # moments at which a poll is wanted

    # -- facts -----------------------------------------------------------------------------------

    def take(self, fact: ProcessFact) -> list[Event]:
        """Take a fact; return what it settled."""
        match fact:
            case WeightsNamed():
                self.census.runners.name(fact)
                return []
            case ProcessStarted():
                self.seen = True
                events = self._started(fact)
            case ProcessExited():
                events = self._exited(fact)
            case _:
                self.seen = fact.seen
                if not fact.seen:
                    self.server = None
                    self.census.runners.forget()
                events = []
        return [*events, *self.judge(fact.at)]

    def _started(self, fact: ProcessStarted) -> list[Event]:
        if fact.weights is None:
            return self._server_started(fact)
        runners = self.census.runners
        lost = runners.replaced(fact)
        events = self._exited(lost) if lost is not None else []
        runner = runners.start(fact)
        if runner is None:
            return events
        self._scanned = max(self._scanned, runner.born)
        self._want(fact.at)
        for death in self.deaths.pending:
            newborn = death.at - SAME < runner.born <= (death.polled or 0.0)
            if death.listed_dead and newborn and runner.weights == death.runner.weights:
                death.listed_dead = False  # what the poll listed was its successor
                self.census.dead.pop(death.key, None)
        return events

    def _server_started(self, fact: ProcessStarted) -> list[Event]:
        known, self.server = self.server, fact
        events: list[Event] = []
        if known is not None and known.pid == fact.pid and abs(known.born - fact.born) < 1.0:
            return []
        if known is not None:  # its death was missed
            events = self._server_died(fact.at, alive=known.born)
        return [*events, *self.back(fact.born)]

    def back(self, at: float) -> list[Event]:
        """Say that the server is there again, if its death was seen."""
        down, self.down = self.down, None
        if down is None:
            return []
        self.told = at
        return [Restarted(down[0], max(down[1], at))]

    def _exited(self, fact: ProcessExited) -> list[Event]:
        if self.server is not None and fact.pid == self.server.pid:
            self.server = None
            return self._server_died(fact.at, alive=fact.alive)
        runner = self.census.runners.exit(fact)
        if runner is None or runner.orphan:
            return []
        self._want(fact.at)
        events: list[Event] = []
        if fact.alive is not None and fact.at - fact.alive > KNOWN_MOMENT:
            self.census.suspect(runner)
            return events
        life = self.census.end(runner)
        if life is None:
            life = self.census.never_listed(runner, fact.at)
            if life is not None and self.census.polled is not None:
                source = frozenset({Source.PROCESS})
                events.append(Loaded(life.model, life.first_seen, fact.at, fact.at, source))
        if life is not None:
            self.deaths.add(ProcessExit(life, runner, fact.at))
        return events

    def _server_died(self, at: float, *, alive: float | None) -> list[Event]:
        """End every life: the server is gone, and what it had loaded with it."""
        low = at - AT_ONCE if alive is None else alive
        events: list[Event] = []
        for life in list(self._lives.values()):
            del self._lives[life.key]
            events.append(unloaded(life, DIED, low, at, at))
        self.census.runners.orphan()
        killed, self.deaths.server_died = bool(events), at
        for death in list(self.deaths.pending):
            if not killed and death.polled is None and death.at >= at - IN_ORDER:
                verdict: Verdict | None = DIED
            else:
                verdict = decide(self._scene(death, death.at + self._window + 1.0))
            events.append(self._settle(death, verdict or unknown("the server died first"), at))
        self.deaths.listed.clear()
        self.census.dead.clear()
        self.down = (low, at)
        self._want(at)
        return events

    def vouches(self, since: float) -> bool:
        """Tell whether the server's process has lived since that moment."""
        return self.server is not None and self.server.born < since

    def read(self, line: LogSaid) -> None:
        """Take a line of the log."""
        self.journal.take(line)
        if line.kind is LogKind.OUT_OF_MEMORY:
            self.deaths.out_of_memory.append(line.written)
        if line.kind in TELLING:
            self._want(line.at)

    def sift(self, poll: Snapshot) -> Sifted:
        """Take the dead out of a listing, and join what is listed to its process."""
        before = self.census.polled
        sifted = self.census.sift(poll, seen=self.seen)
        if self.journal.detailed and before is not None:
            lives = (self._lives.get(key) for key in sifted.living)
            listed = {life.model.name: life.first_seen for life in lives if life is not None}
            self.journal.compare(listed, before, poll.started)
        self._wanted = [moment for moment in self._wanted if moment > poll.started]
        return sifted

    def loaded(
        self,
        life: Incarnation,
        poll: Snapshot,
        last: Snapshot | None,
        *,
        requested: bool,
    ) -> Event:
        """Say that a life began; `last`: the answered poll before, `requested`: one was seen."""
        runner = self.census.begin(life, poll)
        if last is None:
            return Found(life.model, poll.ended)
        low = last.started if runner is None or life.since is None else life.since
        sources = {Source.REQUEST: requested, Source.PROCESS: runner is not None}
        witnessed = frozenset(source for source, saw in sources.items() if saw)
        seconds, measured = self.census.load_time(life, runner, poll)
        return Loaded(life.model, low, poll.ended, poll.ended, witnessed, seconds, measured)

    def holds(self, key: Key, poll: Snapshot) -> bool:
        """Tell whether a life that a poll does not list goes on: its process lives."""
        held = self.census.holds(key, poll)
        if held:
            self._want(poll.started + AGAIN)
        return held

    # -- judging ---------------------------------------------------------------------------------

    def judge(self, now: float) -> list[Event]:
        """Settle what can be settled."""
        events: list[Event] = []
        for death in list(self.deaths.pending):
            verdict = decide(self._scene(death, now))
            if verdict is not None:
                events.append(self._settle(death, verdict, now))
        return events

    def finish(self, now: float) -> list[Event]:
        """Settle everything as if no more could be learned."""
        known = [max(death.at, death.polled or 0.0) for death in self.deaths.pending]
        late = [moment + self._window + 1.0 for moment in known]
        return self.judge(max([now, *late]))

    def _scene(self, death: ProcessExit, now: float) -> ExitEvidence:
        return ExitEvidence(
            death,
            now,
            self._scanned,
            self.census.polled or 0.0,
            self.deaths,
            self.census.runners,
            self.accounts,
            self._room,
            self.census.shown,
            self._lives,
            self._window,
            self.journal,
        )

    def _settle(self, death: ProcessExit, verdict: Verdict, now: float) -> Unloaded:
        self.deaths.settle(death, verdict.reason, verdict.by)
        told = self.journal.followed  # then its line has told the moment
        if verdict.reason is Reason.OUT_OF_MEMORY and death.listed_dead and not told:
            self.deaths.out_of_memory.append(death.at)
        if verdict.reason not in NOBODY_WAITED:
            scene = self._scene(death, now)
            born = next(iter(scene.births(death.at - SAME, death.at + ANSWER_WITHIN)), None)
            if born is not None:
                self.deaths.rhythm.learn(born.born - death.at)
        low = death.at - AT_ONCE if death.runner.alive is None else death.runner.alive
        return unloaded(death.life, verdict, low, death.at, now)

    # -- state -----------------------------------------------------------------------------------

    def _want(self, moment: float) -> None:
        self._wanted = sorted({*self._wanted, moment})[:MOST_WANTED]

    def urgent(self) -> float | None:
        """Return when the next poll is wanted, for a birth, a death or a load under way."""
        longest, last = self.deaths.rhythm.longest, self.census.polled
        wanted = self._wanted[:1]
        if last is not None:
            ends = (death.at + longest for death in self.deaths.pending)
            wanted += [end for end in ends if end > last]
            loading = [r.born for r in self.census.runners.living if r.key is None]
            if loading:
                wanted.append(last + max(LEAST_STEP, LOAD_STEP * (last - max(loading))))
        return min(wanted, default=None)


def unloaded(life: Incarnation, verdict: Verdict, low: float, high: float, now: float) -> Unloaded:
    """Say that a life ended."""
    return Unloaded(
        life.model,
        verdict.reason,
        verdict.evidence,
        low,
        high,
        now,
        life.first_seen,
        by=verdict.by,
        early=life.early(high),
    )
