# SPDX-License-Identifier: Apache-2.0
"""One incarnation of a model as the polls show it, and what its deadline says.

`expires_at` (E below) is written when the last request ends, or by a stop; until it is written for
the first time it is the moment of the poll plus the keep-alive, so it slides. An eviction never
writes it. A runner that was condemned before it was ever idle shows E = now.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.facts import Snapshot

Key = tuple[str, str]  # name and digest

NEAR: Final = 0.05  # the answer is made somewhere within the poll: E = now up to this
CLOCK_ERROR: Final = 0.1  # of the server's clock against ours, once corrected
SLIDE_ERROR: Final = 0.02  # two polls see a sliding E move by the time between them, up to this
ABOVE_NOW: Final = 0.5  # farther ahead than this E slides at a keep-alive, not at zero
SIZE_TOLERANCE: Final = 0.05  # two loads of one model differ a little in size
EFFECT: Final = 0.7  # from a cause that a request shows to what it causes
FORGIVEN_AFTER: Final = 6.0  # a renewal this long after a condemnation takes it back
FORGIVEN_AFTER_OOM: Final = 30.0  # those condemned together leave one by one, 5 s apart


@dataclass(frozen=True, slots=True)
class Condemnation:
    """A cause that a seen request gave for the end of a runner."""

    reason: Reason
    at: float
    since: float  # when that request began
    evidence: str


@dataclass(slots=True)
class Incarnation:
    """One incarnation, from the first poll that listed it. Moments on our timeline."""

    model: RunningModel
    since: float | None  # start of the last answered poll without it; None: found at the first
    first_seen: float  # start of the first poll that listed it
    seen: float  # start of the last one
    expires: float  # E
    epoch: int  # of the server's clock, when this E was first read
    written: bool = False  # E was written at least once: the runner has been idle
    slid: bool = False  # E may have slid at a positive distance
    slides: bool = False  # two polls have seen it slide: its distance is the keep-alive
    at_now: bool = False  # E = now: condemned before it was ever idle
    condemned_after: float | None = None  # start of the last poll before E = now was seen, and of
    condemned_at: float | None = None  # the first that showed it
    beside_idle: bool | None = None  # another runner was idle when E = now was first seen
    changed_at: float | None = None  # start of the first poll that showed this E, once written
    stopped_at: float | None = None  # E was set to a moment between two polls
    revealed: float | None = None  # keep-alive, as E last revealed it
    requested: float | None = None  # keep-alive, as the last request seen asked for it
    last_use: float | None = None  # end of the last request known
    crashed_at: float | None = None  # a request to it failed with a crash text
    condemned: Condemnation | None = None

    @property
    def key(self) -> Key:
        """Name and digest."""
        return self.model.key

    @property
    def keep_alive(self) -> float | None:
        """Seconds in effect as far as known, inf for never. A request's value sticks."""
        return self.revealed if self.requested is None else self.requested

    def reloaded(self, model: RunningModel) -> bool:
        """Tell whether what is listed now cannot be the same runner: other context or size."""
        grown = abs(model.size - self.model.size) > SIZE_TOLERANCE * max(1, self.model.size)
        return model.context != self.model.context or grown

    def kept_deadline(self, model: RunningModel) -> bool:
        """Tell whether it is listed with the same E, to the nanosecond: the same runner surely.

        For ever looks the same after a reload; but that takes longer than most restarts hide.
        """
        return model.expires_at == self.model.expires_at

    def early(self, left: float) -> float | None:
        """Return how long before its deadline it left; None: E says nothing, it was now."""
        if self.at_now or self.model.expires_at <= 0:
            return None
        return max(0.0, self.deadline() - left)

    @property
    def promised(self) -> float | None:
        """E as the last request known has set it, unless others were under way. None: not known."""
        if self.last_use is None or not self.requested:
            return None
        return self.last_use + self.requested

    def deadline(self) -> float:
        """Return E as last listed, or what a later end of a seen request must have made it."""
        if self.last_use is None or not self.requested or self.last_use <= self.seen - EFFECT:
            return self.expires
        later = self.last_use + self.requested
        if self.last_use > self.seen + CLOCK_ERROR:  # no poll has shown it yet, sooner or later
            return later
        return max(self.expires, later) if later > self.seen else self.expires


def begin(
    model: RunningModel, poll: Snapshot, *, since: float | None, epoch: int, expires: float
) -> Incarnation:
    """Start a life at the first poll that lists it; `expires`: its E on our timeline."""
    life = Incarnation(model, since, poll.started, poll.started, expires, epoch)
    _read(life, poll, before=since, changed=True)
    life.changed_at = poll.started if life.written else None
    return life


def follow(
    life: Incarnation, model: RunningModel, poll: Snapshot, *, epoch: int, expires: float
) -> None:
    """Take the next poll that lists it."""
    changed = model.expires_at != life.model.expires_at
    moved, passed = model.expires_at - life.model.expires_at, poll.started - life.seen
    slides = changed and abs(moved - passed) <= SLIDE_ERROR + poll.ended - poll.started
    life.slides |= slides
    if changed:
        life.epoch = epoch
    elif life.at_now:
        life.stopped_at = life.expires  # it was no sliding now: a stop had just set it
    life.model, life.expires = model, expires
    life.written |= not slides
    _read(life, poll, before=life.seen - CLOCK_ERROR, changed=changed)
    if life.written and (changed or life.changed_at is None):
        life.changed_at = poll.started
    life.seen = poll.started
    if changed and life.written and life.expires > poll.ended:
        _forgive(life, poll.started)


def note_company(lives: Collection[Incarnation], poll: Snapshot) -> None:
    """Note who is condemned beside an idle one: the scheduler would have taken that one."""
    for life in lives:
        if life.at_now and life.beside_idle is None:
            others = (other for other in lives if other is not life)
            life.beside_idle = any(x.written and x.expires > poll.ended for x in others)


def _read(life: Incarnation, poll: Snapshot, *, before: float | None, changed: bool) -> None:
    """Draw what E alone says; `before`: an E earlier than that was not set between two polls."""
    # an E that stays while a poll passes it is an ordinary deadline: now would have moved
    if changed and poll.started - NEAR <= life.expires <= poll.ended + NEAR:
        if not life.at_now:
            life.condemned_after = None if life.seen >= poll.started else life.seen
            life.condemned_at = poll.started
        life.at_now, life.written = True, False
    elif life.written:
        life.at_now = False
    if changed and before is not None and before < life.expires < poll.started - NEAR:
        life.stopped_at, life.written, life.at_now = life.expires, True, False
    elif changed and life.written and life.expires > poll.ended:
        life.stopped_at = None  # a request ended with a positive keep-alive: it lives on
    sliding = not life.written and not life.at_now
    life.slid |= not life.written and life.expires > poll.ended + ABOVE_NOW
    if math.isinf(life.expires):
        life.revealed = math.inf
    elif life.slides and life.slid and sliding:
        life.revealed = life.expires - (poll.started + poll.ended) / 2
    elif life.revealed is not None and (
        math.isinf(life.revealed) or life.expires > poll.ended + life.revealed
    ):
        life.revealed = None


def _forgive(life: Incarnation, now: float) -> None:
    """Take a condemnation back: a request ended after it, and the runner was given more time."""
    if life.condemned is not None:
        oom = life.condemned.reason is Reason.OUT_OF_MEMORY
        if now > life.condemned.at + (FORGIVEN_AFTER_OOM if oom else FORGIVEN_AFTER):
            life.condemned = None
