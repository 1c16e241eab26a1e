# SPDX-License-Identifier: Apache-2.0
"""One incarnation of a model as the polls show it, and what its deadline says.

`expires_at` (E below) is written when the last request ends, or by a stop. Until it is written for
the first time it slides: it is the moment of the poll plus the keep-alive. An eviction never writes
it. A runner that is to be unloaded before it was ever idle shows E = now (sched.go:337-348, 1778).
"""

import math
from collections.abc import Collection
from typing import Final

from msgspec import Struct

from ollama_exporter.moments import Moment
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency import timings
from ollama_exporter.residency.facts import Snapshot

Key = tuple[str, str]  # name and digest

SIZE_TOLERANCE: Final = 0.05  # two loads of one model differ in size by less than this share


class Incarnation(Struct):
    """A model from the first poll that listed it to its unload. Moments are on our timeline."""

    model: RunningModel  # as last listed
    since: Moment | None  # start of the last answered poll without it; None: found at the first
    first_seen: Moment  # start of the first poll that listed it
    seen: Moment  # start of the last one
    expires: Moment  # E
    epoch: int  # of the server's clock, when this E was first read
    written: bool = False  # E was written at least once: the runner has been idle
    rested: bool = False  # two polls showed the same E, so it was surely written
    slid: bool = False  # E may have slid at a positive distance
    slides: bool = False  # two polls saw it slide: its distance is the keep-alive
    at_now: bool = False  # E = now: it is to be unloaded, and was never idle
    due_after: Moment | None = None  # start of the last poll before E = now was seen, and of the
    due_at: Moment | None = None  # first one that showed it
    beside_idle: bool | None = None  # another runner was idle when E = now was first seen
    changed_at: Moment | None = None  # start of the first poll that showed this E, once written
    stopped_at: Moment | None = None  # E was set back to a moment between two polls
    revealed: float | None = None  # keep-alive, as E last revealed it
    requested: float | None = None  # keep-alive, as the last request seen asked for it
    last_use: Moment | None = None  # end of the last request known
    took: float = 0.0  # seconds that the last poll that listed it took

    @property
    def key(self) -> Key:
        """Name and digest."""
        return self.model.key

    @property
    def keep_alive(self) -> float | None:
        """Seconds in effect as far as known, inf for never. The value of a request sticks."""
        return self.revealed if self.requested is None else self.requested

    def reloaded(self, model: RunningModel) -> bool:
        """Return whether the model listed now is another runner: other context or size."""
        grown = abs(model.size - self.model.size) > SIZE_TOLERANCE * max(1, self.model.size)
        return model.context != self.model.context or grown

    def is_back(self, model: RunningModel) -> bool:
        """Return whether the model that was missing is listed with the very deadline it had.

        Then it was never unloaded: another server answered, or a listing was cut short.
        """
        if self.model.announced:  # also "never" has digits of its own
            return self.model.expires_at > 0 and model.announced == self.model.announced
        expires = self.model.expires_at
        return 0 < expires < math.inf and model.expires_at == expires

    def kept_deadline(self, model: RunningModel) -> bool:
        """Return whether it is listed with the same E, to the nanosecond: it is the same runner.

        "For ever" looks the same after a reload, but a reload takes longer than most restarts hide.
        """
        return model.expires_at == self.model.expires_at

    def early(self, left: float) -> float | None:
        """Return how long before its deadline it left. None: E was now and says nothing."""
        if self.at_now or self.model.expires_at <= 0:
            return None
        return max(0.0, self.deadline() - left)

    @property
    def spared_at(self) -> float | None:
        """When E last showed that it goes on: as E was written, or while E slides ahead of now."""
        sliding = self.slides and not self.written and not self.at_now
        return self.seen if sliding else self.changed_at

    @property
    def promised(self) -> float | None:
        """E as the last known request set it, if no other was running. None: not known."""
        if self.last_use is None or not self.requested:
            return None
        return self.last_use + self.requested

    def deadline(self) -> float:
        """Return E as last listed, or as the end of a seen request must have set it since."""
        if (
            self.last_use is None
            or not self.requested
            or self.last_use <= self.seen - timings.EFFECT
        ):
            return self.expires
        later = self.last_use + self.requested
        if self.last_use > self.seen + timings.CLOCK_ERROR:  # no poll has shown it yet
            return later
        return max(self.expires, later) if later > self.seen else self.expires


