# SPDX-License-Identifier: Apache-2.0
"""The residency tracker: facts in, events out. No I/O, no clock.

A poll is compared with the one before: a model that is new was loaded, one that is missing was
unloaded. An unload is pending until the rules know its reason or the window is over; it is settled
once.
"""

import math
from collections.abc import Iterable
from typing import Final

from ollama_exporter.endpoint.connection_ends import ConnectionEnds
from ollama_exporter.endpoint.server_clock import ServerClock
from ollama_exporter.endpoint.shared_address import SharedAddress
from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.protocol.wire import InstalledModel, RunningModel
from ollama_exporter.residency import incarnation, timings
from ollama_exporter.residency.events import Event, Reason, Restarted, View
from ollama_exporter.residency.evidence.case import Case
from ollama_exporter.residency.evidence.poll_evidence import PollEvidence
from ollama_exporter.residency.evidence.process_exits import ProcessExit
from ollama_exporter.residency.evidence.processes import ProcessEvidence
from ollama_exporter.residency.evidence.request_causes import departure
from ollama_exporter.residency.evidence.request_evidence import RequestEvidence
from ollama_exporter.residency.facts import (
    Fact,
    LogKind,
    LogSaid,
    PollFailed,
    RequestAnswered,
    RequestEnded,
    RequestStarted,
    Snapshot,
    VersionAnswered,
)
from ollama_exporter.residency.held_models import held, is_early, resume_returned, take_back
from ollama_exporter.residency.incarnation import Incarnation, Key
from ollama_exporter.residency.known_models import KnownModels
from ollama_exporter.residency.poll_unloads import Arrivals, Gap, PollUnload, PollUnloads
from ollama_exporter.residency.rules.all_rules import decide
from ollama_exporter.residency.rules.verdict import Verdict, Wait
from ollama_exporter.residency.saved_state import Saved, save
from ollama_exporter.residency.tolerances import Tolerances
from ollama_exporter.residency.unload import PendingUnloads
from ollama_exporter.residency.view import states

SUSPECTED: Final = 2  # windows that a verdict waits while several servers may answer
EXPECTED: Final = frozenset({Reason.EXPIRED, Reason.STOPPED, Reason.SERVER_RESTARTED})


