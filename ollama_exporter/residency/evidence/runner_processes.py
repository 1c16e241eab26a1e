# SPDX-License-Identifier: Apache-2.0
"""Runner processes: which live, which weights each has, and which listed model each one is.

The server starts one process for each weights file; names that share a file share its process. A
name is joined to weights by `/api/show`, and from then on by what was joined before.
"""

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable
from itertools import count
from typing import Final

from msgspec import Struct

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.residency.facts import ProcessExited, ProcessStarted, WeightsNamed
from ollama_exporter.residency.incarnation import Key
from ollama_exporter.residency.timings import SAME_BIRTH, SAME_MOMENT

MOST_LIVING: Final = 512  # processes remembered; a server has a handful
MOST_DEAD: Final = 128
MOST_NAMES: Final = 1024
NAMED_WEIGHTS: Final = 4  # kept per name: new weights come before the old ones are gone


class RunnerProcess(Struct, eq=False):
    """One runner process. Moments are on our timeline."""

    number: int  # ours, because a pid is used again
    pid: int
    weights: str
    born: float
    died: float | None = None  # when its exit was noticed
    alive: float | None = None  # when it was last known to live, if that is earlier
    key: Key | None = None  # the listed model that it is
    unlisted: float | None = None  # start of the last answered poll without it, while it lived
    listed: float | None = None  # start of the first poll that listed it
    context: int | None = None  # that it was listed with
    orphan: bool = False  # its server is dead
    missing: float | None = None  # start of the first poll of late that did not list its model
    spent: bool = False  # the incarnation that it was has ended

    @property
    def loaded_after(self) -> float:
        """Until when it surely was not loaded: an out-of-memory drops only what is."""
        return self.born if self.unlisted is None else self.unlisted

    def lived(self, moment: float) -> bool:
        """Return whether it surely lived at that moment."""
        dead = self.died is not None and self.died <= moment + SAME_MOMENT
        return self.born < moment - SAME_MOMENT and not dead


