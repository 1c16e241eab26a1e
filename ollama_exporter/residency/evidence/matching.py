# SPDX-License-Identifier: Apache-2.0
"""Which listed model is which process: what a listing means once the processes are known.

Dead models are taken out of it, living ones are joined to their processes, and a process that is no
model's yet is one that loads.
"""

import math
from collections import deque
from dataclasses import replace
from typing import Final

from msgspec import Struct

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Event, Found, Loaded, Measured, Source
from ollama_exporter.residency.evidence.case import NextLoad
from ollama_exporter.residency.evidence.log_lines import LogEvidence, LoggedUnload
from ollama_exporter.residency.evidence.process_exits import ProcessExit, ProcessExits
from ollama_exporter.residency.evidence.runner_processes import RunnerProcess, RunnerProcesses
from ollama_exporter.residency.facts import Snapshot
from ollama_exporter.residency.incarnation import Incarnation, Key
from ollama_exporter.residency.unload import ModelUnload

LOADS: Final = 5  # latest loads of the same weights that tell how long one takes
WIDE: Final = 1.0  # seconds: a load time is known if its bounds are closer than this,
PRECISE: Final = 0.25  # or than this share of it
MOST_SHOWN: Final = 1024
MOST_ENDED: Final = 64
POLLS: Final = 20  # latest polls that show how busy the host is


class Sifted(Struct, frozen=True):
    """A listing without dead models, and the loads that only a dead model shows."""

    living: dict[Key, RunningModel]
    loads: tuple[Event, ...] = ()


