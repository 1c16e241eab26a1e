# SPDX-License-Identifier: Apache-2.0
"""The residency tracker: facts in, events out. No I/O, no clock.

A poll is compared with the one before: a model that is new was loaded, one that is missing was
unloaded. An unload is pending until the rules know its reason or the window is over; it is settled
once.
"""

from typing import Final

from ollama_exporter.errors import FailureReason
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency import incarnation, timings
from ollama_exporter.residency.events import Event, Evidence, Reason, Restarted, Unloaded, View
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
from ollama_exporter.residency.known_models import KnownModels
from ollama_exporter.residency.poll_unloads import Gap, PollUnload, PollUnloads
from ollama_exporter.residency.rules.poll_rules import PollCase, decide, the_log_names_it
from ollama_exporter.residency.rules.verdict import Verdict, verdict
from ollama_exporter.residency.saved_state import Saved, save
from ollama_exporter.residency.server_clock import ServerClock
from ollama_exporter.residency.view import states

LOST: Final = frozenset({FailureReason.REFUSED, FailureReason.RESET})
EXPECTED: Final = frozenset({Reason.EXPIRED, Reason.STOPPED, Reason.SERVER_RESTARTED})
RESTARTED: Final = verdict(Reason.SERVER_RESTARTED, Evidence.NO_DEADLINE_KEPT)


def window_for(interval: float) -> float:
    """Return for how long evidence is waited for, at this interval of the polls. Seconds."""
    return max(timings.EVIDENCE_WINDOW, timings.EVIDENCE_POLLS * interval)