class RunnerProcesses:
    """The runner processes that were seen, and the names of their weights."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._living: OrderedDict[int, RunnerProcess] = OrderedDict()  # by pid
        self._dead: deque[RunnerProcess] = deque(maxlen=MOST_DEAD)
        self._sorted: list[RunnerProcess] | None = None
        self._named: BoundedDict[str, list[str]] = BoundedDict(MOST_NAMES)  # latest weights last
        # name -> when it was found to stand for other weights, and for which before
        self._renamed: BoundedDict[str, list[tuple[float, str]]] = BoundedDict(MOST_NAMES)
        self._joined: BoundedDict[Key, str] = BoundedDict(MOST_NAMES)  # seen together
        # weights -> a load of them takes at least so many seconds, by those seen so far
        self._least_load: BoundedDict[str, float] = BoundedDict(MOST_NAMES)

    # -- births and exits ------------------------------------------------------------------------

    def start(self, fact: ProcessStarted) -> RunnerProcess | None:
        """Add a process that was born. Return None if it is known already."""
        known = self._living.get(fact.pid)
        if known is not None and abs(known.born - fact.born) < SAME_BIRTH:
            return None
        runner = RunnerProcess(next(self._numbers), fact.pid, fact.weights or "", fact.born)
        self._living[fact.pid], self._sorted = runner, None
        while len(self._living) > MOST_LIVING:
            self._living.popitem(last=False)
        return runner

    def missed_exit(self, fact: ProcessStarted) -> ProcessExited | None:
        """Return the exit that was missed if a birth shows that a pid is used again."""
        known = self._living.get(fact.pid)
        if known is None or abs(known.born - fact.born) < SAME_BIRTH:
            return None
        return ProcessExited(fact.at, fact.pid, alive=known.born)

    def exit(self, fact: ProcessExited) -> RunnerProcess | None:
        """Note an exit. Return None if the process is not known."""
        runner = self._living.pop(fact.pid, None)
        if runner is not None:
            runner.died, runner.alive = fact.at, fact.alive
            self._dead.append(runner)
            self._sorted = None
        return runner

    def forget(self) -> None:
        """Forget the living ones: processes can no longer be seen."""
        self._living.clear()
        self._sorted = None

    def orphan(self) -> None:
        """Disown those that live on after their server died."""
        for runner in self._living.values():
            runner.orphan, runner.key = True, None
        self._sorted = None

    def abandon(self, runner: RunnerProcess) -> None:
        """Disown a process whose exit was missed."""
        runner.orphan, runner.key, self._sorted = True, None, None

    @property
    def living(self) -> Collection[RunnerProcess]:
        """The server's runners that live."""
        return [runner for runner in self._living.values() if not runner.orphan]

    @property
    def all(self) -> list[RunnerProcess]:
        """Living and recently dead ones, in order of birth."""
        if self._sorted is None:
            both = [*self._dead, *self._living.values()]
            own = (runner for runner in both if not runner.orphan)
            self._sorted = sorted(own, key=lambda runner: runner.born)
        return self._sorted

    # -- names and models ------------------------------------------------------------------------

    def name(self, fact: WeightsNamed) -> None:
        """Note which weights a name stands for now."""
        named = self._named.get(fact.model, [])
        if named and named[-1] != fact.weights:
            renamed = [*self._renamed.get(fact.model, ()), (fact.at, named[-1])]
            self._renamed[fact.model] = renamed[-NAMED_WEIGHTS:]
        known = [weights for weights in named if weights != fact.weights]
        self._named[fact.model] = [*known, fact.weights][-NAMED_WEIGHTS:]

    def names(self, weights: str) -> list[str]:
        """Return the names that stand for those weights now, then those that ever did."""
        joined = [key[0] for key, known in self._joined.items() if known == weights]
        now = [name for name, known in self._named.items() if known[-1] == weights]
        ever = [name for name, known in self._named.items() if weights in known]
        return list(dict.fromkeys([*now, *reversed(joined), *ever]))

    def weights_of(self, name: str) -> str | None:
        """Return the weights that a name stands for now."""
        known = self._named.get(name)
        return known[-1] if known else None

    def weights_at(self, name: str, moment: float) -> set[str]:
        """Return the weights for which a name may have stood at a moment.

        A name stands for other weights for a while before the server is asked.
        """
        now = self._named.get(name, [])[-1:]
        before = (weights for until, weights in self._renamed.get(name, ()) if moment < until)
        return {*now, *before}

    def key_of(self, weights: str) -> Key | None:
        """Return the model as which those weights were last listed."""
        return next((k for k in reversed(list(self._joined)) if self._joined[k] == weights), None)

    def fits(self, runner: RunnerProcess, key: Key) -> bool:
        """Return whether that process can be that listed model."""
        joined = self._joined.get(key)
        return runner.weights == joined if joined else runner.weights in self._named.get(key[0], ())

    def free(self, key: Key) -> list[RunnerProcess]:
        """Return the processes, living or dead, that are no model's and can be that one."""
        return [r for r in self.all if r.key is None and not r.spent and self.fits(r, key)]

    def _may_be(self, runner: RunnerProcess, key: Key) -> bool:
        """Return whether it is that listed model, or may be: its weights have no name so far.

        A name may have been given new weights that the server was not asked for yet.
        """
        if self.fits(runner, key):
            return True
        named = any(r.key is None and self.fits(r, key) for r in self.living)
        return key not in self._joined and not named and not self.names(runner.weights)

    def of(self, key: Key) -> RunnerProcess | None:
        """Return the living process of a listed model."""
        return next((r for r in self._living.values() if r.key == key), None)

    def bind(self, key: Key, *, before: float) -> RunnerProcess | None:
        """Join a listed model to the youngest free process that has its weights.

        `before`: a process that was born later cannot be what was listed then. The weights are
        those to which the model was joined before, else those that its name stands for now, else
        earlier ones of its name to which no other digest was joined.
        """
        free = [r for r in self._living.values() if r.key is None and r.born < before]
        free = [runner for runner in free if not runner.orphan and not runner.spent]
        if not free:
            return None
        named = self._named.get(key[0], [])
        others = {weights for known, weights in self._joined.items() if known != key}
        earlier = [weights for weights in reversed(named[:-1]) if weights not in others]
        candidates = [self._joined.get(key), *named[-1:], *([] if key in self._joined else earlier)]
        free.sort(key=lambda runner: -runner.born)
        for weights in candidates:
            runner = next((r for r in free if r.weights == weights), None)
            if runner is not None:
                self.join(runner, key)
                return runner
        return None

    def join(self, runner: RunnerProcess, key: Key) -> None:
        """Note that this process is that listed model."""
        runner.key = key
        self._joined[key] = runner.weights

    def unlisted(self, keys: Iterable[Key], started: float) -> None:
        """Note that an answered poll did not list the processes that are no model's yet."""
        listed = list(keys)
        for runner in self.living:
            if (
                runner.key is None
                and runner.born < started
                and not any(self._may_be(runner, key) for key in listed)
            ):
                runner.unlisted = started

    # -- loads -----------------------------------------------------------------------------------

    def note_load(self, weights: str, seconds: float) -> None:
        """Note that a load took at least so long."""
        self._least_load[weights] = min(seconds, self._least_load.get(weights, seconds))

    def loading(self, moment: float) -> bool:
        """Return whether one was surely loading at that moment: born, and listed later.

        Or its weights never took so little time to load.
        """
        return any(r.lived(moment) and moment <= self._loading_until(r) for r in self.all)

    def _loading_until(self, runner: RunnerProcess) -> float:
        """Return until when it was surely loading."""
        least = runner.born + self._least_load.get(runner.weights, 0.0)
        return max(runner.unlisted or 0.0, min(least, runner.listed or least))

    def loading_through(self, low: float, high: float) -> bool:
        """Return whether one was surely loading all that time."""
        return any(r.lived(low) and r.lived(high) and (r.unlisted or 0.0) >= high for r in self.all)
