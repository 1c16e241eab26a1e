# SPDX-License-Identifier: Apache-2.0
"""Signs of several servers behind one address that need no repeated deadline. Pure.

One server can be made to show almost any sequence of listings: its models are evicted in turn. What
it does not do is measured on the recordings (15, polls thinned to 0.5-60 s, all phases): the bounds
below lie beyond every one of them.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.protocol.wire import InstalledModel, RunningModel

WATCHED: Final = 16  # polls
MOST_SERVERS: Final = 5  # whose listings take turns
TURNS: Final = 6  # listings in a row that each return to a former one: recorded are 4
TURNS_WITH_NOTHING: Final = 11  # where every other listing is empty: a client may stop a model
TURNS_TOO_FAST: Final = 3  # where there was no time for the loads
LEAST_READY: Final = 0.25  # seconds; the server looks that often whether a load is done
# Returns to former listings within all watched polls: among so many different ones, so many are
# certain; recorded are 4 and 8. Of those that come with an early loss, among up to five: 5.
RETURNS: Final = {2: 6, 3: 10}
EARLY_RETURNS: Final = 8
STILL: Final = 0.5  # the share of these numbers that keeps it known
LIKELY_TURNS: Final = 2
LIKELY_LOAD: Final = 2.0  # seconds; an eviction and a load rarely take less
LIKELY_RETURNS: Final = 3  # among so many different ones
LIKELY_LISTINGS: Final = 3
EARLY: Final = 1.0  # seconds before its deadline; what leaves then did not expire
SHARE: Final = 0.05  # of a model in video memory; a smaller difference is no other runner
MOST_RUNNERS: Final = 4  # different ones of one model
MOST_MODELS: Final = 4096
MOST_CONNECTIONS: Final = 8

CLOCK_GAP: Final = 0.3  # seconds between two clocks; a clock that is being adjusted moves by less
CLOCKS: Final = 5
INVENTORIES: Final = 8
RESTLESS: Final = 6  # changes without a return; a gateway may stamp each list with the present
VERSIONS: Final = 8
VERSIONS_FOR: Final = 1800.0  # seconds; an upgrade and a way back take a person longer

Key = tuple[str, str]  # name and digest
Runner = tuple[Key, int]  # a model, and which of its runners
_NONE: Final[frozenset[Runner]] = frozenset()


class SeenListing(Struct, frozen=True):
    """One listing: what it holds, and whether something had left before its deadline."""

    runners: frozenset[Runner]
    early: bool
    back: bool  # what had left early is back, and nothing else has left
    started: float
    ended: float


class ListingTurns:
    """Looks for listings that take turns, as those of several servers do."""

    def __init__(self) -> None:
        self._seen: deque[SeenListing] = deque(maxlen=WATCHED)
        self._deadlines: dict[Runner, float] = {}  # of the listing before
        self._runners: BoundedDict[Key, tuple[tuple[int | None, float], ...]] = BoundedDict(
            MOST_MODELS
        )
        self._turns = dict.fromkeys(range(2, MOST_SERVERS + 1), 0)  # in a row, by servers
        self._of_connections: deque[frozenset[Runner]] = deque(maxlen=MOST_CONNECTIONS)
        self._lost_early = False  # something, by the latest change
        self.has_changed = False  # by the latest poll
        self.has_lost_early = False  # something, in the latest poll
        self.returned_with_connection = False  # the latest listing, to that of a former connection

    def on_poll(
        self,
        models: Iterable[RunningModel],
        *,
        started: float,
        ended: float,
        ahead: float,
        new_connection: bool,
        explained: Callable[[Key], bool],
    ) -> None:
        """Compare a listing with earlier ones. `ahead`: of the server's clock, at most.

        `explained`: whether a stop or the exit of a runner was seen, so that the absence of a model
        is no sign.
        """
        deadlines = {(model.key, self._runner_of(model)): model.expires_at for model in models}
        listed, now = frozenset(deadlines), ended + ahead + EARLY
        gone = self._deadlines.keys() - listed
        early = any(self._deadlines[runner] > now for runner in gone if not explained(runner[0]))
        before = self._seen[-1].runners if self._seen else _NONE
        self.has_changed, self.has_lost_early = listed != before, early
        back = self.has_changed and self._lost_early and not gone
        self.returned_with_connection = False
        if new_connection:
            returned = self.has_changed and listed in self._of_connections
            self.returned_with_connection = (early or back) and bool(listed) and returned
            self._of_connections.append(before)
        self._deadlines = deadlines
        self._lost_early = early if self.has_changed else self._lost_early
        self._seen.append(SeenListing(listed, early, back, started, ended))
        for servers in self._turns:
            self._turns[servers] = self._turns[servers] + 1 if self._is_turn(servers) else 0

    def is_certain(self, *, known: bool) -> bool:
        """Return whether no single server does this. `known`: several have answered so far."""
        turns = max(self._turns.values())
        empty = self._turns[2] == turns and not all(x.runners for x in list(self._seen)[-2:])
        enough = TURNS_WITH_NOTHING if empty else TURNS
        if turns >= enough or (turns >= TURNS_TOO_FAST and self._is_faster(turns, LEAST_READY)):
            return True
        different = self._different()
        if len(self._seen) < WATCHED or different > MOST_SERVERS:
            return False
        returns, early = self._returns()
        weight = 1.0 / STILL if known else 1.0
        enough = RETURNS.get(different, WATCHED)
        return weight * returns >= enough or weight * early >= EARLY_RETURNS

    @property
    def is_likely(self) -> bool:
        """Whether a single server does this rarely."""
        turns = max(self._turns.values())
        if turns >= LIKELY_TURNS or (turns and self._is_faster(turns, LIKELY_LOAD)):
            return True
        return self._different() <= LIKELY_LISTINGS and self._returns()[1] >= LIKELY_RETURNS

    def _different(self) -> int:
        return len({seen.runners for seen in self._seen})

    def _is_turn(self, servers: int) -> bool:
        """Return whether the latest listing is that of so many polls ago, and none in between."""
        seen = self._seen
        if len(seen) <= servers:
            return False
        latest, early = seen[-1].runners, any(seen[-n].early for n in range(1, servers + 1))
        between = (seen[-n].runners for n in range(2, servers + 1))
        return early and seen[-1 - servers].runners == latest and latest not in set(between)

    def _is_faster(self, turns: int, load: float) -> bool:
        """Return whether a load of so many seconds in each turn would have taken longer."""
        return self._seen[-1].ended - self._seen[-1 - turns].started < turns * load

    def _returns(self) -> tuple[int, int]:
        """Return how often a former listing was back, and how often with something lost early."""
        returns, early = 0, 0
        former, last = set[frozenset[Runner]](), _NONE
        for number, seen in enumerate(self._seen):
            if number and seen.runners != last and seen.runners in former:
                returns += seen.early or seen.back
                early += seen.early
            if number:
                former.add(last)
            last = seen.runners
        return returns, early

    def _runner_of(self, model: RunningModel) -> int:
        """Return which runner of its model this is: another context or place is another one."""
        share = (model.size_vram or 0) / model.size if model.size else 0.0
        known = self._runners.get(model.key, ())
        for number, (context, placed) in enumerate(known):
            if context == model.context and abs(share - placed) <= SHARE:
                return number
        self._runners[model.key] = (*known, (model.context, share))[:MOST_RUNNERS]
        return min(len(known), MOST_RUNNERS)


class ClockTurns:
    """Looks for clocks that take turns. A clock that is set, once or twice, is one clock."""

    def __init__(self) -> None:
        self._clocks: deque[tuple[float, float]] = deque(maxlen=CLOCKS)  # bounds, the latest last

    @property
    def ahead(self) -> tuple[float, float] | None:
        """Bounds of how far the server's clock is ahead of ours, seconds; None: not known."""
        return self._clocks[-1] if self._clocks else None

    def on_poll(self, date: float, *, started: float, ended: float) -> bool:
        """Read a Date header, which counts whole seconds; return whether a former clock is back."""
        low, high = date - ended, date + 1.0 - started
        if not self._clocks:
            self._clocks.append((low, high))
            return False
        known = self._clocks[-1]
        if _apart((low, high), known) < CLOCK_GAP:
            both = max(low, known[0]), min(high, known[1])
            self._clocks[-1] = both if both[0] <= both[1] else (low, high)
            return False
        former = [clock for clock in self._clocks if _apart((low, high), clock) <= 0.0]
        if former:
            self._clocks.remove(former[-1])
        self._clocks.append(former[-1] if former else (low, high))
        return bool(former)