class Tracker:
    """Turns facts, given in order of time, into loads and unloads with reasons.

    `window`: seconds for which evidence of a reason is waited for.
    """

    def __init__(self, *, window: float, tolerances: Tolerances | None = None) -> None:
        self._window = window
        self._tolerances = Tolerances() if tolerances is None else tolerances
        self._clock = ServerClock()
        self._lives: dict[Key, Incarnation] = {}
        self._pending = PendingUnloads()
        self._unloads = PollUnloads(self._pending, self._tolerances)
        self._requests = RequestEvidence(self._lives, self._unloads, self._tolerances)
        self._processes = ProcessEvidence(
            self._lives, self._pending, self._requests.requests, self._unloads.room, window=window
        )
        self._last: Snapshot | None = None  # the last answered poll
        self._listed: dict[Key, RunningModel] = {}  # by it, without the dead
        self._connection = ConnectionEnds()
        self._address = SharedAddress()
        self._suspected: Restarted | None = None  # a restart that the next poll confirms
        self._look_again = -math.inf  # when a second look is wanted
        self._early_at: float | None = None
        self._known = KnownModels(self._tolerances)

    def observe(self, fact: Fact) -> tuple[Event, ...]:
        """Process one fact; return what it settles."""
        match fact:
            case RequestStarted():  # first: there are thousands of requests to a poll
                self._requests.on_start(fact)
            case RequestAnswered():
                self._requests.on_response(fact)
            case RequestEnded():
                self._requests.on_end(fact)
                if fact.failure is Failure.OUT_OF_MEMORY:
                    self._processes.exits.on_out_of_memory(fact.at)
            case Snapshot():
                return self._on_poll(fact)
            case PollFailed():
                return self._on_failed_poll(fact)
            case LogSaid():
                self._processes.on_log_line(fact)
                return self.advance(fact.at)
            case VersionAnswered():
                self._address.on_version(fact.version, fact.at)
                self._unloads.on_version(fact.version)
            case _:
                return (*self._processes.observe(fact), *self.advance(fact.at))
        return ()

    def advance(self, now: float) -> tuple[Event, ...]:
        """Judge what is pending, and settle what only the passing of time settles."""
        events = self._confirm_restart(now)
        suspected = self._address.is_suspected  # the next listings tell who had answered
        for unload in self._all_pending:
            case = self._case(unload, now)
            found = decide(case)
            if isinstance(found, Wait):
                if found.look_again:
                    self._want_second_look(unload, now)
            elif found.reason is Reason.EXPIRED or not (suspected and case.rests_on_polls):
                events.append(self._pending.settle(unload, found, now))
                self._on_settled(unload, found, now)
        return tuple(events)

    def finish(self, now: float) -> tuple[Event, ...]:
        """Settle everything as if the window were over: the end of a recording."""
        longest = SUSPECTED * self._window + 1.0
        return self.advance(max([now, *(x.known_at + longest for x in self._all_pending)]))

    # -- polls -----------------------------------------------------------------------------------

    def _on_failed_poll(self, poll: PollFailed) -> tuple[Event, ...]:
        self._connection.on_failed_poll(poll.reason, poll.ended)
        return self.advance(poll.ended)

    def _on_poll(self, poll: Snapshot) -> tuple[Event, ...]:
        last = self._last
        if poll.date is not None:
            self._clock.observe(poll.date, started=poll.started, ended=poll.ended)
        lives = self._lives
        self._address.on_poll(
            poll.models,
            started=poll.started,
            ended=poll.ended,
            date=poll.date,
            new_connection=poll.new_connection,
            explained=lambda key: key not in lives or self._is_asked_for(lives[key], poll),
        )
        if self._address.is_shared:
            self._suspected = None
            take_back(self._unloads, self._lives, self._processes)
        sifted = self._processes.sift(poll)
        listed = sifted.living
        if resume_returned(self._unloads, self._lives, self._processes, listed):
            self._suspected = None
        before = {key: life.model for key, life in self._lives.items()}
        missing, shared = before.keys() - listed.keys(), self._address.is_shared
        kept = held(self._lives, missing, poll, self._processes, shared=shared)
        lost = last is not None and self._connection.is_lost(new_connection=poll.new_connection)
        restart = lost and last is not None and self._is_restart(poll, last, listed)
        arrived = {
            key: model
            for key, model in listed.items()
            if restart or key not in before or self._is_reloaded(self._lives[key], model)
        }
        events = list(sifted.loads)
        if restart and last is not None:
            events += self._on_restart(poll, last, listed)
        self._unload(poll, listed, arrived, kept)
        for key, model in listed.items():
            if key in arrived:
                events.append(self._load(poll, model, last))
            else:
                self._follow(poll, model)
        self._known.forget({key[0] for key in self._lives})
        incarnation.note_company(self._lives.values(), poll)
        self._requests.on_poll(poll, {k: x for k, x in self._lives.items() if k not in arrived})
        if arrived and last is not None and not restart:
            self._unloads.match(poll, arrived, before, last=last.started)
        self._unloads.room.observe(listed.values(), arrived.values())
        self._last, self._listed = poll, listed
        self._connection.on_poll(lost=lost, restarted=restart)
        return (*events, *self.advance(poll.ended))

    def _is_asked_for(self, life: Incarnation, poll: Snapshot) -> bool:
        """Return whether a request gave a reason why a poll would lack that model."""
        left = departure(life, life.seen, poll.ended)
        return left.cause(self._requests.requests) is not None

    def _is_reloaded(self, life: Incarnation, model: RunningModel) -> bool:
        """Return whether the model listed now is another runner, unless of another server."""
        reloaded = self._processes.matching.reloaded(life, model)
        return reloaded and not self._address.is_shared

    def on_installed(self, models: Iterable[InstalledModel], at: float) -> None:
        """Note the installed models: two lists that take turns are two servers."""
        self._address.on_installed(models, at)

    def _is_restart(self, poll: Snapshot, last: Snapshot, listed: dict[Key, RunningModel]) -> bool:
        """Return whether the server was restarted when its connection was lost."""
        if self._processes.server_lived(last.started):
            return False
        if any(
            key in self._lives and self._lives[key].kept_deadline(model)
            for key, model in listed.items()
        ):
            return False
        started = self._processes.log.moments(LogKind.SERVER_STARTED, last.started, poll.ended)
        if self._connection.refused or started:
            return True
        if self._connection.habitual or self._address.is_shared:
            return False
        return is_early(self._lives.values(), last.started, poll.ended)

    def _on_restart(
        self, poll: Snapshot, last: Snapshot, listed: dict[Key, RunningModel]
    ) -> list[Event]:
        """End every incarnation, once a second listing confirms that they are gone."""
        high = self._connection.failed_at or poll.ended
        early = is_early(self._lives.values(), last.started, high)
        gap = Gap(high, restart=True, others_early=early)
        events = self._processes.on_server_back(poll.ended)
        if self._processes.back_at < last.started:
            self._suspected = Restarted(last.started, gap.high)
        for life in list(self._lives.values()):
            del self._lives[life.key]
            unload = PollUnload.of(life, gap)
            unload.arrivals = Arrivals.of(listed, gap, last.ended) if listed else None
            self._pending.add(unload)
            self._processes.matching.on_unload(unload)
        return events

    def _confirm_restart(self, now: float) -> list[Event]:
        """Report a restart once a second listing or the end of the window confirms it."""
        suspected = self._suspected
        if suspected is None:
            return []
        over = now >= suspected.not_after + self._window
        again = self._last is not None and self._last.ended > suspected.not_after
        lost = (unload for unload in self._unloads.pending if unload.gap.restart)
        if not over and not (again and all(unload.agrees_with(self._listed) for unload in lost)):
            return []
        self._suspected = None
        return [suspected]

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
        unloads: list[PollUnload] = []
        for life in gone:
            unload = PollUnload.of(life, gap)
            del self._lives[life.key]
            if life.key in arrived:
                back = {life.key: arrived[life.key]}
                unload.arrivals = Arrivals.of(back, gap, unload.low)
            unloads.append(unload)
        self._requests.on_unloads(unloads, gap, resident={key[0] for key in {**before, **listed}})
        for unload in unloads:
            self._pending.add(unload)
            self._processes.matching.on_unload(unload)

    def _load(self, poll: Snapshot, model: RunningModel, last: Snapshot | None) -> Event:
        """Begin an incarnation."""
        since, epoch = None if last is None else last.started, self._clock.epoch
        expires = self._clock.ours(model.expires_at, epoch)
        life = incarnation.begin(model, poll, since=since, epoch=epoch, expires=expires)
        self._lives[model.key] = life
        self._known.on_load(model, poll.ended)
        witnessed = self._requests.on_load(life, counts=last is not None)
        return self._processes.on_load(life, poll, last, requested=witnessed)

    def _follow(self, poll: Snapshot, model: RunningModel) -> None:
        """Continue an incarnation. An E read before a step of the clock keeps its epoch."""
        life = self._lives[model.key]
        same = model.expires_at == life.model.expires_at
        epoch = life.epoch if same else self._clock.epoch
        expires = self._clock.ours(model.expires_at, epoch)
        incarnation.follow(life, model, poll, epoch=epoch, expires=expires)

    @property
    def _all_pending(self) -> list[PollUnload | ProcessExit]:
        return self._pending.of(PollUnload, ProcessExit)

    # -- decisions -------------------------------------------------------------------------------

    def _case(self, unload: PollUnload | ProcessExit, now: float) -> Case:
        if isinstance(unload, ProcessExit):
            return self._processes.case(unload, now)
        model, log = unload.life.model, self._processes.log
        over = now >= unload.high + self._window * (SUSPECTED if self._address.is_suspected else 1)
        bounds = unload.low, unload.high + timings.LOGGED_WITHIN
        logged = log.unload(*bounds, model=model.name, context=model.context)
        return PollEvidence(
            unload=unload,
            over=over,
            confirmed=over or self._is_confirmed(unload),
            blind=unload.high - unload.low > self._window,
            requests=self._requests.requests,
            unloads=self._unloads,
            flips=self._known.context_flips(unload.key, now),
            tolerances=self._tolerances,
            log=log,
            logged=logged,
            logged_next=None if logged is None else self._processes.matching.next_load(logged),
        )

    def _is_confirmed(self, unload: PollUnload) -> bool:
        """Return whether a second listing agrees with the first one that lacked it."""
        again = self._last is not None and self._last.ended > unload.high
        return again and unload.agrees_with(self._listed)

    def _want_second_look(self, unload: PollUnload | ProcessExit, now: float) -> None:
        """Note that a second look is all that is missing."""
        if isinstance(unload, PollUnload) and unload.gap.restart:
            self._look_again = max(self._look_again, unload.high + timings.SECOND_LOOK)
        elif now <= unload.high:
            self._early_at = now  # the next poll comes soon

    def _on_settled(self, unload: PollUnload | ProcessExit, found: Verdict, now: float) -> None:
        if isinstance(unload, ProcessExit):
            self._processes.on_settled(unload, found, now)
        else:
            self._unloads.on_settled(unload)
            if found.reason not in EXPECTED:
                self._early_at = now

    # -- state -----------------------------------------------------------------------------------

    def dump(self) -> Saved:
        """Return what a later process needs to notice what left in the meantime."""
        # Pending unloads are saved as if resident: they will be lost again, with wider bounds.
        pending = {unload.key: unload.life for unload in self._all_pending}
        return save(self._last, {**pending, **self._lives}.values(), self._known.names)

    def restore(self, saved: Saved) -> None:
        """Continue where an earlier process ended. The lost connection was its own."""
        self._last = saved.last
        self._lives.update({life.key: life for life in saved.lives})
        self._known.restore(saved.known)
        self._connection.on_restore()

    @property
    def clock(self) -> ServerClock:
        """The server's clock, which polls adjust."""
        return self._clock

    @property
    def poll_wanted_at(self) -> float | None:
        """When a fact newer than the last poll wants the next one."""
        asked, urgent = self._requests.poll_requested_at, self._urgent()
        return asked if urgent is None else urgent if asked is None else min(asked, urgent)

    def _urgent(self) -> float | None:
        """Return when the next poll is wanted for a process, or for a second look."""
        processes = self._processes.urgent()
        if self._last is None or self._look_again <= self._last.started:
            return processes
        return self._look_again if processes is None else min(self._look_again, processes)

    def view(self) -> View:
        """Return the state now."""
        lives = list(self._lives.values())
        server = self._processes.server
        return View(
            models=states(self._known.names, lives, self._processes),
            pending=len(self._pending),
            deadlines=tuple(sorted(life.expires for life in lives)),
            last_early=self._early_at,
            last_seen=None if self._last is None else self._last.ended,
            poll_requested_at=self._requests.poll_requested_at,
            complete=self._requests.requests.complete,
            contradictions=self._processes.log.contradictions,
            server_started=None if server is None else server.born,
            urgent=self._urgent(),
            shared=self._address.is_shared,
            suspected=self._address.is_suspected,
            inventory_wanted=self._address.wants_inventory,
            reconnects=self._connection.habitual,
        )
