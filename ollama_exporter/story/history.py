# SPDX-License-Identifier: Apache-2.0
"""Keeps what happened for a day, within bounds. Pure: moments are arguments.

Stays begin and end as listings show it; the event that explains an end comes later, when its
reason is settled.
"""

import itertools
import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.poller.published import Published
from ollama_exporter.residency.events import Event, Loaded, ModelState, Unloaded
from ollama_exporter.shim.observation import Observation, Start
from ollama_exporter.story.bounded_log import BoundedLog
from ollama_exporter.story.event_record import event_record
from ollama_exporter.story.fresh_requests import (
    FAILED,
    MINUTE,
    FreshRequests,
    MinuteCount,
    parts_of,
)
from ollama_exporter.story.past import (
    DAY,
    Outage,
    Past,
    PastEvent,
    PastRecord,
    PastRequest,
    RequestMinute,
    SavedPast,
    Stay,
)
from ollama_exporter.story.phrases import shown

# Together 2 MB: events have most to say.
MOST_EVENTS: Final = 5_000
EVENT_BYTES: Final = 1_000_000
MOST_STAYS: Final = 5_000
STAY_BYTES: Final = 400_000
MOST_REQUESTS: Final = 500
REQUEST_BYTES: Final = 150_000
MOST_MINUTES: Final = 6_000
MINUTE_BYTES: Final = 400_000
MOST_OUTAGES: Final = 500
OUTAGE_BYTES: Final = 50_000
MOST_OPEN: Final = 1_000  # models in memory, and models whose end has no reason yet
MOST_CHANGES: Final = 2_000  # that one who follows may be behind
EXACT: Final = 1.0  # seconds between two polls around a moment that is told as one
NO_ANSWER: Final = "the server did not answer"
NEVER_SETTLED: Final = "reason not settled"
UNEXPLAINED: Final = 5.0  # seconds after which an end without a pending unload stays unexplained
NOT_RUNNING: Final = "the exporter did not run"
Key = tuple[str, float]  # name, and begin of the stay


