# SPDX-License-Identifier: Apache-2.0
"""Keep-warm's decisions: which model to load or renew now, or why not. Pure: times are arguments.

Keep-warm respects three limits:

* The operator: after a stop, or an unload without a known cause, the model is left alone for the
  grace time.
* Memory: an evicted model is not loaded while the model that evicted it is resident.
* Frequency: loads of one model per hour are limited, and each failure or eviction doubles the wait.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm, WarmModel
from ollama_exporter.bounded import BoundedDict
from ollama_exporter.residency.events import Reason

HOUR: Final = 3600.0
FIRST_BACK_OFF: Final = 60.0  # after a failure or an eviction, doubled with each one
MAX_BACK_OFF: Final = HOUR
CONFLICT_TIME: Final = 6 * HOUR  # two models that did not fit once are tried again after it
CALM: Final = 2 * HOUR  # resident for so long, a model's failures are forgotten
MAX_UNSETTLED: Final = 120.0  # longest wait for the reason of an unload
RELOAD_TIME: Final = 60.0  # the request that caused a reload brings the model back by itself
RENEW_BELOW: Final = 0.5  # share of keep_alive left at which a deadline is renewed
RENEW_INTERVAL: Final = 0.1  # share of keep_alive between two attempts
MIN_RENEW_INTERVAL: Final = 5.0
MAX_CONFLICTS: Final = 1000


class HoldReason(StrEnum):
    """Why a missing model is not loaded now; label `why` of a metric."""

    STOPPED = "stopped"
    UNKNOWN = "unknown"  # it left early for an unknown reason, which may be a stop
    UNSETTLED = "unsettled"  # the reason of its unload is not known yet
    NO_ROOM = "no_room"  # a model that it does not fit beside is resident
    BACKING_OFF = "backing_off"  # a load failed, or it was evicted
    BOUND = "bound"  # it was loaded as often as this hour allows
    LOADING = "loading"  # another load is under way
    NOT_INSTALLED = "not_installed"


@dataclass(frozen=True, slots=True)
class ResidentModel:
    """A listed model. `left`: seconds until its deadline, inf for ever."""

    left: float


@dataclass(frozen=True, slots=True)
class Situation:
    """The server at `now`. `wall`: the same moment in Unix seconds, for schedules."""

    now: float
    wall: float
    resident: dict[str, ResidentModel]
    loading: bool = False  # requests wait for a load, as far as the proxy sees them
    installed: frozenset[str] | None = None  # None: not known


@dataclass(frozen=True, slots=True)
class LoadModel:
    """Load a model that is not resident."""

    warm: WarmModel


@dataclass(frozen=True, slots=True)
class RenewModel:
    """Renew a resident model's deadline without ever shortening its keep-alive."""

    warm: WarmModel


@dataclass(frozen=True, slots=True)
class Decision:
    """At most one action, and the missing models that are held back."""

    action: LoadModel | RenewModel | None
    held: dict[str, HoldReason]


@dataclass(slots=True)
class ModelHistory:
    """What happened to one model."""

    loads: deque[float] = field(default_factory=deque)  # times of the last hour's loads
    failures: int = 0  # failures and evictions in a row
    not_before: float = 0.0  # end of the back-off
    held_until: float = 0.0  # end of the grace time
    held: HoldReason = HoldReason.STOPPED
    resident_since: float | None = None
    lost_at: float | None = None  # time of an unload whose reason is not known yet
    renewed_at: float = float("-inf")