class VersionTurns:
    """Looks for versions that take turns. An upgrade, or one that is taken back, is none."""

    def __init__(self) -> None:
        self._seen: deque[tuple[str, float]] = deque(maxlen=VERSIONS)  # and since when

    def on_version(self, version: str, at: float) -> bool:
        """Read a version; return whether a former one is back."""
        if self._seen and self._seen[-1][0] == version:
            return False
        former = any(seen == version and at - since < VERSIONS_FOR for seen, since in self._seen)
        self._seen.append((version, at))
        return former


class InventoryTurns:
    """Looks for lists of installed models that take turns.

    A manifest is written when its model is pulled or created, so its time never goes back. A list
    changes rarely, and returns to a former state only if somebody takes the change back.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[frozenset[InstalledModel], float]] = deque(maxlen=INVENTORIES)
        self.at = -math.inf  # when the latest one was read
        self.alike = 0  # in a row, up to the latest one
        self.changed_at = -math.inf  # when one differed from the one before
        self._restless = 0  # changes in a row that no former list explains

    def on_installed(self, models: Iterable[InstalledModel], at: float) -> bool:
        """Read a list; return whether a former one is back, or a time has gone back."""
        self.at = at
        listed = frozenset(models)
        if not self._seen:
            self._seen.append((listed, at))
            return False
        before = self._seen[-1][0]
        self.alike += 1
        if listed == before:
            return False
        self.alike = 0
        written = {(model.name, model.digest): model.modified for model in before}
        older = any(
            0 < model.modified < written.get((model.name, model.digest), 0.0) for model in listed
        )
        former = any(seen == listed and at - since < VERSIONS_FOR for seen, since in self._seen)
        self._seen.append((listed, at))
        self._restless = 0 if older or former else self._restless + 1
        if self._restless <= RESTLESS:
            self.changed_at = at
        return older or former


def _apart(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Return by how much two bounds miss each other; 0 or less: they do not."""
    return max(one[0] - other[1], other[0] - one[1])
