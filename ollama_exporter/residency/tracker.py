# SPDX-License-Identifier: Apache-2.0
"""The residency tracker: facts in, events out. No I/O, no clock.

A poll is compared with the one before: what is new was loaded, what is missing was lost. A loss is
pending until `reasons.py` can name its reason or the window is over; it is settled once.
"""

from typing import Final

from ollama_exporter.errors import FailureReason
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency import incarnation as reading
from ollama_exporter.residency.events import Event, Reason, Restarted, Unloaded, View
from ollama_exporter.residency.evidence.exit_evidence import LOGGED
from ollama_exporter.residency.evidence.processes import ProcessEvidence, unloaded
from ollama_exporter.residency.evidence.request_evidence import RequestEvidence
from ollama_exporter.residency.facts import (
    Fact,
    LogSaid,
    PollFailed,
    RequestAnswered,
    RequestEnded,
    RequestStarted,
    Snapshot,
)
from ollama_exporter.residency.incarnation import Incarnation, Key
from ollama_exporter.residency.known_models import Names
from ollama_exporter.residency.poll_unloads import PollUnload, PollUnloads
from ollama_exporter.residency.rules.poll_rules import Case, Verdict, decide, the_log_named_it
from ollama_exporter.residency.saved_state import Saved, save
from ollama_exporter.residency.server_clock import ServerClock
from ollama_exporter.residency.view import states

LOST: Final = frozenset({FailureReason.REFUSED, FailureReason.RESET})
EXPECTED: Final = frozenset({Reason.EXPIRED, Reason.STOPPED, Reason.SERVER_RESTARTED})