class History:
    """Listens to events, listings and requests; tells the past, and what changed in it."""

    def __init__(self, *, share: float = 1.0) -> None:
        """`share`: of the bounds; a process that watches many servers has one history of each."""
        self._events = BoundedLog[PastEvent](*_part(share, MOST_EVENTS, EVENT_BYTES))
        self._stays = BoundedLog[Stay](*_part(share, MOST_STAYS, STAY_BYTES))
        self._requests = BoundedLog[PastRequest](*_part(share, MOST_REQUESTS, REQUEST_BYTES))
        self._minutes = BoundedLog[RequestMinute](*_part(share, MOST_MINUTES, MINUTE_BYTES))
        self._outages = BoundedLog[Outage](*_part(share, MOST_OUTAGES, OUTAGE_BYTES))
        self._open = BoundedDict[Key, Stay](MOST_OPEN)
        self._leaving = BoundedDict[Key, Stay](MOST_OPEN)
        self._loading: dict[str, float] = {}  # since when models load that are not listed yet
        self._this_minute = BoundedDict[str, RequestMinute](MOST_OPEN)
        self._speeds = BoundedDict[str, float](MOST_OPEN)
        self._outage: Outage | None = None
        self._numbers = itertools.count(1)
        self._fresh = FreshRequests(int(share * MOST_REQUESTS))  # the log would drop more as well
        self._changes: deque[PastRecord] = deque(maxlen=int(share * MOST_CHANGES))
        self._revision = 0  # number of changes that have records
        self.most = 0  # bytes that were in memory at one time

    @property
    def revision(self) -> int:
        """The number of changes so far."""
        self._settle()
        return self._revision

    @property
    def bytes(self) -> int:
        """Size of all that is kept, as JSON."""
        self._settle()
        logs = (self._events, self._stays, self._requests, self._minutes, self._outages)
        return sum(log.bytes for log in logs)

    # -- listening -------------------------------------------------------------------------------

    def on_change(self, events: Iterable[Event], published: Published, now: float) -> None:
        """Process the events that a poll or another fact has settled, and what is listed now."""
        self._settle()
        self._forget(now - DAY)
        self._note_outage(published, now)
        if published.is_listed:
            self._note_listing(published.view.models, now)
        for event in events:
            self._note_event(event)
        if not published.view.pending:
            self._give_up(now - UNEXPLAINED)

    def _give_up(self, before: float) -> None:
        """Close the stays whose end no event will explain: no unload is pending any more."""
        for key in [key for key, stay in self._leaving.items() if (stay.end or 0.0) < before]:
            self._close(replace(self._leaving.pop(key), why=NEVER_SETTLED))

    def on_request(self, seen: Observation, model: str) -> None:
        """Add a finished request. `model`: its name or, if it is not a known one, `other`.

        Its record is made when somebody reads, or with the next change of another kind.
        """
        if seen.start is Start.REMOTE or seen.request_fields.is_stop:
            return
        self._fresh.add(seen, model)
        if len(self._fresh) > MOST_OPEN:
            self._settle()

    def _settle(self) -> None:
        """Make the records of the requests that have ended since the last time."""
        if not self._fresh:
            return
        fresh = self._fresh.take()
        if fresh.has_skipped:  # who follows has missed some, and asks for the past anew
            self._changes.clear()
            self._revision += 1
        for seen, model in fresh.requests:
            record = PastRequest(
                id=next(self._numbers),
                model=shown(model),
                at=seen.began,
                took=seen.duration,
                start=seen.start.value,
                outcome=seen.outcome.value,
                failed=seen.outcome in FAILED,
                parts=tuple(parts_of(seen)),
            )
            self._requests.put(record)
            self._changed(record)
        for model, speed in fresh.speeds.items():
            self._speeds[shown(model)] = speed
        for (model, minute), count in fresh.minutes.items():
            self._add_minute(shown(model), minute, count)

    def _add_minute(self, name: str, minute: float, more: MinuteCount) -> None:
        known = self._this_minute.get(name)
        if known is None or known.at != minute:
            known = RequestMinute(id=next(self._numbers), model=name, at=minute)
        known = replace(
            known,
            cold=known.cold + more.cold,
            warm=known.warm + more.warm,
            failed=known.failed + more.failed,
        )
        self._this_minute[name] = known
        self._minutes.put(known)
        self._changed(known)

    def _note_outage(self, published: Published, now: float) -> None:
        if self._outage is None and not published.server.up:
            since = published.view.last_seen
            start = now if since is None else max(since, now - DAY)
            self._outage = Outage(id=next(self._numbers), start=start, text=NO_ANSWER)
        elif self._outage is not None and published.server.up:
            self._outage = replace(self._outage, end=now)
        else:
            return
        self._put_outage(self._outage)
        if self._outage.end is not None:
            self._outage = None

    def _put_outage(self, outage: Outage) -> None:
        self._outages.put(outage)
        self._changed(outage)

    def _note_listing(self, models: Sequence[ModelState], now: float) -> None:
        listed = {_key(state): state for state in models if state.resident}
        self.most = max(
            self.most, sum(model.size for state in listed.values() for model in state.resident)
        )
        for key in [key for key in self._open if key not in listed]:
            self._end(key, now)
        for key, state in listed.items():
            if key not in self._open:
                # One that is leaving was never gone.
                stay = self._leaving.pop(key, None) or self._new_stay(state, now)
                self._open[key] = replace(stay, end=None)
                self._changed(self._open[key])
        self._loading = {
            state.name: state.loading_since for state in models if state.loading_since is not None
        }

    def _end(self, key: Key, now: float) -> None:
        """Note that a stay is no longer listed. The event that explains it comes later."""
        stay = replace(self._open.pop(key), end=now)
        if stay.dead:  # no event will come: its unload was the crash
            self._close(stay)
        else:
            self._leaving[key] = stay
            self._changed(stay)

    def _new_stay(self, state: ModelState, now: float) -> Stay:
        is_dead = state.since is None
        return Stay(
            id=next(self._numbers),
            model=shown(state.name),
            start=now if state.since is None else state.since,
            loading=None if is_dead else self._loading.get(state.name),
            dead=is_dead,
        )

    def _note_event(self, event: Event) -> None:
        record = event_record(event, next(self._numbers))
        self._events.put(record)
        self._changed(record)
        if isinstance(event, Loaded):
            self._explain_begin(event)
        elif isinstance(event, Unloaded):
            self._explain_end(event, record)

    def _explain_begin(self, event: Loaded) -> None:
        for key, stay in list(self._open.items()):
            is_of_model = key[0] == event.model.name and stay.loading is None
            if is_of_model and event.not_before <= stay.start <= event.settled_at:
                self._open[key] = _begun(stay, event)
                self._changed(self._open[key])

    def _explain_end(self, event: Unloaded, record: PastEvent) -> None:
        key = (event.model.name, event.resident_since)
        # It came and went between two listings, unless it is known.
        new = Stay(id=next(self._numbers), model=record.model, start=event.resident_since)
        stay = self._leaving.pop(key, self._open.pop(key, new))
        end, low = max(stay.start, event.not_after), max(stay.start, event.not_before)
        stay = replace(stay, end=end, end_low=low if end - low > EXACT else None)
        self._close(replace(stay, why=record.text, event=record.id))

    def _close(self, stay: Stay) -> None:
        self._stays.put(stay)
        self._changed(stay)

    def _forget(self, before: float) -> None:
        self._events.drop_while(lambda event: event.at < before)
        self._stays.drop_while(lambda stay: (stay.end or math.inf) < before)
        self._requests.drop_while(lambda request: request.at < before)
        self._minutes.drop_while(lambda minute: minute.at < before)
        self._outages.drop_while(lambda outage: (outage.end or math.inf) < before)
        for key in [key for key, stay in self._leaving.items() if (stay.end or 0.0) < before]:
            del self._leaving[key]

    def _changed(self, record: PastRecord) -> None:
        self._changes.append(record)
        self._revision += 1

    # -- telling ---------------------------------------------------------------------------------

    def speed(self, model: str) -> float | None:
        """Return the tokens per second of a model's last answer. `model`: its shown name."""
        self._settle()
        return self._speeds.get(model)

    def past(self, *, since: float) -> Past:
        """Return the records that reach into the time after `since`."""
        self._settle()
        stays = (*self._stays, *list(self._leaving.values()), *list(self._open.values()))
        return Past(
            events=tuple(each for each in self._events if each.at >= since),
            stays=tuple(each for each in stays if each.end is None or each.end >= since),
            requests=tuple(each for each in self._requests if each.at >= since),
            minutes=tuple(each for each in self._minutes if each.at + MINUTE >= since),
            outages=tuple(x for x in self._outages if x.end is None or x.end >= since),
        )

    def changes_after(self, revision: int) -> Past | None:
        """Return what changed after a revision; None: too much, so ask for the past anew."""
        behind = self.revision - revision
        if not 0 <= behind <= len(self._changes):
            return None
        newest = list(self._changes)[len(self._changes) - behind :] if behind else []
        latest = {record.id: record for record in newest}.values()
        return Past(
            events=tuple(each for each in latest if isinstance(each, PastEvent)),
            stays=tuple(each for each in latest if isinstance(each, Stay)),
            requests=tuple(each for each in latest if isinstance(each, PastRequest)),
            minutes=tuple(each for each in latest if isinstance(each, RequestMinute)),
            outages=tuple(each for each in latest if isinstance(each, Outage)),
        )

    # -- the state file --------------------------------------------------------------------------

    def saved(self, now: float) -> SavedPast:
        """Return what a later process continues from."""
        return SavedPast(at=now, past=self.past(since=now - DAY), most=self.most)

    def begin(self, now: float) -> None:
        """Note that nothing is known of the time before."""
        self._outages.put(Outage(id=next(self._numbers), start=0.0, end=now, text=NOT_RUNNING))

    def restore(self, saved: SavedPast, now: float) -> None:
        """Continue the past of an earlier process. Call it before the first poll."""
        past, self.most = saved.past, saved.most
        self._outages.drop_while(lambda _: True)  # what was not known until now
        for event in past.events:
            self._events.put(event)
        for request in past.requests:
            self._requests.put(request)
        for minute in past.minutes:
            self._minutes.put(minute)
        for outage in past.outages:
            self._outages.put(replace(outage, end=saved.at if outage.end is None else outage.end))
        for stay in past.stays:
            if stay.event is None and not stay.why and not stay.dead:
                known = self._open if stay.end is None else self._leaving
                known[stay.model, stay.start] = stay
            else:
                self._stays.put(replace(stay, end=saved.at if stay.end is None else stay.end))
        every: list[PastRecord] = [*past.events, *past.requests, *past.minutes, *past.outages]
        every += past.stays
        self._numbers = itertools.count(1 + max((each.id for each in every), default=0))
        if saved.at < now:
            number = next(self._numbers)
            self._outages.put(Outage(id=number, start=saved.at, end=now, text=NOT_RUNNING))
        self._forget(now - DAY)


def _begun(stay: Stay, event: Loaded) -> Stay:
    """Return a stay with what is known of its load: a beginning, or between which polls it came."""
    if event.load_seconds is not None:
        return replace(stay, loading=max(0.0, event.not_after - event.load_seconds))
    return replace(stay, low=event.not_before) if stay.start - event.not_before > EXACT else stay


def _part(share: float, most: int, most_bytes: int) -> tuple[int, int]:
    return int(share * most), int(share * most_bytes)


def _key(state: ModelState) -> Key:
    """Return a key of the stay; one whose process died has no begin of its own."""
    return state.name, -1.0 if state.since is None else state.since