class KeepWarmPlanner:
    """Decides for all models of the section, one action at a time."""

    def __init__(self, section: KeepWarm) -> None:
        self.section = section
        self._histories: dict[str, ModelHistory] = {}
        # pairs of models that did not fit together -> time of the eviction
        self._conflicts: BoundedDict[frozenset[str], float] = BoundedDict(MAX_CONFLICTS)

    # -- events ----------------------------------------------------------------------------------

    def on_unloaded(
        self, model: str, reason: Reason, *, at: float, by: str | None, resident: Sequence[str]
    ) -> None:
        """Record an unload and its reason. `resident`: stands in for an unknown evictor."""
        history = self._history(model)
        history.lost_at = history.resident_since = None
        match reason:
            case Reason.STOPPED | Reason.UNKNOWN:
                history.held_until = at + self.section.grace
                history.held = HoldReason(reason.value)
            case Reason.EVICTED:
                for other in [by] if by is not None else resident:
                    if other != model:
                        self._conflicts[frozenset({model, other})] = at
                self._back_off(history, at)
            case Reason.CRASHED | Reason.OUT_OF_MEMORY:
                self._back_off(history, at)
            case Reason.OPTIONS_CHANGED | Reason.REPLACED:
                history.not_before = max(history.not_before, at + RELOAD_TIME)
            case Reason.EXPIRED | Reason.SERVER_RESTARTED:
                pass

    def on_action_start(self, action: LoadModel | RenewModel, *, at: float) -> None:
        """Record that an action began."""
        history = self._history(action.warm.model)
        if isinstance(action, LoadModel):
            history.loads.append(at)
        else:
            history.renewed_at = at

    def on_action_failed(self, action: LoadModel | RenewModel, *, at: float) -> None:
        """Record that an action failed."""
        self._back_off(self._history(action.warm.model), at)

    def _back_off(self, history: ModelHistory, at: float) -> None:
        wait = min(MAX_BACK_OFF, FIRST_BACK_OFF * 2.0**history.failures)
        history.failures = min(history.failures + 1, 16)
        history.not_before = max(history.not_before, at + wait)

    def _history(self, model: str) -> ModelHistory:
        return self._histories.setdefault(model, ModelHistory())

    # -- decisions -------------------------------------------------------------------------------

    def decide(self, situation: Situation) -> Decision:
        """Decide what to do now. Call it with every poll: it records which models are resident."""
        self._record_residence(situation)
        expected = [w for w in self.section.models if w.is_expected(situation.wall)]
        held: dict[str, HoldReason] = {}
        action: LoadModel | RenewModel | None = None
        for warm in expected:
            resident = situation.resident.get(warm.model)
            if resident is not None:
                if action is None and self._needs_renewal(warm, resident, situation.now):
                    action = RenewModel(warm)
                continue
            earlier = [w.model for w in expected[: expected.index(warm)] if w.model not in held]
            why = self._hold_reason(warm, earlier, situation)
            if why is not None:
                held[warm.model] = why
            elif action is None or isinstance(action, RenewModel):
                action = LoadModel(warm)  # a missing model goes before a short deadline
        return Decision(action, held)

    def _record_residence(self, situation: Situation) -> None:
        now = situation.now
        for warm in self.section.models:
            history = self._history(warm.model)
            while history.loads and history.loads[0] <= now - HOUR:
                history.loads.popleft()
            if warm.model not in situation.resident:
                if history.resident_since is not None:
                    history.resident_since, history.lost_at = None, now
                continue
            history.lost_at = None
            history.held_until = 0.0  # a client or an operator wanted the model again
            if history.resident_since is None:
                history.resident_since = now
            if now - history.resident_since >= CALM:
                history.failures = 0
        for pair in [pair for pair, at in self._conflicts.items() if at <= now - CONFLICT_TIME]:
            del self._conflicts[pair]

    def _needs_renewal(self, warm: WarmModel, resident: ResidentModel, now: float) -> bool:
        """Return whether the deadline is too near. A longer one, or no deadline, is left as is."""
        history, wanted = self._history(warm.model), warm.keep_alive
        if resident.left == float("inf"):
            return False
        if now < history.not_before:  # an attempt failed
            return False
        interval = max(MIN_RENEW_INTERVAL, RENEW_INTERVAL * min(wanted, HOUR))
        if now < history.renewed_at + interval:
            return False
        return wanted == float("inf") or resident.left < RENEW_BELOW * wanted

    def _hold_reason(
        self, warm: WarmModel, earlier: Sequence[str], situation: Situation
    ) -> HoldReason | None:
        """Return why a missing model must not be loaded now. `earlier`: models that go first."""
        history, now = self._history(warm.model), situation.now
        others = {*situation.resident, *earlier}
        lost = history.lost_at
        reasons = (
            (
                situation.installed is not None and warm.model not in situation.installed,
                HoldReason.NOT_INSTALLED,
            ),
            (now < history.held_until, history.held),
            (lost is not None and now < lost + MAX_UNSETTLED, HoldReason.UNSETTLED),
            (any(self._conflict(warm.model, other) for other in others), HoldReason.NO_ROOM),
            (now < history.not_before, HoldReason.BACKING_OFF),
            (len(history.loads) >= self.section.most_per_hour, HoldReason.BOUND),
            (situation.loading, HoldReason.LOADING),
        )
        return next((why for holds, why in reasons if holds), None)

    def _conflict(self, model: str, other: str) -> bool:
        return frozenset({model, other}) in self._conflicts
