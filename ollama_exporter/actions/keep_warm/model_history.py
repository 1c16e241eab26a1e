# SPDX-License-Identifier: Apache-2.0
"""What keep-warm remembers of one model: loads, failures, and why it must not be loaded. Pure."""

import math
from collections import deque
from enum import StrEnum
from typing import Final

from msgspec import Struct, field

from ollama_exporter.actions.keep_warm.saved_history import SavedHistory

HOUR: Final = 3600.0
FIRST_BACK_OFF: Final = 60.0  # after a failure or an eviction, doubled with each one
MAX_BACK_OFF: Final = HOUR
MAX_DOUBLINGS: Final = 16


class HoldReason(StrEnum):
    """Why a missing model is not loaded now; label `why` of a metric."""

    STOPPED = "stopped"
    UNKNOWN = "unknown"  # it left early for an unknown reason, which may be a stop
    UNSETTLED = "unsettled"  # the reason of an unload is not known yet: its own, or another model's
    NO_ROOM = "no_room"  # a model that it does not fit beside is resident
    BACKING_OFF = "backing_off"  # a load failed, it crashed, or it was evicted
    RELOADING = "reloading"  # unloaded for other options or a new version: its request reloads it
    BOUND = "bound"  # it was loaded as often as this hour allows
    LOADING = "loading"  # requests wait for a load
    NOT_INSTALLED = "not_installed"
    REMOTE = "remote"  # it runs on another host, so there is nothing to load here


class RenewalAttempt(Struct):
    """The last renewal of a resident runner. It is forgotten when the runner leaves.

    `pause_until` holds while the listing shows the same `deadline`: a client's request that moves
    it may have brought a shorter keep-alive.
    """

    at: float
    pause_until: float
    deadline: float | None = None


class LoadOfOurs(Struct):
    """The last load of a model by keep-warm. `ended`: inf while it is under way."""

    began: float
    ended: float = math.inf


class ModelHistory(Struct):
    """What happened to one model."""

    loads: deque[float] = field(default_factory=deque)  # times of the last hour's loads
    failures: int = 0  # failures and evictions in a row
    not_before: float = 0.0  # end of the back-off
    waiting: HoldReason = HoldReason.BACKING_OFF  # why until then
    held_until: float = 0.0  # end of the grace time
    held: HoldReason = HoldReason.STOPPED
    resident_since: float | None = None
    lost_at: float | None = None  # time of an unload whose reason is not known yet
    others_then: frozenset[str] | None = None  # resident when it left unseen, as soon as loaded
    renewal: RenewalAttempt | None = None
    own_load: LoadOfOurs | None = None

    @property
    def back_off_time(self) -> float:
        """Seconds to wait after one more failure."""
        return min(MAX_BACK_OFF, FIRST_BACK_OFF * 2.0**self.failures)

    def count_failure(self) -> None:
        """Count one failure or eviction more in a row."""
        self.failures = min(self.failures + 1, MAX_DOUBLINGS)

    def back_off(self, at: float) -> None:
        """Wait after a failure or an eviction, longer each time."""
        self.wait(at + self.back_off_time, HoldReason.BACKING_OFF)
        self.count_failure()

    def wait(self, until: float, why: HoldReason) -> None:
        """Wait, unless it waits for longer already."""
        if until > self.not_before:
            self.not_before, self.waiting = until, why

    def saved(self) -> SavedHistory:
        """Return what the next process must know."""
        return SavedHistory(
            tuple(self.loads),
            self.failures,
            self.not_before,
            self.waiting.value,
            self.held_until,
            self.held.value,
            self.resident_since is not None or self.lost_at is not None,
        )

    def restore(self, old: SavedHistory, *, at: float, grace: float) -> None:
        """Go on where an earlier process ended.

        A model that was resident then and is missing now may have been stopped meanwhile: until its
        reason is known it counts as unloaded for an unknown reason.
        """
        self.loads.extend(old.loads)
        self.failures, self.not_before = old.failures, old.not_before
        self.waiting = _reason(old.waiting, HoldReason.BACKING_OFF)
        self.held_until, self.held = old.held_until, _reason(old.held, HoldReason.UNKNOWN)
        if old.was_resident:
            self.lost_at = at
            self.held_until, self.held = at + grace, HoldReason.UNKNOWN


def _reason(value: str, default: HoldReason) -> HoldReason:
    return next((each for each in HoldReason if each.value == value), default)