def begin(
    model: RunningModel, poll: Snapshot, *, since: float | None, epoch: int, expires: float
) -> Incarnation:
    """Return a new incarnation at the first poll that lists it. `expires`: E on our timeline."""
    life = Incarnation(model, since, poll.started, poll.started, expires, epoch)
    life.took = poll.ended - poll.started
    _read(life, poll, before=since, changed=True)
    life.changed_at = poll.started if life.written else None
    return life


def slides(moved: float, passed: float, *, before: float, took: float) -> bool:
    """Return whether E moved with the present: it does so until it is first written.

    `moved`, `passed`: the change of E and the time between the starts of two polls; `before`,
    `took`: how long each of them took. A listing is made at some moment within its poll: a poll
    that waits for the end of a load is answered then.
    """
    return -before <= moved - passed + timings.SLIDE_ERROR <= took + 2 * timings.SLIDE_ERROR


def follow(
    life: Incarnation, model: RunningModel, poll: Snapshot, *, epoch: int, expires: float
) -> None:
    """Continue it with the next poll that lists it."""
    changed = model.expires_at != life.model.expires_at
    moved, passed = model.expires_at - life.model.expires_at, poll.started - life.seen
    took = poll.ended - poll.started
    slid = changed and slides(moved, passed, before=life.took, took=took)
    life.slides |= slid
    if changed:
        life.epoch = epoch
    elif life.at_now:
        life.stopped_at = life.expires  # E did not follow the present, so a stop had just set it
    life.model, life.expires = model, expires
    life.rested |= not changed
    # A new keep-alive moves it, too. It slides on then, which an E that was written never does.
    life.written = life.rested or not slid
    _read(life, poll, before=life.seen - timings.CLOCK_ERROR, changed=changed)
    if life.written and (changed or life.changed_at is None):
        life.changed_at = poll.started if changed else life.seen
    life.seen, life.took = poll.started, took


def note_company(lives: Collection[Incarnation], poll: Snapshot) -> None:
    """Note which are to be unloaded beside an idle one: the scheduler would have evicted that."""
    idle = [life for life in lives if life.written and life.expires > poll.ended]
    for life in lives:
        if life.at_now and life.beside_idle is None:
            life.beside_idle = any(other is not life for other in idle)


def _read(life: Incarnation, poll: Snapshot, *, before: float | None, changed: bool) -> None:
    """Read what E alone says. `before`: an E earlier than this was not set between two polls."""
    # An E that stays while a poll passes it is an ordinary deadline: "now" would have moved on.
    near = timings.ANSWER_ERROR
    if changed and poll.started - near <= life.expires <= poll.ended + near:
        if not life.at_now:
            life.due_after = None if life.seen >= poll.started else life.seen
            life.due_at = poll.started
        life.at_now, life.written = True, False
    elif life.written:
        life.at_now = False
    if changed and before is not None and before < life.expires < poll.started - near:
        life.stopped_at, life.written, life.at_now = life.expires, True, False
    elif changed and life.written and life.expires > poll.ended:
        life.stopped_at = None  # a request ended with a positive keep-alive, so it goes on
    sliding = not life.written and not life.at_now
    life.slid |= not life.written and life.expires > poll.ended + timings.ABOVE_NOW
    if math.isinf(life.expires):
        life.revealed = math.inf
    elif life.slides and life.slid and sliding:
        life.revealed = life.expires - (poll.started + poll.ended) / 2
    elif life.revealed is not None and (
        math.isinf(life.revealed) or life.expires > poll.ended + life.revealed
    ):
        life.revealed = None
