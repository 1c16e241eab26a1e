# SPDX-License-Identifier: Apache-2.0
"""One incarnation of a model as the polls show it, and what its deadline says.

`expires_at` (E below) is written when the last request ends, or by a stop; until it is written for
the first time it is the moment of the poll plus the keep-alive, so it slides. An eviction never
writes it. A runner that was condemned before it was ever idle shows E = now.
"""

import math
from dataclasses import dataclass
from typing import Final

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.facts import Snapshot

NEAR: Final = 0.05  # the answer is made somewhere within the poll: E = now up to this
CLOCK_ERROR: Final = 0.1  # of the server's clock against ours, once corrected
SLIDE_ERROR: Final = 0.02  # two polls see a sliding E move by the time between them, up to this
ABOVE_NOW: Final = 0.5  # farther ahead than this E slides at a keep-alive, not at zero
SIZE_TOLERANCE: Final = 0.05  # two loads of one model differ a little in size


@dataclass(frozen=True, slots=True)
class Condemnation:
    """A cause that a seen request gave for the end of a runner."""

    reason: Reason
    at: float
    since: float  # when the request began that gave it
    evidence: str


@dataclass(slots=True)
class Life:
    """One incarnation, from the first poll that listed it."""

    model: RunningModel
    since: float | None  # end of the last answered poll without it; None: found at the first poll
    first_seen: float  # start of the first poll that listed it
    seen: float  # start of the last one
    expires: float  # E on our timeline
    epoch: int  # of the server's clock, when this E was first read
    written: bool = False  # E was written at least once: the runner has been idle
    slid: bool = False  # E slid at a positive distance
    at_now: bool = False  # E = now: condemned before it was ever idle
    stopped_at: float | None = None  # E was set to a moment between two polls
    renewed: float | None = None  # start of the poll that first showed the E in force
    revealed: float | None = None  # keep-alive, as E last revealed it
    requested: float | None = None  # keep-alive, as the last request seen asked for it
    last_use: float | None = None  # end of the last request known
    crowd: tuple = ()
    ka_low: float = 0.0
    ka_high: float = math.inf
    crashed_at: float | None = None  # a request to it failed with a crash text
    condemned: Condemnation | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Name and digest."""
        return self.model.key

    @property
    def keep_alive(self) -> float | None:
        """Seconds in effect as far as known, inf for never. A request's value sticks."""
        return self.revealed if self.requested is None else self.requested

    def reloaded(self, model: RunningModel) -> bool:
        """Tell whether what is listed now cannot be the same runner: its context or size changed."""
        grown = abs(model.size - self.model.size) > SIZE_TOLERANCE * max(1, self.model.size)
        return model.context != self.model.context or grown

    def kept_deadline(self, model: RunningModel) -> bool:
        """Tell whether it is listed with the E that was written before: the same runner for sure."""
        return self.written and model.expires_at == self.model.expires_at


def begin(model: RunningModel, poll: Snapshot, *, since: float | None, epoch: int, expires: float) -> Life:
    """Start a life at the first poll that lists it."""
    life = Life(model, since, poll.started, poll.started, expires, epoch)
    _read(life, poll, before=since, changed=True)
    _reveal(life, poll)
    return life


def continue_(life: Life, model: RunningModel, poll: Snapshot, *, epoch: int, expires: float) -> None:
    """Take the next poll that lists it. `expires`: its E on our timeline."""
    changed = model.expires_at != life.model.expires_at
    slides = abs((model.expires_at - life.model.expires_at) - (poll.started - life.seen)) <= (
        SLIDE_ERROR + poll.ended - poll.started
    )
    before = life.seen - CLOCK_ERROR
    if changed:
        life.epoch = epoch
        if math.isinf(expires): life.ka_low = life.ka_high = math.inf
        elif not slides:
            life.ka_low, life.ka_high = expires - poll.ended, expires - life.seen
        else: life.ka_low = life.ka_high = expires - poll.started
    life.model, life.expires = model, expires
    if not changed or not slides:
        life.written = True
    _read(life, poll, before=before, changed=changed)
    _reveal(life, poll)
    life.seen = poll.started


def _read(life: Life, poll: Snapshot, *, before: float | None, changed: bool) -> None:
    """Draw what E alone says; `before`: an E earlier than that was not set between two polls."""
    at_now = poll.started - NEAR <= life.expires <= poll.ended + NEAR
    between = before is not None and before < life.expires < poll.started - NEAR
    if at_now:
        life.at_now, life.written = True, False
    elif life.written:
        life.at_now = False
    if between and changed:
        life.stopped_at, life.written, life.at_now = life.expires, True, False
    elif life.written and changed and life.expires > poll.ended:
        life.stopped_at = None  # a request ended with a positive keep-alive: it lives on
    if not life.written and life.expires > poll.ended + ABOVE_NOW:
        life.slid = True
    if life.written and (changed or life.renewed is None):
        life.renewed = poll.started


def _reveal(life: Life, poll: Snapshot) -> None:
    """Keep what E says of the keep-alive, and drop what it contradicts."""
    if math.isinf(life.expires):
        life.revealed = math.inf
    elif life.slid and not life.written and not life.at_now:
        life.revealed = life.expires - (poll.started + poll.ended) / 2
    elif life.revealed is not None and (
        math.isinf(life.revealed) or life.expires > poll.ended + life.revealed
    ):
        life.revealed = None
