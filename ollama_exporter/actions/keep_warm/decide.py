# SPDX-License-Identifier: Apache-2.0
"""Keep-warm: which model to load or renew now, or why none. Pure: moments are arguments.

It never works against an operator (a stop, or a loss that nobody can explain, is left alone for the
grace time), never against memory (a model that another one drove out stays out while that one is
there), and never often (loads of one model have a bound per hour, and wait longer after each loss).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm, Warm
from ollama_exporter.residency.events import Reason

HOUR: Final = 3600.0
FIRST_WAIT: Final = 60.0  # after a failure or an eviction, doubled with each one
LONGEST_WAIT: Final = HOUR
FORGET: Final = 6 * HOUR  # two models that did not fit once are tried again
CALM: Final = 2 * HOUR  # resident for so long, a model's losses are forgotten
UNSETTLED: Final = 120.0  # longer, the reason of a loss is not waited for
COMES_BACK: Final = 60.0  # a request that had it reloaded brings it back by itself
RENEW_BELOW: Final = 0.5  # share of keep_alive that is left when a deadline is renewed
RENEW_AGAIN: Final = 0.1  # share of keep_alive between two attempts at that
SHORTEST_AGAIN: Final = 5.0
MOST_CONFLICTS: Final = 1000


class HeldModel(StrEnum):
    """Why a missing model is not loaded now; label `why` of a metric."""

    STOPPED = "stopped"  # somebody stopped it
    UNKNOWN = "unknown"  # it left early and nobody can say why: it may have been stopped
    UNSETTLED = "unsettled"  # why it left is not known yet
    NO_ROOM = "no_room"  # a model that it does not fit beside is resident
    BACKING_OFF = "backing_off"  # a load failed, or it was driven out
    BOUND = "bound"  # loaded often enough in this hour
    LOADING = "loading"  # something is being loaded
    NOT_INSTALLED = "not_installed"


@dataclass(frozen=True, slots=True)
class ResidentModel:
    """A model as last listed: seconds that are left, inf for ever."""

    left: float


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known at `now`. `wall`: the same moment as Unix seconds, for schedules."""

    now: float
    wall: float
    resident: dict[str, ResidentModel]
    loading: bool = False  # requests wait for a load, as far as they are seen
    installed: frozenset[str] | None = None  # None: not known


@dataclass(frozen=True, slots=True)
class LoadModel:
    """Load a model that is not resident."""

    warm: Warm


