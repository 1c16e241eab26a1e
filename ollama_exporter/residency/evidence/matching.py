# SPDX-License-Identifier: Apache-2.0
"""Which listed model is which process: what a listing tells once the processes are known.

The dead are taken out of it, the living are joined to their processes, and a process that is nobody
yet is one that loads.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from typing import Final

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.events import Event, Found, Loaded, Measured, Source
from ollama_exporter.residency.evidence.log_lines import LogEvidence, LoggedExit
from ollama_exporter.residency.evidence.process_exits import ProcessExit, ProcessExits
from ollama_exporter.residency.evidence.runner_processes import SAME, RunnerProcess, RunnerProcesses
from ollama_exporter.residency.facts import Snapshot
from ollama_exporter.residency.incarnation import Incarnation, Key
from ollama_exporter.residency.rules.poll_rules import Newcomer

AT_ONCE: Final = 0.01  # what is noticed at once happened this much earlier at most
HELD: Final = 5.0  # a living runner may be off the list for so long before it is killed
LOADS: Final = 5  # latest loads of the same weights that tell how long one takes
WIDE: Final = 1.0  # a load time is known if its bounds are closer than this,
PRECISE: Final = 0.25  # or than this share of it
MOST_SHOWN: Final = 1024


@dataclass(frozen=True, slots=True)
class Sifted:
    """A listing without the dead, and the loads that only the dead among it show."""

    living: dict[Key, RunningModel]
    loads: tuple[Event, ...] = ()


class ProcessMatching:
    """Joins lives and processes."""

    def __init__(
        self, lives: dict[Key, Incarnation], deaths: ProcessExits, journal: LogEvidence
    ) -> None:
        self.runners = RunnerProcesses()
        self.shown: OrderedDict[str, RunningModel] = OrderedDict()  # weights -> as last listed
        self.dead: dict[Key, RunningModel] = {}  # listed, though their processes are dead
        self.polled: float | None = None  # start of the last answered poll
        self._lives, self._deaths, self._journal = lives, deaths, journal
        self._took: dict[str, deque[tuple[float, float]]] = {}  # weights -> bounds of load times
        self._missing: dict[Key, float] = {}
        self._suspects: dict[Key, RunnerProcess] = {}  # died at a moment that is not known

    # -- a listing -------------------------------------------------------------------------------

    def sift(self, poll: Snapshot, *, seen: bool) -> Sifted:
        """Take the dead out of a listing, and join what is listed to its process.

        `seen`: processes can be seen at present.
        """
        living: dict[Key, RunningModel] = {}
        loads: list[Event] = []
        self.dead = {}
        for model in poll.models:
            if self._is_dead(model, poll, seen=seen) or self._outlived(model, poll):
                continue
            if seen and self._was_stillborn(model, poll, loads):
                continue
            living[model.key] = model
            life = self._lives.get(model.key)
            runner = self.runners.of(model.key)
            if life is not None and runner is None:
                runner = self.runners.bind(model.key, before=life.seen)
                if runner is not None:
                    runner.listed = life.seen
            if runner is not None and life is not None:
                self._show(runner.weights, model)
        self._note_removals(poll, living)
        self._suspects.clear()
        self.runners.unlisted([key for key in living if key not in self._lives], poll.started)
        self.polled = poll.started
        return Sifted(living, tuple(loads))

    def _is_dead(self, model: RunningModel, poll: Snapshot, *, seen: bool) -> bool:
        """Tell whether what is listed is known to be dead."""
        death = self._deaths.listed.get(model.key)
        if death is None or model.key in self._lives:
            return False
        if any(
            runner.key is None
            and runner.weights == death.runner.weights
            and runner.born > death.at - SAME
            for runner in self.runners.living
        ):
            return False  # its successor
        if not seen and model.expires_at != death.life.model.expires_at:
            return False  # likewise, as far as can be told
        if poll.started >= death.at + AT_ONCE:
            death.listed_dead, death.polled = True, poll.started
            death.seen_dead = death.seen_dead or poll.started
            self.dead[model.key] = model
        return True

    def suspect(self, runner: RunnerProcess) -> None:
        """Take a death whose moment a scan told: when it left the list is for the polls to tell.

        If the next one lists it still, it has crashed.
        """
        if runner.key is not None:
            self._suspects[runner.key] = runner

    def _outlived(self, model: RunningModel, poll: Snapshot) -> bool:
        """Tell whether what is listed is a suspect's, and no successor can be what is listed."""
        runner, life = self._suspects.get(model.key), self._lives.get(model.key)
        if runner is None or life is None or life.reloaded(model):
            return False
        if any(r.key is None and r.weights == runner.weights for r in self.runners.living):
            return False
        died = runner.died or poll.started
        del self._lives[model.key]
        polled = poll.started
        self._deaths.add(
            ProcessExit(life, runner, died, polled, listed_dead=True, seen_dead=polled)
        )
        self.dead[model.key] = model
        return True

    def _was_stillborn(self, model: RunningModel, poll: Snapshot, loads: list[Event]) -> bool:
        """Tell whether what is listed for the first time died in its first moments."""
        if model.key in self._lives:
            return False
        fitting = [r for r in self.runners.all if r.key is None and self.runners.fits(r, model.key)]
        dead = [
            runner
            for runner in fitting
            if runner.died is not None
            and (self._deaths.server_died or 0.0) < runner.died < poll.started
            and (runner.unlisted is None or runner.unlisted <= runner.died)
        ]
        if not dead or any(runner.died is None for runner in fitting):
            return False
        runner = dead[-1]
        died = runner.died or poll.started
        life = Incarnation(model, runner.unlisted, poll.started, poll.started, model.expires_at, 0)
        self.runners.join(runner, model.key)
        self._deaths.add(
            ProcessExit(life, runner, died, poll.started, listed_dead=True, seen_dead=poll.started)
        )
        self.dead[model.key] = model
        low, source = runner.unlisted or runner.born, frozenset({Source.PROCESS})
        loads.append(
            Found(model, poll.ended)
            if self.polled is None
            else Loaded(model, low, died, poll.ended, source)
        )
        return True

    def _note_removals(self, poll: Snapshot, living: dict[Key, RunningModel]) -> None:
        listed = {model.key for model in poll.models}
        for key, death in list(self._deaths.listed.items()):
            if poll.started >= death.at + AT_ONCE:
                death.polled = death.polled or poll.started
                if key not in listed or key in living:
                    death.removed = poll.ended
                    del self._deaths.listed[key]

    # -- lives -----------------------------------------------------------------------------------

    def holds(self, key: Key, poll: Snapshot) -> bool:
        """Tell whether a life that a poll does not list goes on: its process lives.

        The newest servers take it off the list before they kill it; then its death is the end.
        """
        runner = self.runners.of(key)
        if runner is None:
            return False
        since = self._missing.setdefault(key, poll.started)
        if poll.started - since < HELD:
            return True
        del self._missing[key]
        runner.key = None
        return False

    def reloaded(self, life: Incarnation, model: RunningModel) -> bool:
        """Tell whether what is listed now cannot be the same runner.

        Its size may change while its process lives, but not its context: then its death was missed.
        """
        self._missing.pop(life.key, None)
        runner = self.runners.of(life.key)
        if runner is None:
            return life.reloaded(model)
        if model.context == life.model.context:
            return False
        self.runners.abandon(runner)
        return True

    def begin(self, life: Incarnation, poll: Snapshot) -> RunnerProcess | None:
        """Join a new life to its process, and learn how long its load took."""
        runner = self.runners.bind(life.key, before=poll.started)
        if runner is None:
            return None
        runner.listed = poll.started
        self._show(runner.weights, life.model)
        if runner.unlisted is not None:
            took = (runner.unlisted - runner.born, poll.ended - runner.born)
            self._took.setdefault(runner.weights, deque(maxlen=LOADS)).append(took)
        life.since = runner.unlisted or max(runner.born, life.since or runner.born)
        return runner

    def end(self, runner: RunnerProcess) -> Incarnation | None:
        """Take the life of a process that died, if a poll has listed it."""
        key = runner.key or self._unbound(runner)
        self._missing.pop(key or ("", ""), None)
        life = None if key is None else self._lives.pop(key, None)
        if life is not None:
            self.runners.join(runner, life.key)
        return life

    def _unbound(self, runner: RunnerProcess) -> Key | None:
        """Return a listed model that this must have been: listed before its birth was known."""
        fitting = (
            key
            for key, life in self._lives.items()
            if self.runners.of(key) is None
            and life.first_seen >= runner.born
            and self.runners.fits(runner, key)
        )
        return next(fitting, None)

    def never_listed(self, runner: RunnerProcess, at: float) -> Incarnation | None:
        """Return the life of a process that died before a poll could list it, if it was loaded.

        So it was if it lived for longer than its weights take to load, or if the log says that the
        load was done. Shorter lives are loads that failed, or that their clients left.
        """
        key, took = self.runners.key_of(runner.weights), self._took.get(runner.weights)
        model = self.shown.get(runner.weights)
        if runner.key is not None or key is None or model is None or not took:
            return None
        names = self.runners.names(runner.weights)
        if any(
            life.model.name in names and self.runners.of(k) is None
            for k, life in self._lives.items()
        ):
            return None  # a listed one whose process is not known: it may be this very one
        logged = self._journal.loaded(runner.born, at)
        surely = min(high for _, high in took)
        if logged is False or (logged is None and at - runner.born < surely):
            return None
        begun = min(at, runner.born + min(low for low, _ in took))
        runner.listed = at
        self.runners.join(runner, key)
        model = replace(model, expires_at=0.0, context=None)
        return Incarnation(model, runner.unlisted or runner.born, begun, at, float("inf"), 0)

    def _show(self, weights: str, model: RunningModel) -> None:
        self.shown[weights] = model
        self.shown.move_to_end(weights)
        if len(self.shown) > MOST_SHOWN:
            self._took.pop(self.shown.popitem(last=False)[0], None)

    def load_time(
        self, life: Incarnation, runner: RunnerProcess | None, poll: Snapshot
    ) -> tuple[float | None, Measured | None]:
        """Return how long a load took and how it was measured: the log's own figure if it is there.

        Else from birth to the first listing, if these bounds are close. Servers before 0.30 list a
        model while it loads: then no poll saw it born and not listed.
        """
        name = life.model.name
        weights = self.runners.weights_of(name) if runner is None else runner.weights
        logged = None if weights is None else self._journal.load_time(weights, poll.ended)
        if logged is not None:
            return logged, Measured.LOG
        if runner is None or runner.unlisted is None:
            return None, None
        took = poll.started - runner.born
        wide = poll.started - runner.unlisted > max(WIDE, PRECISE * took)
        return (None, None) if wide else (took, Measured.PROCESS)

    def newcomer(self, ending: LoggedExit) -> Newcomer | None:
        """Return what was loaded next, by the log; None: nothing yet."""
        found = self._journal.newcomer(ending.at)
        if found is None:
            return None
        weights, name = found
        name = name or next(iter(self.runners.names(weights)), None)
        return Newcomer(name, same_weights=weights == ending.weights)