class ProcessMatching:
    """Joins incarnations and processes."""

    def __init__(
        self, lives: dict[Key, Incarnation], exits: ProcessExits, log: LogEvidence
    ) -> None:
        self.runners = RunnerProcesses()
        # weights -> the model as last listed
        self.shown: BoundedDict[str, RunningModel] = BoundedDict(MOST_SHOWN)
        self.dead: dict[Key, RunningModel] = {}  # listed, though their processes are dead
        self.polled: float | None = None  # start of the last answered poll
        self.scans = False  # scans are reported
        self._lives, self._exits, self._log = lives, exits, log
        # weights -> bounds of the latest load times
        self._took: BoundedDict[str, deque[tuple[float, float]]] = BoundedDict(MOST_SHOWN)
        self._suspects: dict[Key, RunnerProcess] = {}  # exited at a moment that is not known
        # that polls showed before their processes were known
        self._ended: deque[ModelUnload] = deque(maxlen=MOST_ENDED)
        self._took_long: deque[float] = deque(maxlen=POLLS)  # the latest polls

    # -- a listing -------------------------------------------------------------------------------

    def sift(self, poll: Snapshot, *, seen: bool) -> Sifted:
        """Remove dead models from a listing, and join the others to their processes.

        `seen`: processes can be seen at present.
        """
        living: dict[Key, RunningModel] = {}
        loads: list[Event] = []
        self.dead = {}
        self._took_long.append(poll.ended - poll.started)
        self._claim()
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
                    early = runner.born < life.first_seen  # its name became known late
                    runner.listed = life.first_seen if early else life.seen
            if runner is not None and life is not None:
                self.shown[runner.weights], runner.context = model, model.context
        self._note_removals(poll, living)
        self._suspects.clear()
        unbound = [k for k in living if k not in self._lives or self.runners.of(k) is None]
        self.runners.unlisted(unbound, poll.started)
        self.polled = poll.started
        return Sifted(living, tuple(loads))

    def _is_dead(self, model: RunningModel, poll: Snapshot, *, seen: bool) -> bool:
        """Return whether a listed model is known to be dead."""
        exited = self._exits.listed.get(model.key)
        if exited is None or model.key in self._lives:
            return False
        if any(
            runner.key is None
            and runner.weights == exited.runner.weights
            and runner.born > exited.at - timings.SAME_MOMENT
            for runner in self.runners.living
        ):
            return False  # its successor
        if not seen and model.expires_at != exited.life.model.expires_at:
            return False  # the same, as far as can be told
        if poll.started >= exited.at + timings.NOTICED_AT_ONCE:
            exited.polled = poll.started
            exited.seen_dead = exited.seen_dead or poll.started
            if exited.dead_at is None and poll.started >= self.dead_from(exited, model):
                exited.dead_at = poll.started
            self.dead[model.key] = model
        return True

    def dead_from(self, exited: ProcessExit, model: RunningModel) -> float:
        """Return from when on a listing that still has the model shows that it crashed.

        A listing that began right after the exit does not: a busy server removes the entry late.
        Nor does one listing of what may be a successor that lives between two scans. Then a scan
        must have found none after that listing, and a later one must have the model still.
        """
        slowest = max(self._took_long, default=0.0)
        wait = max(timings.REMOVED_AFTER_EXIT, timings.SLOW_HOST * slowest)
        late = exited.at + min(wait, timings.REMOVED_AT_LAST)
        if not self.scans or exited.is_same_entry(model):
            return late
        if exited.alone_at is None:
            return math.inf
        return max(late, exited.alone_at + timings.REMOVED_AFTER_EXIT)

    def suspect(self, runner: RunnerProcess) -> None:
        """Note an exit that a scan told: the polls tell when the model left the list.

        If the next poll still lists it, it has crashed.
        """
        if runner.key is not None:
            self._suspects[runner.key] = runner

    def _outlived(self, model: RunningModel, poll: Snapshot) -> bool:
        """Return whether a listed model is a suspect's and cannot be a successor."""
        runner, life = self._suspects.get(model.key), self._lives.get(model.key)
        if runner is None or life is None or life.reloaded(model):
            return False
        if any(r.key is None and r.weights == runner.weights for r in self.runners.living):
            return False
        self._add_dead(model, life, runner, poll)
        del self._lives[model.key]
        return True

    def _add_dead(
        self, model: RunningModel, life: Incarnation, runner: RunnerProcess, poll: Snapshot
    ) -> None:
        died, polled = runner.died or poll.started, poll.started
        exited = ProcessExit.of(life, runner, died)
        exited.polled = exited.seen_dead = polled
        exited.dead_at = polled if polled >= self.dead_from(exited, model) else None
        self._exits.add(exited)
        self.dead[model.key] = model

    def _was_stillborn(self, model: RunningModel, poll: Snapshot, loads: list[Event]) -> bool:
        """Return whether a model that is listed for the first time exited right after its load."""
        if model.key in self._lives:
            return False
        fitting = self.runners.free(model.key)
        # What exited before the poll that did not list it cannot be what this one lists.
        since = max(self._exits.server_died or 0.0, self.polled or 0.0)
        dead = [
            runner
            for runner in fitting
            if runner.died is not None
            and since < runner.died < poll.started
            and (runner.unlisted is None or runner.unlisted <= runner.died)
        ]
        if not dead or any(runner.died is None for runner in fitting):
            return False
        runner = dead[-1]
        life = Incarnation(model, runner.unlisted, poll.started, poll.started, model.expires_at, 0)
        self.runners.join(runner, model.key)
        self._add_dead(model, life, runner, poll)
        low, source = runner.unlisted or runner.born, frozenset({Source.PROCESS})
        loads.append(
            Found(model, poll.ended)
            if self.polled is None
            else Loaded(model, low, runner.died or poll.started, poll.ended, source)
        )
        return True

    def _note_removals(self, poll: Snapshot, living: dict[Key, RunningModel]) -> None:
        listed = {model.key for model in poll.models}
        for key, exited in list(self._exits.listed.items()):
            if poll.started >= exited.at + timings.NOTICED_AT_ONCE:
                exited.polled = exited.polled or poll.started
                if key not in listed or key in living:
                    exited.removed = poll.ended
                    del self._exits.listed[key]

    # -- incarnations ----------------------------------------------------------------------------

    def holds(self, key: Key, poll: Snapshot) -> bool:
        """Return whether a model that a poll does not list goes on, because its process lives.

        The newest servers remove the entry before they kill the process; its exit is the end then.
        """
        runner = self.runners.of(key)
        if runner is None:
            return False
        if runner.missing is None:
            runner.missing = poll.started
        if poll.started - runner.missing < timings.KEPT_ALIVE:
            return True
        runner.key, runner.spent = None, True
        return False

    def reloaded(self, life: Incarnation, model: RunningModel) -> bool:
        """Return whether the model listed now cannot be the same runner.

        Its size may change while its process lives, but not its context: then its exit was missed.
        """
        runner = self.runners.of(life.key)
        if runner is None:
            return life.reloaded(model)
        runner.missing = None
        if model.context == life.model.context:
            return False
        self.runners.abandon(runner)
        return True

    def on_unload(self, unload: ModelUnload) -> None:
        """Note an unload that polls show. Its process may become known later."""
        if self.runners.of(unload.key) is None:
            self._ended.append(unload)

    def on_return(self, unload: ModelUnload) -> None:
        """Note that an incarnation goes on although polls seemed to show its end."""
        if unload in self._ended:
            self._ended.remove(unload)

    def _claim(self) -> None:
        """Find the processes of incarnations that polls have ended: no other may end by them."""
        for ended in list(self._ended):
            fitting = (r for r in self.runners.free(ended.key) if _may_have_been(r, ended))
            runner = next(fitting, None)
            if runner is not None:
                runner.spent = True
                self._ended.remove(ended)

    def begin(self, life: Incarnation, poll: Snapshot) -> RunnerProcess | None:
        """Join a new incarnation to its process, and learn how long its load took."""
        runner = self.runners.bind(life.key, before=poll.started)
        if runner is None:
            return None
        runner.listed = poll.started
        self.shown[runner.weights], runner.context = life.model, life.model.context
        if runner.unlisted is not None:
            took = (runner.unlisted - runner.born, poll.ended - runner.born)
            known = self._took.get(runner.weights, deque[tuple[float, float]](maxlen=LOADS))
            known.append(took)
            self._took[runner.weights] = known
            self.runners.note_load(runner.weights, took[0])
        life.since = runner.unlisted or max(runner.born, life.since or runner.born)
        return runner

    def end(self, runner: RunnerProcess) -> Incarnation | None:
        """Remove and return the incarnation of a process that exited, if a poll has listed it."""
        self._claim()
        key = runner.key or self._unbound(runner)
        life = None if key is None else self._lives.pop(key, None)
        if life is not None:
            self.runners.join(runner, life.key)
        return life

    def _unbound(self, runner: RunnerProcess) -> Key | None:
        """Return a listed model that this must have been: listed before its birth was known."""
        if runner.spent:
            return None
        fitting = (
            key
            for key, life in self._lives.items()
            if self.runners.of(key) is None
            and life.first_seen >= runner.born
            and self.runners.fits(runner, key)
        )
        return next(fitting, None)

    def never_listed(self, runner: RunnerProcess, at: float) -> Incarnation | None:
        """Return the incarnation of a process that exited before a poll listed it, if it had one.

        It was loaded if it lived for longer than a load of its weights takes, or if the log says
        that the load was done. Shorter lives are loads that failed, or that their clients left.
        """
        key, took = self.runners.key_of(runner.weights), self._took.get(runner.weights)
        model = self.shown.get(runner.weights)
        if runner.spent or runner.key is not None or key is None or model is None or not took:
            return None
        names = self.runners.names(runner.weights)
        if any(
            life.model.name in names and self.runners.of(k) is None
            for k, life in self._lives.items()
        ):
            return None  # a listed model whose process is not known: it may be this very one
        logged = self._log.loaded(runner.born, at)
        surely = min(high for _, high in took)
        if logged is False or (logged is None and at - runner.born < surely):
            return None
        begun = min(at, runner.born + min(low for low, _ in took))
        runner.listed = at
        self.runners.join(runner, key)
        model = replace(model, expires_at=0.0, context=None)
        return Incarnation(model, runner.unlisted or runner.born, begun, at, float("inf"), 0)

    def load_time(
        self, life: Incarnation, runner: RunnerProcess | None, poll: Snapshot
    ) -> tuple[float | None, Measured | None]:
        """Return how long a load took and how it was measured: by the log where it tells.

        Else it is the time from the birth to the first listing, if these bounds are close. Servers
        before 0.30 list a model while it loads: no poll saw it born and not listed.
        """
        name = life.model.name
        weights = self.runners.weights_of(name) if runner is None else runner.weights
        logged = None if weights is None else self._log.load_time(weights, poll.ended)
        if logged is not None:
            return logged, Measured.LOG
        if runner is None or runner.unlisted is None:
            return None, None
        took = poll.started - runner.born
        wide = poll.started - runner.unlisted > max(WIDE, PRECISE * took)
        return (None, None) if wide else (took, Measured.PROCESS)

    def next_load(self, logged: LoggedUnload) -> NextLoad | None:
        """Return what was loaded next, by the log. None: nothing yet."""
        found = self._log.next_load(logged.at)
        if found is None:
            return None
        weights, name = found
        name = name or next(iter(self.runners.names(weights)), None)
        return NextLoad(name, other_weights=weights != logged.weights)


def _may_have_been(runner: RunnerProcess, ended: ModelUnload) -> bool:
    """Return whether that process can have been the runner of what left between two polls."""
    if runner.born > ended.life.first_seen:
        return False
    alive = runner.died if runner.alive is None else runner.alive
    latest = ended.high + timings.KEPT_ALIVE  # the newest servers remove the entry first
    dead_before = runner.died is not None and runner.died < ended.low - timings.EXIT_ERROR
    return not dead_before and (alive is None or alive <= latest)
