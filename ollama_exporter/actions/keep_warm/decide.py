# SPDX-License-Identifier: Apache-2.0
"""Keep-warm's decisions: which model to load or renew now, or why not. Pure: times are arguments.

Keep-warm respects three limits:

* The operator: after a stop, or an unload without a known cause, the model is left alone for the
  grace time.
* Memory: an evicted model is not loaded while the model that evicted it is resident.
* Frequency: loads of one model per hour are limited, and each failure or eviction doubles the wait.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm, WarmModel
from ollama_exporter.actions.keep_warm.model_history import (
    HOUR,
    HoldReason,
    LoadOfOurs,
    ModelHistory,
    RenewalAttempt,
)
from ollama_exporter.actions.keep_warm.saved_history import (
    SavedConflict,
    SavedKeepWarm,
)
from ollama_exporter.actions.renewal_outcome import RenewalOutcome
from ollama_exporter.bounded import BoundedDict
from ollama_exporter.residency.events import Reason

CONFLICT_TIME: Final = 6 * HOUR  # two models that did not fit once are tried again after it
CALM: Final = 2 * HOUR  # resident for so long, a model's failures are forgotten
MAX_UNSEEN: Final = 120.0  # longest wait for a model that evicted another one unseen
# A load evicts what it needs within two waits for memory (5 s each) and the kills, unless it has to
# wait for a load that nobody sees.
LAST_VICTIM: Final = 12.0
MAX_UNSETTLED: Final = 180.0  # longest wait until it is known why another model has left
RELOAD_TIME: Final = 60.0  # the request that caused a reload brings the model back by itself
RENEW_BELOW: Final = 0.5  # share of keep_alive left at which a deadline is renewed
BUSY_PAUSE: Final = 0.1  # share of keep_alive until a model in use is looked at again
MIN_PAUSE: Final = 5.0  # seconds until the listing shows a renewal: deadlines are written late
SAME_DEADLINE: Final = 2.0  # seconds by which two listings of one deadline differ
MAX_CONFLICTS: Final = 1000
MAX_HISTORIES: Final = 1000


class ResidentModel(Struct, frozen=True):
    """A listed model. `left`: seconds until its deadline, inf forever."""

    left: float


class Situation(Struct, frozen=True):
    """The server at `now`. `wall`: the same moment in Unix seconds, for schedules."""

    now: float
    wall: float
    resident: dict[str, ResidentModel]
    loading: bool = False  # requests wait for a load, as far as the proxy sees them
    own_load: str | None = None  # the model that keep-warm is loading
    installed: frozenset[str] | None = None  # None: not known
    remote: frozenset[str] = frozenset()  # installed, but running on another host


class LoadModel(Struct, frozen=True):
    """Load a model that is not resident."""

    warm: WarmModel


class RenewModel(Struct, frozen=True):
    """Renew a resident model's deadline without ever shortening its keep-alive."""

    warm: WarmModel


class Decision(Struct, frozen=True):
    """What to do, most urgent first, and the missing models that are held back."""

    loads: tuple[LoadModel, ...] = ()  # one at a time
    renewals: tuple[RenewModel, ...] = ()
    held: dict[str, HoldReason] = field(default_factory=dict)