class Tracker:
    """Turns facts, given in order of time, into loads and unloads with reasons.

    `window`: seconds for which evidence of a reason is waited for.
    """

    def __init__(self, *, window: float = 60.0) -> None:
        self._window = window
        self._clock = ServerClock()
        self._lives: dict[Key, Incarnation] = {}
        self._losses = PollUnloads()
        self._testimony = RequestEvidence(self._lives, self._losses)
        self._processes = ProcessEvidence(
            self._lives, self._testimony.traffic, self._losses.room, window=window
        )
        self._last: Snapshot | None = None  # the last answered poll
        self._down_since: float | None = None  # end of the first poll that was refused since
        self._connection_lost = False
        self._closed_by_us = False
        self._early_at: float | None = None
        self._names = Names()

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
            case LogSaid():
                return self._log(fact)
            case _:
                return tuple(self._processes.take(fact))
        return ()

    def advance(self, now: float) -> tuple[Event, ...]:
        """Settle what only the passing of time settles."""
        events: list[Event] = []
        for loss in list(self._losses.pending):
            verdict = decide(self._case(loss, now))
            if verdict is not None:
                self._losses.settle(loss, expired=verdict.reason is Reason.EXPIRED)
                events.append(self._unloaded(loss, verdict, now))
        return (*events, *self._processes.judge(now))

    def finish(self, now: float) -> tuple[Event, ...]:
        """Settle everything as if the window were over: the end of a recording."""
        late = max([now, *(x.high + self._window for x in self._losses.pending)])
        return (*self.advance(late), *self._processes.finish(late))

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
        sifted = self._processes.sift(poll)
        listed = sifted.living
        before = {key: life.model for key, life in self._lives.items()}
        held = {key for key in before.keys() - listed.keys() if self._processes.holds(key, poll)}
        kept = any(key in before and self._lives[key].kept_deadline(m) for key, m in listed.items())
        restart = lost and last is not None and not kept
        restart = restart and last is not None and not self._processes.vouches(last.started)
        arrived = {
            key: model
            for key, model in listed.items()
            if restart
            or key not in before
            or self._processes.census.reloaded(self._lives[key], model)
        }
        events = list(sifted.loads)
        if restart and last is not None:
            events += self._restarted(poll, last)
        self._lose(poll, listed, arrived, held)
        for key, model in listed.items():
            if key in arrived:
                events.append(self._load(poll, model, last, was_listed=key in before))
            else:
                self._follow(poll, model)
        reading.note_company(self._lives.values(), poll)
        self._testimony.polled(poll, {k: x for k, x in self._lives.items() if k not in arrived})
        if last is None or restart:
            self._losses.restart()
        else:
            self._losses.count(poll, listed, before, last=last.started)
            if arrived:
                self._losses.match(poll, arrived, before, last=last.started)
        self._losses.room.observe(listed.values(), arrived.values())
        self._last, self._connection_lost, self._closed_by_us = poll, False, False
        self._down_since = None
        return (*events, *self.advance(poll.ended))

    def _log(self, line: LogSaid) -> tuple[Event, ...]:
        self._processes.read(line)
        return self.advance(line.at)

    def _restarted(self, poll: Snapshot, last: Snapshot) -> list[Event]:
        """End every life: the server was restarted between two polls."""
        high = self._down_since or poll.ended
        verdict = Verdict(
            Reason.SERVER_RESTARTED, ("the connection was lost and no entry kept its deadline",)
        )
        events = self._processes.back(poll.ended)
        if self._processes.told < last.started:
            events.append(Restarted(last.started, high))
        for life in list(self._lives.values()):
            del self._lives[life.key]
            loss = PollUnload(life, life.seen, high, frozenset(), frozenset(), ())
            told = the_log_named_it(self._case(loss, high + self._window))
            said = told if isinstance(told, Verdict) else verdict
            events.append(self._unloaded(loss, said, poll.ended))
        return events

    def _lose(
        self,
        poll: Snapshot,
        listed: dict[Key, RunningModel],
        arrived: dict[Key, RunningModel],
        held: set[Key],
    ) -> None:
        """Open a loss for every life that this poll ends."""
        gone = [
            life
            for key, life in self._lives.items()
            if (key not in listed and key not in held) or key in arrived
        ]
        lost = frozenset(life.key for life in gone)
        before = {key: life.model for key, life in self._lives.items()}
        newcomers = frozenset(key[0] for key in arrived if key not in before)
        for life in gone:
            loss = PollUnload(
                life,
                life.seen,
                poll.ended,
                stayed=frozenset(listed) - frozenset(arrived),
                together=lost - {life.key},
                present=tuple({**before, **listed}.values()),
                newcomers=newcomers,
            )
            del self._lives[life.key]
            self._testimony.at_loss(loss, listed=listed, newcomers=newcomers)
            if life.key in arrived:
                loss.arrivals, loss.arrived = {life.key: arrived[life.key]}, loss.low
            self._losses.pending.append(loss)

    def _load(
        self,
        poll: Snapshot,
        model: RunningModel,
        last: Snapshot | None,
        *,
        was_listed: bool,
    ) -> Event:
        """Begin a life."""
        since, epoch = None if last is None else last.started, self._clock.epoch
        expires = self._clock.ours(model.expires_at, epoch)
        life = reading.begin(model, poll, since=since, epoch=epoch, expires=expires)
        self._lives[model.key] = life
        self._names.loaded(model, poll.ended, resident={key[0] for key in self._lives})
        witnessed = self._testimony.at_load(
            life, poll, since=since, was_listed=was_listed, counts=last is not None
        )
        return self._processes.loaded(life, poll, last, requested=witnessed)

    def _follow(self, poll: Snapshot, model: RunningModel) -> None:
        """Continue a life. An E that was read before a step of the clock is older than it."""
        life = self._lives[model.key]
        same = model.expires_at == life.model.expires_at
        epoch = life.epoch if same else self._clock.epoch
        expires = self._clock.ours(model.expires_at, epoch)
        reading.follow(life, model, poll, epoch=epoch, expires=expires)

    # -- decisions -------------------------------------------------------------------------------

    def _case(self, loss: PollUnload, now: float) -> Case:
        model = loss.life.model
        ending = self._processes.journal.ending(
            loss.low, loss.high + LOGGED, model=model.name, context=model.context
        )
        return Case(
            loss,
            over=now >= loss.high + self._window,
            blind=loss.high - loss.low > self._window,
            complete=self._testimony.traffic.complete,
            flips=self._names.flips(loss.key, now),
            swift=self._losses.swift,
            accompanied=self._losses.left_with_needless(loss),
            loads=self._processes.journal.loads(loss.low, loss.high),
            ending=ending,
            newcomer=None if ending is None else self._processes.census.newcomer(ending),
        )

    def _unloaded(self, loss: PollUnload, verdict: Verdict, now: float) -> Unloaded:
        if verdict.reason not in EXPECTED:
            self._early_at = now
        return unloaded(loss.life, verdict, loss.low, loss.high, now)

    # -- state -----------------------------------------------------------------------------------

    def dump(self) -> Saved:
        """Return what a later process needs to notice what left in the meantime."""
        # What is pending is saved as if it were resident: it is lost again, with wider bounds.
        lost = [loss.life for loss in self._losses.pending]
        dead = [death.life for death in self._processes.deaths.pending]
        pending = {life.key: life for life in (*lost, *dead)}
        return save(self._last, {**pending, **self._lives}.values(), self._names.known)

    def restore(self, saved: Saved) -> None:
        """Take up where an earlier process ended; the lost connection was its own."""
        self._last = saved.last
        self._lives.update({life.key: life for life in saved.lives})
        self._names.restore(saved.known)
        self._closed_by_us = True

    @property
    def asked(self) -> float | None:
        """When a fact newer than the last poll said that something changed."""
        both = (self._testimony.asked, self._processes.urgent())
        return min((moment for moment in both if moment is not None), default=None)

    def view(self) -> View:
        """Return the state now."""
        lives = list(self._lives.values())
        server = self._processes.server
        return View(
            models=states(self._names.known, lives, self._processes),
            pending=len(self._losses.pending) + len(self._processes.deaths.pending),
            deadlines=tuple(sorted(life.expires for life in lives)),
            last_early=self._early_at,
            last_seen=None if self._last is None else self._last.ended,
            asked=self._testimony.asked,
            complete=self._testimony.traffic.complete,
            contradictions=self._processes.journal.contradictions,
            server_started=None if server is None else server.born,
            urgent=self._processes.urgent(),
        )