class Tracker:
    """Turns facts, given in order of time, into loads and unloads with reasons.

    `window`: seconds for which evidence of a reason is waited for; `window_for` tells how many.
    """

    def __init__(self, *, window: float) -> None:
        self._window = window
        self._clock = ServerClock()
        self._lives: dict[Key, Incarnation] = {}
        self._unloads = PollUnloads()
        self._requests = RequestEvidence(self._lives, self._unloads)
        self._processes = ProcessEvidence(
            self._lives, self._requests.requests, self._unloads.room, window=window
        )
        self._last: Snapshot | None = None  # the last answered poll
        self._down_since: float | None = None  # end of the first poll that was refused since
        self._connection_lost = False
        self._closed_by_us = False
        self._early_at: float | None = None
        self._known = KnownModels()

    def observe(self, fact: Fact) -> tuple[Event, ...]:
        """Process one fact; return what it settles."""
        match fact:
            case Snapshot():
                return self._on_poll(fact)
            case PollFailed():
                return self._on_failed_poll(fact)
            case RequestStarted():
                self._requests.on_start(fact)
            case RequestAnswered():
                self._requests.on_response(fact)
            case RequestEnded():
                self._requests.on_end(fact)
            case LogSaid():
                self._processes.on_log_line(fact)
                return self.advance(fact.at)
            case _:
                return tuple(self._processes.observe(fact))
        return ()

    def advance(self, now: float) -> tuple[Event, ...]:
        """Settle what only the passing of time settles."""
        events: list[Event] = []
        for unload in self._unloads.pending:
            found = decide(self._case(unload, now))
            if found is not None:
                self._unloads.settle(unload, expired=found.reason is Reason.EXPIRED)
                events.append(self._unloaded(unload, found, now))
        return (*events, *self._processes.judge(now))

    def finish(self, now: float) -> tuple[Event, ...]:
        """Settle everything as if the window were over: the end of a recording."""
        late = max([now, *(x.high + self._window for x in self._unloads.pending)])
        return (*self.advance(late), *self._processes.finish(late))

    # -- polls -----------------------------------------------------------------------------------

    def _on_failed_poll(self, poll: PollFailed) -> tuple[Event, ...]:
        if poll.reason in LOST:
            self._connection_lost = True
            self._down_since = self._down_since or poll.ended
        else:
            self._closed_by_us = True
        return self.advance(poll.ended)

    def _on_poll(self, poll: Snapshot) -> tuple[Event, ...]:
        last = self._last
        if poll.date is not None:
            self._clock.observe(poll.date, started=poll.started, ended=poll.ended)
        sifted = self._processes.sift(poll)
        listed = sifted.living
        before = {key: life.model for key, life in self._lives.items()}
        held = {key for key in before.keys() - listed.keys() if self._processes.holds(key, poll)}
        restart = last is not None and self._restarted(poll, last, listed)
        arrived = {
            key: model
            for key, model in listed.items()
            if restart
            or key not in before
            or self._processes.matching.reloaded(self._lives[key], model)
        }
        events = list(sifted.loads)
        if restart and last is not None:
            events += self._on_restart(poll, last)
        self._unload(poll, listed, arrived, held)
        for key, model in listed.items():
            if key in arrived:
                events.append(self._load(poll, model, last, was_listed=key in before))
            else:
                self._follow(poll, model)
        self._known.forget({key[0] for key in self._lives})
        incarnation.note_company(self._lives.values(), poll)
        self._requests.on_poll(poll, {k: x for k, x in self._lives.items() if k not in arrived})
        if last is None or restart:
            self._unloads.restart()
        else:
            self._unloads.count(poll, listed, before, last=last.started)
            if arrived:
                self._unloads.match(poll, arrived, before, last=last.started)
        self._unloads.room.observe(listed.values(), arrived.values())
        self._last, self._connection_lost, self._closed_by_us = poll, False, False
        self._down_since = None
        return (*events, *self.advance(poll.ended))

    def _restarted(self, poll: Snapshot, last: Snapshot, listed: dict[Key, RunningModel]) -> bool:
        """Return whether the server was restarted between two polls."""
        lost = self._connection_lost or (poll.new_connection and not self._closed_by_us)
        if not lost or self._processes.server_lived(last.started):
            return False
        return not any(
            key in self._lives and self._lives[key].kept_deadline(model)
            for key, model in listed.items()
        )

    def _on_restart(self, poll: Snapshot, last: Snapshot) -> list[Event]:
        """End every incarnation."""
        high = self._down_since or poll.ended
        events = self._processes.on_server_back(poll.ended)
        if self._processes.back_at < last.started:
            events.append(Restarted(last.started, high))
        for life in list(self._lives.values()):
            del self._lives[life.key]
            unload = PollUnload(life, life.seen, Gap(high))
            logged = the_log_names_it(self._case(unload, high + self._window))
            found = logged if isinstance(logged, Verdict) else RESTARTED
            events.append(self._unloaded(unload, found, poll.ended))
        return events

    def _unload(
        self,
        poll: Snapshot,
        listed: dict[Key, RunningModel],
        arrived: dict[Key, RunningModel],
        held: set[Key],
    ) -> None:
        """Open an unload for every incarnation that this poll ends."""
        gone = [
            life
            for key, life in self._lives.items()
            if (key not in listed and key not in held) or key in arrived
        ]
        if not gone:
            return
        before = {key: life.model for key, life in self._lives.items()}
        gap = Gap(
            poll.ended,
            stayed=frozenset(listed) - frozenset(arrived),
            lost=frozenset(life.key for life in gone),
            present=tuple({**before, **listed}.values()),
            newcomers=frozenset(key[0] for key in arrived if key not in before),
        )
        resident = {key[0] for key in {**before, **listed}}
        for life in gone:
            unload = PollUnload(life, life.seen, gap)
            del self._lives[life.key]
            self._requests.on_unload(unload, resident=resident)
            if life.key in arrived:
                unload.arrivals, unload.arrived = {life.key: arrived[life.key]}, unload.low
            self._unloads.add(unload)

    def _load(
        self,
        poll: Snapshot,
        model: RunningModel,
        last: Snapshot | None,
        *,
        was_listed: bool,
    ) -> Event:
        """Begin an incarnation."""
        since, epoch = None if last is None else last.started, self._clock.epoch
        expires = self._clock.ours(model.expires_at, epoch)
        life = incarnation.begin(model, poll, since=since, epoch=epoch, expires=expires)
        self._lives[model.key] = life
        self._known.on_load(model, poll.ended)
        witnessed = self._requests.on_load(
            life, poll, since=since, was_listed=was_listed, counts=last is not None
        )
        return self._processes.on_load(life, poll, last, requested=witnessed)

    def _follow(self, poll: Snapshot, model: RunningModel) -> None:
        """Continue an incarnation. An E read before a step of the clock keeps its epoch."""
        life = self._lives[model.key]
        same = model.expires_at == life.model.expires_at
        epoch = life.epoch if same else self._clock.epoch
        expires = self._clock.ours(model.expires_at, epoch)
        incarnation.follow(life, model, poll, epoch=epoch, expires=expires)

    # -- decisions -------------------------------------------------------------------------------

    def _case(self, unload: PollUnload, now: float) -> PollCase:
        model, log = unload.life.model, self._processes.log
        latest = unload.high + timings.LOGGED_WITHIN
        logged = log.unload(unload.low, latest, model=model.name, context=model.context)
        return PollCase(
            unload,
            over=now >= unload.high + self._window,
            blind=unload.high - unload.low > self._window,
            complete=self._requests.requests.complete,
            flips=self._known.context_flips(unload.key, now),
            swift=self._unloads.swift,
            accompanied=self._unloads.left_with_needless(unload),
            loads=log.loads(unload.low, unload.high),
            logged=logged,
            next_load=None if logged is None else self._processes.matching.next_load(logged),
        )

    def _unloaded(self, unload: PollUnload, found: Verdict, now: float) -> Unloaded:
        if found.reason not in EXPECTED:
            self._early_at = now
        return unloaded(unload.life, found, unload.low, unload.high, now)

    # -- state -----------------------------------------------------------------------------------

    def dump(self) -> Saved:
        """Return what a later process needs to notice what left in the meantime."""
        # Pending unloads are saved as if resident: they will be lost again, with wider bounds.
        lost = [unload.life for unload in self._unloads.pending]
        dead = [exited.life for exited in self._processes.exits.pending]
        pending = {life.key: life for life in (*lost, *dead)}
        return save(self._last, {**pending, **self._lives}.values(), self._known.names)

    def restore(self, saved: Saved) -> None:
        """Continue where an earlier process ended. The lost connection was its own."""
        self._last = saved.last
        self._lives.update({life.key: life for life in saved.lives})
        self._known.restore(saved.known)
        self._closed_by_us = True

    @property
    def clock(self) -> ServerClock:
        """The server's clock, which polls adjust."""
        return self._clock

    @property
    def poll_wanted_at(self) -> float | None:
        """When a fact newer than the last poll wants the next one."""
        both = (self._requests.asked, self._processes.urgent())
        return min((moment for moment in both if moment is not None), default=None)

    def view(self) -> View:
        """Return the state now."""
        lives = list(self._lives.values())
        server = self._processes.server
        return View(
            models=states(self._known.names, lives, self._processes),
            pending=len(self._unloads.pending) + len(self._processes.exits.pending),
            deadlines=tuple(sorted(life.expires for life in lives)),
            last_early=self._early_at,
            last_seen=None if self._last is None else self._last.ended,
            asked=self._requests.asked,
            complete=self._requests.requests.complete,
            contradictions=self._processes.log.contradictions,
            server_started=None if server is None else server.born,
            urgent=self._processes.urgent(),
        )
