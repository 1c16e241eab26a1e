# SPDX-License-Identifier: Apache-2.0
"""The residency tracker: facts in, events out. No I/O, no clock.

A poll is compared with the one before: what is new was loaded, what is missing was lost. A loss is
pending until `reasons.py` can name its reason or the window is over; it is settled once.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from ollama_exporter.errors import FailureReason
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency import lives as reading
from ollama_exporter.residency.events import (
    Event,
    Found,
    Loaded,
    ModelState,
    Reason,
    Restarted,
    Source,
    Unloaded,
    View,
)
from ollama_exporter.residency.facts import (
    Fact,
    PollFailed,
    RequestAnswered,
    RequestEnded,
    RequestStarted,
    Snapshot,
)
from ollama_exporter.residency.lives import Key, Life
from ollama_exporter.residency.losses import Loss, Losses
from ollama_exporter.residency.reasons import Case, Verdict, decide
from ollama_exporter.residency.saved import Saved, save
from ollama_exporter.residency.serverclock import ServerClock
from ollama_exporter.residency.testimony import Testimony

FLIP_WINDOW: Final = 600.0
FLIPS: Final = 2  # one change of context may be an operator's; two are a quarrel
MOST_NAMES: Final = 1000
LOST: Final = frozenset({FailureReason.REFUSED, FailureReason.RESET})
EXPECTED: Final = frozenset({Reason.EXPIRED, Reason.STOPPED, Reason.SERVER_RESTARTED})


class Tracker:
    """Turns facts, given in order of time, into loads and unloads with reasons.

    `window`: seconds for which evidence of a reason is waited for.
    """

    def __init__(self, *, window: float = 60.0) -> None:
        self._window = window
        self._clock = ServerClock()
        self._lives: dict[Key, Life] = {}
        self._losses = Losses()
        self._testimony = Testimony(self._lives, self._losses)
        self._last: Snapshot | None = None  # the last answered poll
        self._down_since: float | None = None  # end of the first poll that was refused since
        self._connection_lost = False
        self._closed_by_us = False
        self._contexts: dict[Key, int | None] = {}
        self._changes: deque[tuple[float, Key]] = deque(maxlen=MOST_NAMES)
        self._early_at: float | None = None
        self._known: dict[str, None] = {}  # every name seen, oldest first

    def observe(self, fact: Fact) -> tuple[Event, ...]:
        """Take one fact; return what it settled."""
        match fact:
            case Snapshot():
                return self._poll(fact)
            case PollFailed():
                return self._poll_failed(fact)
            case RequestStarted():
                self._testimony.started(fact)
            case RequestAnswered():
                self._testimony.answered(fact)
            case RequestEnded():
                self._testimony.ended(fact)
            case _:
                pass  # processes: evidence that this tracker does not weigh yet
        return ()

    def advance(self, now: float) -> tuple[Event, ...]:
        """Settle what only the passing of time settles."""
        events: list[Event] = []
        for loss in list(self._losses.pending):
            verdict = decide(self._case(loss, now))
            if verdict is not None:
                self._losses.settle(loss, expired=verdict.reason is Reason.EXPIRED)
                events.append(self._unloaded(loss, verdict, now))
        return tuple(events)

    def finish(self, now: float) -> tuple[Event, ...]:
        """Settle everything as if the window were over: the end of a recording."""
        return self.advance(max([now, *(x.high + self._window for x in self._losses.pending)]))

    # -- polls -----------------------------------------------------------------------------------

    def _poll_failed(self, poll: PollFailed) -> tuple[Event, ...]:
        if poll.reason in LOST:
            self._connection_lost = True
            self._down_since = self._down_since or poll.ended
        else:
            self._closed_by_us = True
        return self.advance(poll.ended)

    def _poll(self, poll: Snapshot) -> tuple[Event, ...]:
        last, lost = self._last, self._connection_lost
        lost |= poll.new_connection and not self._closed_by_us
        if poll.date is not None:
            self._clock.observe(poll.date, started=poll.started, ended=poll.ended)
        listed = {model.key: model for model in poll.models}
        before = {key: life.model for key, life in self._lives.items()}
        kept = any(key in before and self._lives[key].kept_deadline(m) for key, m in listed.items())
        restart = lost and last is not None and not kept
        arrived = {
            key: model
            for key, model in listed.items()
            if restart or key not in before or self._lives[key].reloaded(model)
        }
        events = self._restarted(poll, last) if restart and last is not None else []
        self._lose(poll, listed, arrived)
        for key, model in listed.items():
            if key in arrived:
                events.append(self._load(poll, model, last, was_listed=key in before))
            else:
                self._follow(poll, model)
        self._note_company(poll)
        self._testimony.polled(poll, {k: x for k, x in self._lives.items() if k not in arrived})
        if last is None or restart:
            self._losses.restart()
        else:
            self._losses.count(poll, listed, before, last=last.started)
            if arrived:
                self._losses.match(poll, arrived, before, last=last.started)
        self._losses.room.observe(poll.models, arrived.values())
        self._last, self._connection_lost, self._closed_by_us = poll, False, False
        self._down_since = None
        return (*events, *self.advance(poll.ended))

    def _restarted(self, poll: Snapshot, last: Snapshot) -> list[Event]:
        """End every life: the server was restarted between two polls."""
        high = self._down_since or poll.ended
        verdict = Verdict(
            Reason.SERVER_RESTARTED, ("the connection was lost and no entry kept its deadline",)
        )
        events: list[Event] = [Restarted(last.started, high)]
        for life in list(self._lives.values()):
            del self._lives[life.key]
            loss = Loss(life, life.seen, high, frozenset(), frozenset(), ())
            events.append(self._unloaded(loss, verdict, poll.ended))
        return events

    def _lose(
        self, poll: Snapshot, listed: dict[Key, RunningModel], arrived: dict[Key, RunningModel]
    ) -> None:
        """Open a loss for every life that this poll ends."""
        gone = [life for key, life in self._lives.items() if key not in listed or key in arrived]
        lost = frozenset(life.key for life in gone)
        held = {key: life.model for key, life in self._lives.items()}
        newcomers = {key[0] for key in arrived if key not in held}
        for life in gone:
            loss = Loss(
                life,
                life.seen,
                poll.ended,
                stayed=frozenset(listed) - frozenset(arrived),
                together=lost - {life.key},
                present=tuple({**held, **listed}.values()),
            )
            del self._lives[life.key]
            self._testimony.at_loss(loss, listed=listed, newcomers=newcomers)
            if life.key in arrived:
                loss.arrivals, loss.arrived = {life.key: arrived[life.key]}, loss.low
            self._losses.pending.append(loss)

    def _load(
        self, poll: Snapshot, model: RunningModel, last: Snapshot | None, *, was_listed: bool
    ) -> Event:
        """Begin a life."""
        since, epoch = None if last is None else last.started, self._clock.epoch
        expires = self._clock.ours(model.expires_at, epoch)
        life = reading.begin(model, poll, since=since, epoch=epoch, expires=expires)
        self._lives[model.key] = life
        if self._contexts.get(model.key, model.context) != model.context:
            self._changes.append((poll.ended, model.key))
        self._remember(model)
        witnessed = self._testimony.at_load(
            life, poll, since=since, was_listed=was_listed, counts=last is not None
        )
        if last is None:
            return Found(model, poll.ended)
        sources = frozenset({Source.REQUEST}) if witnessed else frozenset()
        return Loaded(model, last.started, poll.ended, poll.ended, sources)

    def _follow(self, poll: Snapshot, model: RunningModel) -> None:
        """Continue a life. An E that was read before a step of the clock is older than it."""
        life = self._lives[model.key]
        same = model.expires_at == life.model.expires_at
        epoch = life.epoch if same else self._clock.epoch
        expires = self._clock.ours(model.expires_at, epoch)
        reading.follow(life, model, poll, epoch=epoch, expires=expires)

    def _note_company(self, poll: Snapshot) -> None:
        """Note who is condemned beside an idle one: the scheduler would have taken that one."""
        for life in self._lives.values():
            if life.at_now and life.beside_idle is None:
                others = [x for x in self._lives.values() if x is not life]
                life.beside_idle = any(x.written and x.expires > poll.ended for x in others)

    # -- decisions -------------------------------------------------------------------------------

    def _case(self, loss: Loss, now: float) -> Case:
        flips = sum(key == loss.key and at > now - FLIP_WINDOW for at, key in self._changes)
        return Case(
            loss,
            over=now >= loss.high + self._window,
            blind=loss.high - loss.low > self._window,
            complete=self._testimony.traffic.complete,
            flips=flips >= FLIPS,
            swift=self._losses.swift,
            accompanied=self._losses.left_with_needless(loss),
        )

    def _unloaded(self, loss: Loss, verdict: Verdict, now: float) -> Unloaded:
        if verdict.reason not in EXPECTED:
            self._early_at = now
        return Unloaded(
            loss.life.model,
            verdict.reason,
            verdict.evidence,
            loss.low,
            loss.high,
            now,
            loss.life.first_seen,
            by=verdict.by,
            early=loss.early,
        )

    # -- state -----------------------------------------------------------------------------------

    def _remember(self, model: RunningModel) -> None:
        self._contexts[model.key] = model.context
        self._known.setdefault(model.name)
        resident = {key[0] for key in self._lives}
        while len(self._known) > MOST_NAMES and (
            oldest := next((name for name in self._known if name not in resident), None)
        ):
            del self._known[oldest]
            self._contexts = {k: v for k, v in self._contexts.items() if k[0] != oldest}

    def dump(self) -> Saved:
        """Return what a later process needs to notice what left in the meantime."""
        # What is pending is saved as if it were resident: it is lost again, with wider bounds.
        pending = {loss.key: loss.life for loss in self._losses.pending}
        return save(self._last, {**pending, **self._lives}.values(), self._known)

    def restore(self, saved: Saved) -> None:
        """Take up where an earlier process ended; the lost connection was its own."""
        self._last = saved.last
        self._lives.update({life.key: life for life in saved.lives})
        self._known.update(dict.fromkeys(saved.known))
        self._closed_by_us = True

    @property
    def asked(self) -> float | None:
        """When a fact newer than the last poll said that something changed."""
        return self._testimony.asked

    def view(self) -> View:
        """Return the state now."""
        lives = list(self._lives.values())
        return View(
            models=tuple(_state(name, lives) for name in sorted(self._known)),
            pending=len(self._losses.pending),
            deadlines=tuple(sorted(life.expires for life in lives)),
            last_early=self._early_at,
            last_seen=None if self._last is None else self._last.ended,
            asked=self._testimony.asked,
            complete=self._testimony.traffic.complete,
        )


def _state(name: str, lives: Iterable[Life]) -> ModelState:
    mine = sorted((x for x in lives if x.model.name == name), key=lambda x: x.first_seen)
    youngest = mine[-1] if mine else None
    return ModelState(
        name,
        resident=tuple(life.model for life in mine),
        since=None if youngest is None else youngest.first_seen,
        keep_alive=None if youngest is None else youngest.keep_alive,
        last_use=None if youngest is None else youngest.last_use,
    )
