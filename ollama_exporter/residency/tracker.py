# SPDX-License-Identifier: Apache-2.0
"""The residency tracker: facts in, events out. No I/O, no clock.

A poll is compared with the one before: what is new was loaded, what is missing was lost. A loss is
pending until `reasons.py` can name its reason or the window is over; it is settled once.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from ollama_exporter.errors import FailureReason
from ollama_exporter.protocol.failures import Failure
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
from ollama_exporter.residency.lives import CLOCK_ERROR, Condemnation, Life
from ollama_exporter.residency.losses import Demand, Key, Loss, Room
from ollama_exporter.residency.reasons import Case, Verdict, decide
from ollama_exporter.residency.serverclock import ServerClock
from ollama_exporter.residency.traffic import SLOW_FIRST_BYTE, Request, Traffic

EFFECT: Final = 0.7  # seconds from a cause that a request shows to the removal it causes
MIN_LOAD: Final = 2.0  # an eviction, the wait for memory and a load take longer than this
FLIP_WINDOW: Final = 600.0
FORGIVEN_AFTER: Final = 6.0  # a renewal this long after a condemnation takes it back
FORGIVEN_AFTER_OOM: Final = 30.0  # those condemned together leave one by one, 5 s apart
STEP: Final = 5.5
SAME_MOMENT: Final = 0.1
MOST_NAMES: Final = 1000
LOST: Final = frozenset({FailureReason.REFUSED, FailureReason.RESET})


class Tracker:
    """Turns facts, given in order of time, into loads and unloads with reasons."""

    def __init__(self, *, window: float = 60.0) -> None:
        self._window = window
        self._clock = ServerClock()
        self._traffic = Traffic()
        self._room = Room()
        self._lives: dict[Key, Life] = {}
        self._pending: list[Loss] = []
        self._settled: deque[Loss] = deque(maxlen=16)
        self._last: Snapshot | None = None  # the last answered poll
        self._connection_lost = False
        self._closed_by_us = False
        self._contexts: dict[Key, int | None] = {}
        self._changes: deque[tuple[float, Key]] = deque(maxlen=1000)
        self._out_of_memory_at: float | None = None
        self._early_at: float | None = None
        self._asked: float | None = None
        self._vacant = 0  # losses whose room nobody has taken yet, as far as is seen
        self._swift = False  # newcomers were seen to be listed in the instant that room was made
        self._known: dict[str, None] = {}  # every name seen, oldest first

    # -- facts -----------------------------------------------------------------------------------

    def observe(self, fact: Fact) -> tuple[Event, ...]:
        """Take one fact; return what it settled."""
        match fact:
            case Snapshot():
                return self._poll(fact)
            case PollFailed():
                self._connection_lost |= fact.reason in LOST
                self._closed_by_us |= fact.reason not in LOST
                return self.advance(fact.ended)
            case RequestStarted():
                self._request_started(fact)
            case RequestAnswered():
                request = self._traffic.answer(fact)
                if request is not None and fact.at - request.fact.at >= SLOW_FIRST_BYTE:
                    self._asked = fact.at
            case RequestEnded():
                self._request_ended(fact)
            case _:  # processes: evidence that this tracker does not weigh yet
                pass
        return ()

    def advance(self, now: float) -> tuple[Event, ...]:
        """Settle what only the passing of time settles."""
        events: list[Event] = []
        for loss in list(self._pending):
            verdict = decide(self._case(loss, now))
            if verdict is not None:
                self._pending.remove(loss)
                if verdict.reason not in (Reason.EXPIRED,): self._settled.append(loss)
                events.append(self._settle(loss, verdict, now))
        return tuple(events)

    def finish(self, now: float) -> tuple[Event, ...]:
        """Settle everything as if the window were over: the end of a recording."""
        end = max([now, *(loss.high + self._window for loss in self._pending)])
        return self.advance(end)

    # -- requests --------------------------------------------------------------------------------

    def _request_started(self, fact: RequestStarted) -> None:
        self._traffic.start(fact)
        life = self._life_of(fact.model)
        if life is None:
            return
        if fact.stop:
            self._asked = fact.at
            life.condemned = life.condemned or Condemnation(Reason.STOPPED, fact.at, fact.at, "a stop call")
        elif fact.keep_alive is not None and not self._traffic.forces_reload(fact, life):
            life.requested = fact.keep_alive  # who forces a reload never reaches this runner

    def _request_ended(self, fact: RequestEnded) -> None:
        request = self._traffic.end(fact)
        if request is None or request.fact.stop:
            return
        if fact.failure is not None or request.fact.keep_alive == 0:
            self._asked = fact.at
        life = self._life_of(request.model)
        if life is not None and life.crashed_at is not None and fact.failure is None and request.answered is not None and request.answered > life.crashed_at + SAME_MOMENT:
            life.crashed_at = None
        if fact.failure is Failure.OUT_OF_MEMORY:
            self._condemn_all(fact.at)
        elif fact.failure is Failure.CRASHED:
            self._note_crash(request.model, life, fact.at)
        if life is not None:
            life.last_use = fact.at
            if life.requested == 0 and not self._traffic.of(request.model):
                life.condemned = life.condemned or Condemnation(
                    Reason.STOPPED, fact.at, request.fact.at, "its last request ended with keep-alive 0"
                )

    def _condemn_all(self, at: float) -> None:
        """One runner ran out of memory: the server expires them all."""
        self._out_of_memory_at = at
        why = Condemnation(Reason.OUT_OF_MEMORY, at, at, "a request failed with out of memory")
        recent = [loss.life for loss in self._pending if loss.high >= at - EFFECT]
        for life in [*self._lives.values(), *recent]:
            life.condemned = life.condemned or why

    def _note_crash(self, name: str, life: Life | None, at: float) -> None:
        if life is not None:
            life.crashed_at = at
        for loss in self._pending:
            if loss.name == name and loss.high >= at - EFFECT:
                loss.life.crashed_at = at

    def _life_of(self, name: str) -> Life | None:
        """The youngest resident incarnation of a name."""
        lives = [life for life in self._lives.values() if life.model.name == name]
        return max(lives, key=lambda life: life.since or 0.0, default=None)

    # -- polls -----------------------------------------------------------------------------------

    def _poll(self, poll: Snapshot) -> tuple[Event, ...]:
        first = self._last is None
        lost = self._connection_lost or (poll.new_connection and not self._closed_by_us)
        if poll.date is not None:
            self._clock.observe(poll.date, started=poll.started, ended=poll.ended)
        listed = {model.key: model for model in poll.models}
        before = {key: life.model for key, life in self._lives.items()}
        kept = any(
            key in self._lives and self._lives[key].kept_deadline(model)
            for key, model in listed.items()
        )
        restart = lost and not first and not kept
        arrived = {
            key: model
            for key, model in listed.items()
            if restart or key not in self._lives or self._lives[key].reloaded(model)
        }
        events: list[Event] = []
        if restart:
            assert self._last is not None  # not first
            events.append(Restarted(self._last.started, poll.ended))
        events += self._lose(poll, listed, arrived, restart=restart)
        for key, model in listed.items():
            if key in arrived:
                events.append(self._load(poll, model, before))
            else:
                life = self._lives[key]
                self._follow(life, model, poll)
        for life in self._lives.values():
            if life.at_now and not life.crowd:
                life.crowd = (any(v.written and v.expires > poll.ended for v in self._lives.values() if v is not life),)
        self._traffic.learn_contexts(x for key, x in self._lives.items() if key not in arrived)
        gone = len(before.keys() - listed.keys())
        came = len(listed.keys() - before.keys())
        if gone and came and not self._vacant and self._last is not None and poll.ended - self._last.started < MIN_LOAD and not first:
            self._swift = True
        self._vacant = max(0, self._vacant - came) + gone if self._vacant else max(0, gone - came)
        if restart or first: self._vacant = 0
        if arrived:
            self._match(poll, arrived, before)
        self._room.observe(poll.models, arrived.values())
        self._last, self._connection_lost, self._closed_by_us = poll, False, False
        if self._asked is not None and self._asked <= poll.started:
            self._asked = None
        return (*events, *self.advance(poll.ended))

    def _lose(
        self,
        poll: Snapshot,
        listed: dict[Key, RunningModel],
        arrived: dict[Key, RunningModel],
        *,
        restart: bool,
    ) -> list[Event]:
        """Open a loss for every life that this poll ends."""
        gone = [life for key, life in self._lives.items() if key not in listed or key in arrived]
        keys = frozenset(life.key for life in gone)
        present = tuple({**{key: x.model for key, x in self._lives.items()}, **listed}.values())
        present_keys = set(self._lives)
        events: list[Event] = []
        for life in gone:
            loss = Loss(
                life,
                life.seen,
                poll.ended,
                stayed=frozenset(listed) - frozenset(arrived),
                together=keys - {life.key},
                present=present,
            )
            del self._lives[life.key]
            if restart:
                evidence = "the connection was lost and no entry kept its deadline"
                verdict = Verdict(Reason.SERVER_RESTARTED, (evidence,))
                events.append(self._settle(loss, verdict, poll.ended))
                continue
            self._read_requests(loss, frozenset(listed))
            names = {key[0] for key in arrived if key not in present_keys}
            began = self._traffic.loaded_within(names - {loss.name}, loss.low, swift=self._swift)
            loss.loaded = tuple(began)
            if life.key in arrived:
                loss.arrivals = {life.key: arrived[life.key]}
                loss.arrived_low, loss.arrived_high = loss.low, loss.high
            self._pending.append(loss)
        return events

    def _read_requests(self, loss: Loss, listed: frozenset[Key]) -> None:
        """Freeze what the requests seen say at the moment of the loss."""
        loss.busy = any(
            r.answered is not None and r.fact.at < loss.low for r in self._traffic.of(loss.name)
        )
        names = {key[0] for key in listed} | {life.model.name for life in self._lives.values()}
        for request in self._traffic.waiting(loss.high - CLOCK_ERROR):
            own = request.model == loss.name
            if own and (
                loss.life.crashed_at is not None
                or self._traffic.forces_reload(request.fact, loss.life)
            ):
                loss.demand = Demand(request, own=True)
                return
            if not own and request.model not in names:
                loss.demand = Demand(request, own=False)
                return

    def _load(self, poll: Snapshot, model: RunningModel, before: dict[Key, RunningModel]) -> Event:
        """Begin a life."""
        since = self._last.ended if self._last is not None else None
        epoch = self._clock.epoch
        life = reading.begin(
            model,
            poll,
            since=None if self._last is None else self._last.started,
            epoch=epoch,
            expires=self._clock.ours(model.expires_at, epoch),
        )
        self._lives[model.key] = life
        if self._contexts.get(model.key, model.context) != model.context:
            self._changes.append((poll.ended, model.key))
        self._contexts[model.key] = model.context
        self._remember(model.name)
        witnessed = self._last is not None and self._traffic.witness_load(model.name)
        self._recall_requests(life, poll.ended, was_listed=model.key in before)
        if since is None or self._last is None:
            return Found(model, poll.ended)
        sources = frozenset({Source.REQUEST}) if witnessed else frozenset()
        return Loaded(model, self._last.started, poll.ended, poll.ended, sources)

    def _follow(self, life: Life, model: RunningModel, poll: Snapshot) -> None:
        """Continue a life."""
        epoch = life.epoch if model.expires_at == life.model.expires_at else self._clock.epoch
        expires = self._clock.ours(model.expires_at, epoch)
        renewed = model.expires_at != life.model.expires_at
        reading.continue_(life, model, poll, epoch=epoch, expires=expires)
        said = life.condemned
        if said is not None and renewed and life.written and life.expires > poll.ended:
            oom = said.reason is Reason.OUT_OF_MEMORY
            if poll.started > said.at + (FORGIVEN_AFTER_OOM if oom else FORGIVEN_AFTER):
                life.condemned = None

    def _recall_requests(self, life: Life, now: float, *, was_listed: bool) -> None:
        """Apply what requests said of this incarnation before the first poll that lists it."""
        name = life.model.name
        open_ = [r for r in self._traffic.of(name) if not self._traffic.forces_reload(r.fact, life)]
        ended = [r for r in self._traffic.ended if r.model == name]
        for request in sorted([*open_, *ended], key=lambda r: r.fact.at):
            if request.fact.keep_alive is not None:
                life.requested = request.fact.keep_alive
            if request.ended is not None:
                life.last_use = max(request.ended, life.last_use or 0.0)
                if request.failure is Failure.CRASHED and not was_listed:
                    life.crashed_at = request.ended
        oom, last = self._out_of_memory_at, self._last
        if oom is not None and last is not None and last.started < oom <= now and not was_listed:
            life.condemned = Condemnation(
                Reason.OUT_OF_MEMORY, oom, oom, "a request failed with out of memory"
            )
        elif ended and not self._traffic.of(name) and life.requested == 0:
            life.condemned = Condemnation(
                Reason.STOPPED, life.last_use or now, ended[-1].fact.at, "its last request ended with keep-alive 0"
            )

    def _match(
        self, poll: Snapshot, arrived: dict[Key, RunningModel], before: dict[Key, RunningModel]
    ) -> None:
        """Give the arrivals to the losses that can have made room for them.

        Older losses are served first; what found room needs no victim; and a load takes time.
        """
        assert self._last is not None or not self._pending
        low = self._last.started if self._last is not None else poll.started
        older = any(loss.high < poll.ended for loss in self._pending)
        newcomers = [model for key, model in arrived.items() if key not in before]
        room = self._room.fits(before.values(), newcomers)
        for loss in self._pending:
            if loss.arrivals:
                continue
            if loss.high < poll.ended:
                take = arrived
            elif not older and not room and (self._swift or loss.high - loss.low >= MIN_LOAD):
                take = arrived
            else:
                continue  # usually loaded before the loss: its own evictor is still to come
            fresh = {key: model for key, model in take.items() if key not in loss.stayed}
            if not fresh and (self._swift or not (loss.life.written or loss.life.at_now)):
                continue  # a reload of what was there before and after: no newcomer
            take = fresh or take
            loss.arrivals = take
            loss.arrived_low, loss.arrived_high = low, poll.ended
            strangers = [model for key, model in arrived.items() if key != loss.key]
            held = [m for m in loss.present if m.key not in loss.together and not (self._swift and m.key in take and len(loss.together) >= len(take))]
            loss.needless = bool(strangers) and self._room.fits(held, strangers)

    # -- decisions -------------------------------------------------------------------------------

    def _case(self, loss: Loss, now: float) -> Case:
        flips = sum(key == loss.key and at > now - FLIP_WINDOW for at, key in self._changes)
        return Case(
            loss,
            over=now >= loss.high + self._window,
            complete=self._traffic.complete,
            flips=flips >= 2,  # noqa: PLR2004 - one change may be an operator's; two are a quarrel
            deadline=_deadline_in_force(loss.life),
            company=self._company(loss),
            swift=self._swift,
        )

    def _company(self, loss: Loss) -> bool | None:
        near = [
            other
            for other in [*self._pending, *self._settled]
            if other is not loss
            and other.low - loss.high <= STEP
            and loss.low - other.high <= STEP
        ]
        if any(other.needless for other in near):
            return True
        return None if any(not other.arrivals for other in near if other in self._pending) else False

    def _settle(self, loss: Loss, verdict: Verdict, now: float) -> Unloaded:
        if verdict.reason not in (Reason.EXPIRED, Reason.STOPPED, Reason.SERVER_RESTARTED):
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
        )

    # -- state -----------------------------------------------------------------------------------

    def _remember(self, name: str) -> None:
        self._known.setdefault(name)
        if len(self._known) > MOST_NAMES:
            resident = {key[0] for key in self._lives}
            oldest = next((n for n in self._known if n not in resident), None)
            if oldest is not None:
                del self._known[oldest]

    def view(self) -> View:
        """The state now."""
        lives = list(self._lives.values())
        return View(
            models=tuple(self._state(name, lives) for name in sorted(self._known)),
            pending=len(self._pending),
            deadlines=tuple(sorted(life.expires for life in lives)),
            last_early=self._early_at,
            last_seen=None if self._last is None else self._last.ended,
            asked=self._asked,
            complete=self._traffic.complete,
        )

    def _state(self, name: str, lives: Iterable[Life]) -> ModelState:
        mine = sorted((x for x in lives if x.model.name == name), key=lambda x: x.first_seen)
        youngest = mine[-1] if mine else None
        return ModelState(
            name,
            resident=tuple(life.model for life in mine),
            since=None if youngest is None else youngest.first_seen,
            keep_alive=None if youngest is None else youngest.keep_alive,
            last_use=None if youngest is None else youngest.last_use,
        )


def _deadline_in_force(life: Life) -> float:
    """E as last listed, or what a later end of a seen request must have made it."""
    if life.last_use is None or not life.requested or life.last_use <= life.seen - EFFECT:
        return life.expires
    later = life.last_use + life.requested
    return max(life.expires, later) if later > life.seen else life.expires