@dataclass(frozen=True, slots=True)
class RenewModel:
    """See that a resident model keeps its keep_alive, without ever shortening it."""

    warm: Warm


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, at most one thing; and who is held back."""

    action: LoadModel | RenewModel | None
    held: dict[str, HeldModel]


@dataclass(slots=True)
class AttemptHistory:
    """What happened to one model."""

    loads: deque[float] = field(default_factory=deque)  # of the last hour
    losses: int = 0  # failures and evictions in a row
    not_before: float = 0.0  # back-off
    held_until: float = 0.0  # a stop
    held: HeldModel = HeldModel.STOPPED
    since: float | None = None  # resident since, as far as seen
    lost_at: float | None = None  # its loss has no reason yet
    renewed_at: float = float("-inf")


class Keeper:
    """Plans for the models of the section, one action at a time."""

    def __init__(self, section: KeepWarm) -> None:
        self.section = section
        self._models: dict[str, AttemptHistory] = {}
        self._conflicts: dict[frozenset[str], float] = {}  # two that did not fit -> when

    # -- what happened ---------------------------------------------------------------------------

    def unloaded(
        self, model: str, reason: Reason, *, at: float, by: str | None, beside: Sequence[str]
    ) -> None:
        """Take a settled unload. `beside`: who is resident now, if the evictor is not known."""
        history = self._of(model)
        history.lost_at = history.since = None
        match reason:
            case Reason.STOPPED | Reason.UNKNOWN:
                history.held_until = at + self.section.grace
                history.held = HeldModel(reason.value)
            case Reason.EVICTED:
                for other in [by] if by is not None else beside:
                    if other != model:
                        self._conflicts[frozenset({model, other})] = at
                while len(self._conflicts) > MOST_CONFLICTS:
                    del self._conflicts[next(iter(self._conflicts))]
                self._back_off(history, at)
            case Reason.CRASHED | Reason.OUT_OF_MEMORY:
                self._back_off(history, at)
            case Reason.OPTIONS_CHANGED | Reason.REPLACED:
                history.not_before = max(history.not_before, at + COMES_BACK)
            case Reason.EXPIRED | Reason.SERVER_RESTARTED:
                pass

    def done(self, action: LoadModel | RenewModel, *, at: float) -> None:
        """Take that an action was begun, whatever came of it."""
        history = self._of(action.warm.model)
        if isinstance(action, LoadModel):
            history.loads.append(at)
        else:
            history.renewed_at = at

    def failed(self, action: LoadModel | RenewModel, *, at: float) -> None:
        """Take that it failed."""
        self._back_off(self._of(action.warm.model), at)

    def _back_off(self, history: AttemptHistory, at: float) -> None:
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0**history.losses)
        history.losses = min(history.losses + 1, 16)
        history.not_before = max(history.not_before, at + wait)

    def _of(self, model: str) -> AttemptHistory:
        return self._models.setdefault(model, AttemptHistory())

    # -- what to do ------------------------------------------------------------------------------

    def decide(self, situation: Situation) -> Decision:
        """Decide. Call it with every poll: it sees who came and went."""
        self._look(situation)
        expected = [w for w in self.section.models if w.expected(situation.wall)]
        held: dict[str, HeldModel] = {}
        action: LoadModel | RenewModel | None = None
        for warm in expected:
            resident = situation.resident.get(warm.model)
            if resident is not None:
                if action is None and self._falls_short(warm, resident, situation.now):
                    action = RenewModel(warm)
                continue
            before = [w.model for w in expected[: expected.index(warm)] if w.model not in held]
            why = self._hindrance(warm, before, situation)
            if why is not None:
                held[warm.model] = why
            elif action is None or isinstance(action, RenewModel):
                action = LoadModel(warm)  # what is missing goes before what will be
        return Decision(action, held)

    def _look(self, situation: Situation) -> None:
        now = situation.now
        for warm in self.section.models:
            history = self._of(warm.model)
            while history.loads and history.loads[0] <= now - HOUR:
                history.loads.popleft()
            if warm.model not in situation.resident:
                if history.since is not None:
                    history.since, history.lost_at = None, now
                continue
            history.lost_at = None
            history.held_until = 0.0  # whoever stopped it, somebody wanted it again
            history.since = now if history.since is None else history.since
            if now - history.since >= CALM:
                history.losses = 0
        for pair in [pair for pair, at in self._conflicts.items() if at <= now - FORGET]:
            del self._conflicts[pair]

    def _falls_short(self, warm: Warm, resident: ResidentModel, now: float) -> bool:
        """Tell whether its deadline is too near; for ever, or a longer one, is left as it is."""
        history, wanted = self._of(warm.model), warm.keep_alive
        if resident.left == float("inf"):
            return False
        if now < history.not_before:  # an attempt failed
            return False
        again = max(SHORTEST_AGAIN, RENEW_AGAIN * min(wanted, HOUR))
        if now < history.renewed_at + again:
            return False
        return wanted == float("inf") or resident.left < RENEW_BELOW * wanted

    def _hindrance(
        self, warm: Warm, before: Sequence[str], situation: Situation
    ) -> HeldModel | None:
        """Say why a missing model must not be loaded now; `before`: whose turn is earlier."""
        history, now = self._of(warm.model), situation.now
        others = {*situation.resident, *before}
        lost = history.lost_at
        hindrances = (
            (
                situation.installed is not None and warm.model not in situation.installed,
                HeldModel.NOT_INSTALLED,
            ),
            (now < history.held_until, history.held),
            (lost is not None and now < lost + UNSETTLED, HeldModel.UNSETTLED),
            (any(self._clash(warm.model, other) for other in others), HeldModel.NO_ROOM),
            (now < history.not_before, HeldModel.BACKING_OFF),
            (len(history.loads) >= self.section.most_per_hour, HeldModel.BOUND),
            (situation.loading, HeldModel.LOADING),
        )
        return next((why for hinders, why in hindrances if hinders), None)

    def _clash(self, model: str, other: str) -> bool:
        return frozenset({model, other}) in self._conflicts