class KeepWarmPlanner:
    """Decides for all models of the section. `runner_key`: names of one runner have one key."""

    def __init__(
        self, section: KeepWarm, runner_key: Callable[[str], str] = lambda model: model
    ) -> None:
        self.section, self._runner_key = section, runner_key
        self._histories: BoundedDict[str, ModelHistory] = BoundedDict(MAX_HISTORIES)
        # pairs of models that did not fit together -> time of the eviction
        self._conflicts: BoundedDict[frozenset[str], float] = BoundedDict(MAX_CONFLICTS)

    @property
    def names(self) -> frozenset[str]:
        """All models that decisions depend on, besides the resident ones."""
        return frozenset(w.model for w in self.section.models).union(*self._conflicts)

    # -- events ----------------------------------------------------------------------------------

    def on_unloaded(
        self,
        model: str,
        reason: Reason,
        *,
        since: float,
        at: float,
        by: str | None,
        resident: Sequence[str],
    ) -> None:
        """Record an unload and its reason.

        It left between `since` and `at`. `resident`: stands in for an unknown evictor.
        """
        history = self._history(model)
        history.lost_at = history.resident_since = history.renewal = None
        history.held_until = 0.0  # the latest reason decides
        match reason:
            case Reason.STOPPED | Reason.UNKNOWN:
                history.held_until = at + self.section.grace
                history.held = HoldReason(reason.value)
            case Reason.EVICTED:
                for other in [by] if by is not None else resident:
                    self._add_conflict(model, other, at=at)
                history.back_off(at)
                if by is not None and self._is_late_victim(by, since):
                    history.held_until, history.held = at + self.section.grace, HoldReason.UNKNOWN
            case Reason.CRASHED | Reason.OUT_OF_MEMORY:
                history.back_off(at)
            case Reason.OPTIONS_CHANGED | Reason.REPLACED:
                history.wait(at + RELOAD_TIME, HoldReason.RELOADING)
            case Reason.EXPIRED | Reason.SERVER_RESTARTED:
                pass

    def on_load_start(self, action: LoadModel, *, at: float) -> None:
        """Record that a load began."""
        history = self._history(action.warm.model)
        history.loads.append(at)
        history.own_load = LoadOfOurs(at)

    def on_load_end(self, action: LoadModel, *, at: float) -> None:
        """Record that a load ended, with success or without."""
        own_load = self._history(action.warm.model).own_load
        if own_load is not None:
            own_load.ended = min(own_load.ended, at)

    def on_load_failed(self, action: LoadModel, *, at: float) -> None:
        """Record that a load failed."""
        self._history(action.warm.model).back_off(at)

    def on_load_vanished(self, action: LoadModel, *, at: float, resident: Iterable[str]) -> None:
        """Record that a model was loaded and is not listed: a waiting request has evicted it.

        No event tells of it. The next model to appear is the evictor.
        """
        history = self._history(action.warm.model)
        history.back_off(at)
        history.lost_at, history.others_then = at, frozenset(resident)

    def on_renewal(
        self, action: RenewModel, outcome: RenewalOutcome, *, left: float | None, at: float
    ) -> None:
        """Record a renewal. `left`: seconds until the deadline that it saw last."""
        wanted = action.warm.keep_alive
        match outcome:
            case RenewalOutcome.BUSY | RenewalOutcome.OUTDATED | RenewalOutcome.UNKNOWN_CONTEXT:
                pause = _before_deadline(BUSY_PAUSE * min(wanted, HOUR), left)
            case _:
                pause = min(MIN_PAUSE, BUSY_PAUSE * wanted)
        deadline = None if left is None else at + left
        self._history(action.warm.model).renewal = RenewalAttempt(at, at + pause, deadline)

    def on_renewal_failed(self, action: RenewModel, *, left: float | None, at: float) -> None:
        """Record that a renewal failed. The pause doubles, and ends before the deadline does."""
        history = self._history(action.warm.model)
        pause = _before_deadline(history.back_off_time, left)
        history.count_failure()
        history.renewal = RenewalAttempt(at, at + pause, None if left is None else at + left)

    def _is_late_victim(self, by: str, since: float) -> bool:
        """Return whether a model left late during a load of ours: perhaps it was stopped."""
        return any(
            each.own_load is not None
            and each.own_load.began + LAST_VICTIM < since < each.own_load.ended
            for each in self._same_runner(by)
        )

    def _history(self, model: str) -> ModelHistory:
        if model not in self._histories:
            self._histories[model] = ModelHistory()
        return self._histories[model]

    def _same_runner(self, model: str) -> list[ModelHistory]:
        """Return the histories of all names that share the model's runner."""
        key = self._runner_key(model)
        return [each for name, each in self._histories.items() if self._runner_key(name) == key]

    # -- across restarts -------------------------------------------------------------------------

    def saved(self) -> SavedKeepWarm:
        """Return what the next process must know."""
        return SavedKeepWarm(
            {model: history.saved() for model, history in self._histories.items()},
            tuple(
                SavedConflict((min(pair), max(pair)), at) for pair, at in self._conflicts.items()
            ),
        )

    def restore(self, saved: SavedKeepWarm, *, at: float) -> None:
        """Go on where an earlier process ended.

        A model that was resident then and is missing now may have been stopped meanwhile: until its
        reason is known it counts as unloaded for an unknown reason.
        """
        for model, old in saved.models.items():
            self._history(model).restore(old, at=at, grace=self.section.grace)
        for conflict in saved.conflicts:
            self._conflicts[frozenset(conflict.models)] = conflict.at

    # -- decisions -------------------------------------------------------------------------------

    def decide(self, situation: Situation) -> Decision:
        """Decide what to do now. Call it with every poll: it records which models are resident."""
        self.record_residence(situation)
        expected = [w for w in self.section.models if w.is_expected(situation.wall)]
        # What drove a model out as soon as it was loaded is still being loaded.
        unseen = any(history.others_then is not None for history in self._histories.values())
        situation = replace(situation, loading=situation.loading or unseen)
        unsettled = self._is_any_unsettled(situation.now)
        held: dict[str, HoldReason] = {}
        loads: list[LoadModel] = []
        renewals: list[RenewModel] = []
        for index, warm in enumerate(expected):
            resident = situation.resident.get(warm.model)
            earlier = [w.model for w in expected[:index]]
            if resident is not None:
                waiting = (model for model in earlier if held.get(model) is HoldReason.NO_ROOM)
                makes_way = any(self._conflict(warm.model, model) for model in waiting)
                if not makes_way and self._needs_renewal(warm, resident, situation.now):
                    renewals.append(RenewModel(warm))
                continue
            if warm.model == situation.own_load:
                continue
            first = [model for model in earlier if model not in held]
            why = self._hold_reason(warm, first, situation, unsettled=unsettled)
            if why is not None:
                held[warm.model] = why
            elif situation.own_load is None:
                loads.append(LoadModel(warm))
        return Decision(tuple(loads), tuple(renewals), held)

    def record_residence(self, situation: Situation) -> None:
        """Record which models are resident; also others, which a reload may add to the section."""
        now = situation.now
        for model in sorted({*self.names, *situation.resident, *self._histories}):
            history = self._history(model)
            while history.loads and history.loads[0] <= now - HOUR:
                history.loads.popleft()
            if model in situation.resident:
                self._record_present(history, now)
            else:
                self._record_absent(model, history, situation)
        for pair in [pair for pair, at in self._conflicts.items() if at <= now - CONFLICT_TIME]:
            del self._conflicts[pair]

    def _record_present(self, history: ModelHistory, now: float) -> None:
        history.lost_at = history.others_then = None
        history.held_until = 0.0  # a client or an operator wanted the model again
        if history.resident_since is None:
            history.resident_since = now
        if now - history.resident_since >= CALM:
            history.failures = 0

    def _record_absent(self, model: str, history: ModelHistory, situation: Situation) -> None:
        now = situation.now
        history.renewal = None
        if history.resident_since is not None:
            history.resident_since, history.lost_at = None, now
        if history.others_then is None:
            return
        newcomers = set(situation.resident) - history.others_then
        for other in newcomers:
            self._add_conflict(model, other, at=now)
        if newcomers or history.lost_at is None or now >= history.lost_at + MAX_UNSEEN:
            history.lost_at = history.others_then = None

    def _needs_renewal(self, warm: WarmModel, resident: ResidentModel, now: float) -> bool:
        """Return whether the deadline is too near. A longer one, or no deadline, is left as is."""
        wanted, left = warm.keep_alive, resident.left
        if math.isinf(left) or (not math.isinf(wanted) and left >= RENEW_BELOW * wanted):
            return False
        last = self._history(warm.model).renewal
        if last is None or now >= last.pause_until:
            return True
        moved = last.deadline is None or abs(now + left - last.deadline) > SAME_DEADLINE
        return moved and now >= last.at + min(MIN_PAUSE, max(left, 0.0) / 2)

    def _hold_reason(
        self, warm: WarmModel, earlier: Sequence[str], situation: Situation, *, unsettled: bool
    ) -> HoldReason | None:
        """Return why a missing model must not be loaded now.

        `earlier`: models that go first. `unsettled`: see `_is_any_unsettled`.
        """
        history, now = self._history(warm.model), situation.now
        others = {*situation.resident, *earlier}
        shared = self._same_runner(warm.model)
        lost = max((each.lost_at or -math.inf for each in shared), default=-math.inf)
        stopped = max(shared, key=lambda each: each.held_until, default=history)
        reasons = (
            (
                situation.installed is not None and warm.model not in situation.installed,
                HoldReason.NOT_INSTALLED,
            ),
            (warm.model in situation.remote, HoldReason.REMOTE),
            (now < stopped.held_until, stopped.held),
            (now < lost + self.section.grace, HoldReason.UNSETTLED),
            (unsettled, HoldReason.UNSETTLED),
            (any(self._conflict(warm.model, other) for other in others), HoldReason.NO_ROOM),
            (now < history.not_before, history.waiting),
            (len(history.loads) >= self.section.most_per_hour, HoldReason.BOUND),
            (situation.loading, HoldReason.LOADING),
        )
        return next((why for holds, why in reasons if holds), None)

    def _is_any_unsettled(self, now: float) -> bool:
        """Return whether a load now could be taken for what evicted a model of the section.

        That model may have been stopped, and would lose its grace time.
        """
        ours = {self._runner_key(warm.model) for warm in self.section.models}
        return any(
            history.lost_at is not None
            and history.others_then is None  # else it was evicted
            and now < history.lost_at + MAX_UNSETTLED
            and self._runner_key(model) in ours
            for model, history in self._histories.items()
        )

    def _add_conflict(self, model: str, other: str, *, at: float) -> None:
        if model != other:
            self._conflicts[frozenset({model, other})] = at

    def _conflict(self, model: str, other: str) -> bool:
        wanted = {self._runner_key(model), self._runner_key(other)}
        return any(set(map(self._runner_key, pair)) == wanted for pair in self._conflicts)


def _before_deadline(pause: float, left: float | None) -> float:
    """Return a pause that leaves time for another attempt before the deadline."""
    if left is not None and left > 0:
        pause = min(pause, left / 2)
    return max(pause, MIN_PAUSE)
