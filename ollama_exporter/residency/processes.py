# SPDX-License-Identifier: Apache-2.0
"""What runner processes show: lives end with them, loads begin with them, the dead are listed on.

A life whose process is known ends at that process' death; every other one is judged by the polls.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from typing import Final

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.accounts import Accounts
from ollama_exporter.residency.causes import decide, unknown
from ollama_exporter.residency.deaths import Death, Deaths
from ollama_exporter.residency.events import Event, Loaded, Reason, Restarted, Source, Unloaded
from ollama_exporter.residency.facts import (
    LogKind,
    LogSaid,
    ProcessExited,
    ProcessFact,
    ProcessStarted,
    Snapshot,
    WeightsNamed,
)
from ollama_exporter.residency.journal import Ending, Journal
from ollama_exporter.residency.lives import Key, Life
from ollama_exporter.residency.losses import Room
from ollama_exporter.residency.reasons import Newcomer, Verdict
from ollama_exporter.residency.runners import SAME, Runner, Runners
from ollama_exporter.residency.scene import OWN_CAUSES, Scene
from ollama_exporter.residency.traffic import Traffic

AT_ONCE: Final = 0.01  # what is noticed at once happened this much earlier at most
HELD: Final = 5.0  # a living runner may be off the list for so long before it is killed
IN_ORDER: Final = 3.0  # a server that ends in order kills its runners before it goes
AGAIN: Final = 1.0  # after a death one more poll, that late
LOAD_STEP: Final = 0.1  # of the time that a load has taken: polls that wait for its end
ANSWER_WITHIN: Final = 6.0  # a birth later than that answers no death
LOADS: Final = 5  # latest loads of the same weights that tell how long one takes
PRECISE: Final = 0.25  # a load time is known if its bounds are this close, as a share
# After these lines the list has changed, or is about to.
TELLING: Final = frozenset({LogKind.LOAD_STARTED, LogKind.LOAD_DONE, LogKind.REMOVED})
DIED: Final = Verdict(Reason.SERVER_RESTARTED, ("the server's process died",))


@dataclass(frozen=True, slots=True)
class Sifted:
    """A listing without the dead, and what it told of them."""

    living: dict[Key, RunningModel]
    events: tuple[Event, ...] = ()


class Processes:
    """Turns births and deaths into the ends of lives."""

    def __init__(
        self, lives: dict[Key, Life], traffic: Traffic, room: Room, *, window: float
    ) -> None:
        self._window = window
        self.runners, self.deaths = Runners(), Deaths()
        self.seen = False
        self.server: ProcessStarted | None = None
        self.down: tuple[float, float] | None = None  # the server's death, until it is back
        self.dead: dict[Key, RunningModel] = {}  # listed, though their processes are dead
        self.journal = Journal()
        self._lives, self._room = lives, room
        self._accounts = Accounts(traffic, self.runners)
        self._shown: OrderedDict[str, RunningModel] = OrderedDict()
        self._loads: dict[str, deque[tuple[float, float]]] = {}
        self._missing: dict[Key, float] = {}
        self._scanned = 0.0
        self._polled: float | None = None  # start of the last answered poll
        self._wanted: list[float] = []  # moments at which a poll is wanted

    # -- facts -----------------------------------------------------------------------------------

    def take(self, fact: ProcessFact) -> list[Event]:
        """Take a fact; return what it settled."""
        match fact:
            case WeightsNamed():
                self.runners.name(fact)
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
                    self.runners.forget()
                events = []
        return [*events, *self.judge(fact.at)]

    def _started(self, fact: ProcessStarted) -> list[Event]:
        if fact.weights is None:
            return self._server_started(fact)
        runner = self.runners.start(fact)
        if runner is None:
            return []
        self._scanned = max(self._scanned, runner.born)
        self._want(fact.at)
        for death in self.deaths.pending:
            newborn = death.at - SAME < runner.born <= (death.polled or 0.0)
            if death.listed_dead and newborn and runner.weights == death.runner.weights:
                death.listed_dead = False  # what the poll listed was its successor
                self.dead.pop(death.key, None)
        return []

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
        return [] if down is None else [Restarted(down[0], max(down[1], at))]

    def _exited(self, fact: ProcessExited) -> list[Event]:
        if self.server is not None and fact.pid == self.server.pid:
            self.server = None
            return self._server_died(fact.at, alive=fact.alive)
        runner = self.runners.exit(fact)
        if runner is None or runner.orphan:
            return []
        events: list[Event] = []
        key = runner.key or self._unbound(runner)
        life = None if key is None else self._lives.pop(key, None)
        if life is None:
            life = self._never_listed(runner, fact.at, events)
        self._want(fact.at)
        if life is None:
            return events
        self.runners.join(runner, life.key)
        self.deaths.add(Death(life, runner, fact.at))
        return events

    def _unbound(self, runner: Runner) -> Key | None:
        """Return a listed model that this must have been: listed before its birth was known."""
        fitting = (
            key
            for key, life in self._lives.items()
            if self.runners.of(key) is None
            and life.first_seen >= runner.born
            and self.runners.fits(runner, key)
        )
        return next(fitting, None)

    def _never_listed(self, runner: Runner, at: float, events: list[Event]) -> Life | None:
        """It was loaded if it lived for longer than its weights take to load.

        Shorter lives are loads that failed, or that their clients left.
        """
        key, took = self.runners.key_of(runner.weights), self._loads.get(runner.weights)
        model = self._shown.get(runner.weights)
        if runner.key is not None or key is None or model is None or not took:
            return None
        least = min(low for low, _ in took)
        usual = (max(low for low, _ in took) + min(high for _, high in took)) / 2
        logged = self.journal.loaded(runner.born, at)
        if logged is False or (logged is None and at - runner.born < usual):
            return None
        model = replace(model, expires_at=0.0, context=None)
        since = runner.unlisted or runner.born
        life = Life(model, since, runner.born + least, at, float("inf"), 0)
        runner.listed = at
        if self._polled is not None:
            events.append(self._loaded(model, runner, runner.born + least, at, at))
        return life

    def _server_died(self, at: float, *, alive: float | None) -> list[Event]:
        """End every life: the server is gone, and what it had loaded with it."""
        low = at - AT_ONCE if alive is None else alive
        events: list[Event] = []
        for life in list(self._lives.values()):
            del self._lives[life.key]
            events.append(unloaded(life, DIED, low, at, at))
        for runner in self.runners.orphan():
            runner.died = runner.died or at
        killed, self.deaths.server_died = bool(events), at
        for death in list(self.deaths.pending):
            if not killed and death.polled is None and death.at >= at - IN_ORDER:
                verdict: Verdict | None = DIED
            else:
                verdict = decide(self._scene(death, death.at + self._window + 1.0))
            events.append(self._settle(death, verdict or unknown("the server died first"), at))
        self.deaths.listed.clear()
        self.dead.clear()
        self.down = (low, at)
        self._want(at)
        return events

    def vouches(self, since: float) -> bool:
        """Tell whether the server's process has lived since that moment."""
        return self.server is not None and self.server.born < since

    def newcomer(self, ending: Ending) -> Newcomer | None:
        """Return what was loaded next, by the log; None: nothing yet."""
        found = self.journal.newcomer(ending.at)
        if found is None:
            return None
        weights, name = found
        name = name or next(iter(self.runners.names(weights)), None)
        return Newcomer(name, same_weights=weights == ending.weights)

    def read(self, line: LogSaid) -> None:
        """Take a line of the log."""
        self.journal.take(line)
        if line.kind is LogKind.OUT_OF_MEMORY:
            self.deaths.out_of_memory.append(line.written)
        if line.kind in TELLING:
            self._want(line.at)

    # -- polls -----------------------------------------------------------------------------------

    def sift(self, poll: Snapshot) -> Sifted:
        """Take the dead out of a listing, and join what is listed to its process."""
        living: dict[Key, RunningModel] = {}
        events: list[Event] = []
        self.dead = {}
        for model in poll.models:
            if self._is_dead(model, poll) or self._was_stillborn(model, poll, events):
                continue
            living[model.key] = model
            life = self._lives.get(model.key)
            runner = self.runners.of(model.key)
            if life is not None and runner is None:
                runner = self._bind(model.key, living, before=life.seen)
                if runner is not None:
                    runner.listed = life.seen
            if runner is not None and life is not None:
                self._show(runner.weights, model)
        self._note_removals(poll, living)
        self.runners.unlisted([key for key in living if key not in self._lives], poll.started)
        self._polled = poll.started
        self._wanted = [moment for moment in self._wanted if moment > poll.started]
        return Sifted(living, tuple(events))

    def _is_dead(self, model: RunningModel, poll: Snapshot) -> bool:
        """Tell whether what is listed is known to be dead."""
        death = self.deaths.listed.get(model.key)
        if death is None or model.key in self._lives:
            return False
        if any(
            runner.key is None
            and runner.weights == death.runner.weights
            and runner.born > death.at - SAME
            for runner in self.runners.living
        ):
            return False  # its successor
        if poll.started >= death.at + AT_ONCE:
            death.listed_dead, death.polled = True, poll.started
            self.dead[model.key] = model
        return True

    def _was_stillborn(self, model: RunningModel, poll: Snapshot, events: list[Event]) -> bool:
        """Tell whether what is listed for the first time died in its first moments."""
        if model.key in self._lives:
            return False
        fitting = [r for r in self.runners.all if r.key is None and self.runners.fits(r, model.key)]
        if any(runner.died is None for runner in fitting):
            return False
        dead = [r for r in fitting if r.died is not None and r.died < poll.started]
        dead = [r for r in dead if r.unlisted is None or r.unlisted <= (r.died or 0.0)]
        if not dead:
            return False
        runner = dead[-1]
        died = runner.died or poll.started
        life = Life(model, runner.unlisted, poll.started, poll.started, model.expires_at, 0)
        self.runners.join(runner, model.key)
        death = Death(life, runner, died, polled=poll.started, listed_dead=True)
        self.deaths.add(death)
        self.dead[model.key] = model
        if self._polled is not None:
            low = runner.unlisted or runner.born
            events.append(self._loaded(model, runner, low, died, poll.ended))
        return True

    def _note_removals(self, poll: Snapshot, living: dict[Key, RunningModel]) -> None:
        listed = {model.key for model in poll.models}
        for key, death in list(self.deaths.listed.items()):
            if poll.started >= death.at + AT_ONCE:
                death.polled = death.polled or poll.started
                if key not in listed or key in living:
                    death.removed = poll.ended
                    del self.deaths.listed[key]

    def holds(self, key: Key, poll: Snapshot) -> bool:
        """Tell whether a life that a poll does not list goes on: its process lives.

        The newest servers take it off the list before they kill it; then its death is the end.
        """
        runner = self.runners.of(key)
        if runner is None:
            return False
        since = self._missing.setdefault(key, poll.started)
        if poll.started - since < HELD:
            self._want(poll.started + AGAIN)
            return True
        del self._missing[key]
        runner.key = None
        return False

    def reloaded(self, life: Life, model: RunningModel) -> bool:
        """Tell whether what is listed now cannot be the same runner.

        Its size may change while its process lives, but not its context: then its death was missed.
        """
        self._missing.pop(life.key, None)
        runner = self.runners.of(life.key)
        if runner is None:
            return life.reloaded(model)
        if model.context == life.model.context:
            return False
        runner.key, runner.orphan = None, True
        return True

    def begin(self, life: Life, poll: Snapshot, listed: dict[Key, RunningModel]) -> Runner | None:
        """Join a new life to its process, and learn how long its load took."""
        runner = self._bind(life.key, listed, before=poll.started)
        if runner is None:
            return None
        runner.listed = poll.started
        self._show(runner.weights, life.model)
        if runner.unlisted is not None:
            took = (runner.unlisted - runner.born, poll.ended - runner.born)
            self._loads.setdefault(runner.weights, deque(maxlen=LOADS)).append(took)
        life.since = runner.unlisted or max(runner.born, life.since or runner.born)
        return runner

    def _bind(self, key: Key, listed: dict[Key, RunningModel], *, before: float) -> Runner | None:
        strangers = [k for k in listed if self.runners.of(k) is None and not self.runners.known(k)]
        return self.runners.bind(key, before=before, stranger=strangers == [key])

    def _show(self, weights: str, model: RunningModel) -> None:
        self._shown[weights] = model
        self._shown.move_to_end(weights)
        if len(self._shown) > 1024:  # noqa: PLR2004
            self._loads.pop(self._shown.popitem(last=False)[0], None)

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
        late = [death.at + self._window + 1.0 for death in self.deaths.pending]
        return self.judge(max([now, *late]))

    def _scene(self, death: Death, now: float) -> Scene:
        return Scene(
            death,
            now,
            self._scanned,
            self._polled or 0.0,
            self.deaths,
            self.runners,
            self._accounts,
            self._room,
            self._shown,
            self._lives,
            self._window,
            self.journal,
        )

    def _settle(self, death: Death, verdict: Verdict, now: float) -> Unloaded:
        self.deaths.settle(death, verdict.reason, verdict.by)
        told = self.journal.followed  # then its line has told the moment
        if verdict.reason is Reason.OUT_OF_MEMORY and death.listed_dead and not told:
            self.deaths.out_of_memory.append(death.at)
        if verdict.reason not in OWN_CAUSES | {Reason.CRASHED, Reason.SERVER_RESTARTED} or (
            verdict.reason is Reason.STOPPED
        ):
            scene = self._scene(death, now)
            born = next(iter(scene.births(death.at - SAME, death.at + ANSWER_WITHIN)), None)
            if born is not None:
                self.deaths.rhythm.learn(born.born - death.at)
        low = death.at - AT_ONCE if death.runner.alive is None else death.runner.alive
        return unloaded(death.life, verdict, low, death.at, now)

    # -- state -----------------------------------------------------------------------------------

    def _want(self, moment: float) -> None:
        self._wanted = sorted({*self._wanted, moment})[:16]

    def loading(self) -> dict[str, tuple[float, int]]:
        """Return name -> birth and pid of processes that are not listed yet."""
        found: dict[str, tuple[float, int]] = {}
        for runner in self.runners.living:
            names = self.runners.names(runner.weights)
            if runner.key is None and names:
                found.setdefault(self._accounts.likeliest(names), (runner.born, runner.pid))
        return found

    def urgent(self) -> float | None:
        """Return when the next poll is wanted, for a birth, a death or a load under way."""
        longest, last = self.deaths.rhythm.longest, self._polled or 0.0
        ends = [death.at + longest for death in self.deaths.pending]
        wanted = [*self._wanted[:1], *(end for end in ends if end > last)]
        loading = [r.born for r in self.runners.living if r.key is None]
        if loading and self._polled is not None:
            step = LOAD_STEP * (self._polled - max(loading))
            wanted.append(self._polled + max(0.5, step))
        return min(wanted, default=None)

    def _loaded(
        self, model: RunningModel, runner: Runner, low: float, high: float, now: float
    ) -> Loaded:
        return Loaded(model, low, high, now, frozenset({Source.PROCESS}))


def load_time(runner: Runner, poll: Snapshot) -> float | None:
    """Return how long a load took, from birth to the first listing; None: the bounds are wide.

    Servers before 0.30 list a model while it loads: then no poll saw it born and not listed.
    """
    if runner.unlisted is None:
        return None
    took = poll.started - runner.born
    wide = poll.started - runner.unlisted > max(1.0, PRECISE * took)
    return None if wide else took


def unloaded(life: Life, verdict: Verdict, low: float, high: float, now: float) -> Unloaded:
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
    )
