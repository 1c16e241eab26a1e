# SPDX-License-Identifier: Apache-2.0
import json
import math
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from msgspec.structs import replace as changed

from ollama_exporter.protocol.request_body import RequestFields
from ollama_exporter.protocol.response_fields import ResponseEnd, ResponseFields
from ollama_exporter.protocol.routes import route_of
from ollama_exporter.residency.events import Found, Loaded, Reason, Restarted
from ollama_exporter.shim.observation import Observation, Outcome, Start
from ollama_exporter.story.fresh_requests import parts_of
from ollama_exporter.story.history import MOST_CHANGES, MOST_REQUESTS, History
from ollama_exporter.story.past import DAY, Past, SavedPast
from tests.support.storytelling import listing, resident, unloaded

A, B = "a:latest", "b:latest"


def answered(**fields: Any) -> Observation:
    response = ResponseFields(
        ResponseEnd.COMPLETE, total=6.0, load=3.0, prompt_eval=0.5, eval=2.0, output_tokens=40
    )
    base = Observation(
        id=1,
        method="POST",
        route=route_of("POST", "/api/chat"),
        began=120.0,
        ended=126.0,
        code=200,
        outcome=Outcome.ANSWERED,
        model=A,
        start=Start.COLD,
        response=response,
    )
    return changed(base, **fields)


def test_a_stay_begins_and_ends_with_the_listings_and_gets_its_word_later() -> None:
    history = History()
    history.on_change((), listing(resident(A, 100.0)), 101.0)
    (stay,) = history.past(since=0.0).stays
    assert (stay.model, stay.start, stay.end) == (A, 100.0, None)
    history.on_change((), listing(), 200.0)
    (gone,) = history.past(since=0.0).stays
    assert (gone.id, gone.end, gone.why) == (stay.id, 200.0, "")
    evicted = unloaded(A, since=100.0, at=198.0, reason=Reason.EVICTED, by=B)
    history.on_change((evicted,), listing(), 210.0)
    (told,), (event,) = history.past(since=0.0).stays, history.past(since=0.0).events
    assert (told.id, told.end, told.why, told.event) == (
        stay.id,
        198.0,
        "evicted by b:latest",
        event.id,
    )
    assert (event.reason, event.by, event.low, event.at) == ("evicted", B, 197.0, 198.0)
    assert event.evidence == ("its keep-alive ran out between the two polls",)
    assert (event.since, event.settled, event.early) == (100.0, 200.0, 0.0)


def test_how_sure_a_reason_is_comes_with_it() -> None:
    history = History()
    events = [replace(unloaded(A, since=1.0, at=9.0), sure=sure) for sure in (0.98765, 0.0)]
    history.on_change(events, listing(), 10.0)
    assert [event.sure for event in history.past(since=0.0).events] == [0.988, None]


def test_what_returns_unchanged_was_never_gone() -> None:
    history = History()
    history.on_change((), listing(resident(A, 100.0)), 101.0)
    history.on_change((), listing(), 200.0)
    history.on_change((), listing(resident(A, 100.0)), 205.0)
    (stay,) = history.past(since=0.0).stays
    assert stay.end is None


def test_a_reload_between_two_listings_is_two_stays() -> None:
    history = History()
    history.on_change((), listing(resident(A, 100.0)), 101.0)
    history.on_change((), listing(resident(A, 150.0)), 151.0)
    history.on_change((unloaded(A, since=100.0, at=150.0),), listing(resident(A, 150.0)), 152.0)
    assert [(stay.start, stay.end) for stay in history.past(since=0.0).stays] == [
        (100.0, 150.0),
        (150.0, None),
    ]


def test_a_stay_that_no_listing_showed_is_told_all_the_same() -> None:
    history = History()
    history.on_change((unloaded(A, since=100.0, at=104.0),), listing(), 110.0)
    (stay,) = history.past(since=0.0).stays
    assert (stay.start, stay.end) == (100.0, 104.0)


def test_an_end_that_no_event_explains_is_not_awaited_for_ever() -> None:
    history = History()
    waiting = listing()
    waiting = replace(waiting, view=replace(waiting.view, pending=1))
    history.on_change((), listing(resident(A, 100.0)), 101.0)
    history.on_change((), waiting, 200.0)
    history.on_change((), waiting, 260.0)
    assert history.past(since=0.0).stays[0].why == ""
    history.on_change((), listing(), 270.0)
    (stay,) = history.past(since=0.0).stays
    assert (stay.end, stay.why) == (200.0, "reason not settled")


def test_a_dead_runner_that_is_still_listed_is_a_stay_of_its_own() -> None:
    history = History()
    history.on_change((), listing(resident(A, 100.0)), 101.0)
    dead = replace(resident(A, 100.0), since=None, deadline=None, runner_up=False)
    crash = unloaded(A, since=100.0, at=120.0, reason=Reason.CRASHED)
    history.on_change((crash,), listing(dead), 121.0)
    history.on_change((), listing(), 130.0)
    alive, corpse = history.past(since=0.0).stays
    assert (alive.dead, alive.end, alive.why) == (False, 120.0, "crashed")
    assert (corpse.dead, corpse.start, corpse.end, corpse.why) == (True, 121.0, 130.0, "")


def test_a_measured_load_is_the_beginning_of_its_stay() -> None:
    history = History()
    model = resident(A, 100.0).resident[0]
    loaded = Loaded(model, 90.0, 100.0, 100.5, load_seconds=7.0)
    history.on_change((loaded,), listing(resident(A, 100.0)), 101.0)
    past = history.past(since=0.0)
    assert past.stays[0].loading == 93.0
    assert [(event.kind, event.load_seconds) for event in past.events] == [("loaded", 7.0)]


def test_what_polls_alone_saw_is_told_by_the_polls_around_it() -> None:
    history = History()
    model = resident(A, 100.0).resident[0]
    history.on_change((Loaded(model, 85.0, 100.0, 100.5),), listing(resident(A, 100.0)), 101.0)
    left = replace(unloaded(A, since=100.0, at=300.0), not_before=285.0)
    history.on_change((left,), listing(), 301.0)
    # Polls that are as close as a second tell one moment.
    history.on_change((Loaded(model, 399.5, 400.0, 400.5),), listing(resident(A, 400.0)), 401.0)
    history.on_change((unloaded(A, since=400.0, at=500.0),), listing(), 501.0)
    assert [(x.low, x.start, x.end_low, x.end) for x in history.past(since=0.0).stays] == [
        (85.0, 100.0, 285.0, 300.0),
        (None, 400.0, None, 500.0),
    ]


def test_nothing_is_known_of_the_time_before_unless_an_earlier_process_knew_it() -> None:
    history, later = History(), History()
    for each in (history, later):
        each.begin(50.0)
    (before,) = history.past(since=0.0).outages
    assert (before.start, before.end) == (0.0, 50.0)
    later.restore(history.saved(60.0), 70.0)
    assert [(x.start, x.end) for x in later.past(since=0.0).outages] == [(0.0, 50.0), (60.0, 70.0)]


def test_a_load_that_listings_saw_begin_is_told_where_nothing_measured_it() -> None:
    history = History()
    loading = replace(resident(A, 0.0), resident=(), since=None, loading_since=80.0)
    history.on_change((), listing(loading), 90.0)
    history.on_change((), listing(resident(A, 100.0)), 101.0)
    assert [(x.loading, x.start) for x in history.past(since=0.0).stays] == [(80.0, 100.0)]


def test_an_outage_is_no_unload() -> None:
    history = History()
    history.on_change((), listing(resident(A, 100.0)), 101.0)
    history.on_change((), listing(resident(A, 100.0), up=False), 120.0)
    history.on_change((), listing(resident(A, 100.0), up=False), 130.0)
    (outage,) = history.past(since=0.0).outages
    assert outage.end is None
    history.on_change((), listing(resident(A, 100.0)), 140.0)
    (outage,), (stay,) = history.past(since=0.0).outages, history.past(since=0.0).stays
    assert (outage.end, stay.end) == (140.0, None)


def test_found_and_restarted_are_events_without_a_reason() -> None:
    history = History()
    model = resident(A, 100.0).resident[0]
    history.on_change((Found(model, 5.0), Restarted(6.0, 7.0)), listing(), 8.0)
    assert [(e.kind, e.model, e.reason, e.at) for e in history.past(since=0.0).events] == [
        ("found", A, "", 5.0),
        ("restarted", "", "", 7.0),
    ]


def test_a_pinned_model_that_leaves_is_early_by_for_ever() -> None:
    history = History()
    gone = replace(unloaded(A, since=1.0, at=9.0), early=math.inf)
    history.on_change((gone,), listing(), 10.0)
    assert history.past(since=0.0).events[0].early == -1.0


# -- requests --------------------------------------------------------------------------------------


def test_the_parts_of_a_request_make_its_whole() -> None:
    parts = list(parts_of(answered()))
    assert parts == [("load", 3.0), ("queue", 0.5), ("prompt", 0.5), ("answer", 2.0)]
    slow = answered(ended=130.0)
    assert list(parts_of(slow))[-1] == ("other", 4.0)
    assert sum(seconds for _, seconds in parts_of(slow)) == slow.duration


def test_a_request_without_durations_is_told_by_its_first_word() -> None:
    openai = answered(response=ResponseFields(ResponseEnd.COMPLETE), first_content=121.5)
    assert list(parts_of(openai)) == [("first word", 1.5), ("answer", 4.5)]


def test_requests_count_by_the_minute_and_the_last_ones_one_by_one() -> None:
    history = History()
    history.on_request(answered(), A)
    history.on_request(answered(start=Start.WARM), A)
    history.on_request(answered(outcome=Outcome.UPSTREAM_ERROR), A)
    history.on_request(answered(began=185.0, ended=186.0), A)
    past = history.past(since=0.0)
    assert [(m.at, m.cold, m.warm, m.failed) for m in past.minutes] == [
        (120.0, 1, 1, 1),
        (180.0, 1, 0, 0),
    ]
    assert [(r.start, r.failed) for r in past.requests] == [
        ("cold", False), ("warm", False), ("cold", True), ("cold", False),
    ]  # fmt: skip
    assert history.speed(A) == 20.0


def test_stops_and_models_of_the_cloud_are_no_requests() -> None:
    history = History()
    history.on_request(answered(start=Start.REMOTE), A)
    history.on_request(answered(request_fields=RequestFields(keep_alive=0.0, is_empty=True)), A)
    assert history.past(since=0.0) == Past()


# -- bounds ----------------------------------------------------------------------------------------


def test_a_flood_stays_within_two_megabytes() -> None:
    history = History()
    long = "x" * 300
    for n in range(20_000):
        at = 1000.0 + n
        name = f"{long}{n % 3_000}:latest"
        event = unloaded(name, since=at - 1.0, at=at, by=long)
        history.on_change((event,), listing(), at)
        history.on_request(answered(began=at, ended=at), name)
    past = history.past(since=0.0)
    assert history.bytes <= 2_000_000
    assert len(msgspec.json.encode(past)) <= 2_100_000
    assert len(past.requests) <= MOST_REQUESTS
    assert past.events[-1].at == 20_999.0


def test_what_is_older_than_a_day_is_forgotten() -> None:
    history = History()
    history.on_change((unloaded(A, since=1.0, at=9.0),), listing(resident(B, 5.0)), 10.0)
    history.on_request(answered(began=20.0, ended=21.0), A)
    history.on_change((), listing(resident(B, 5.0)), 30.0 + DAY)
    past = history.past(since=0.0)
    assert (past.events, past.requests) == ((), ())
    assert [stay.model for stay in past.stays] == [B]


def test_a_follower_gets_each_change_once_and_learns_that_it_is_too_far_behind() -> None:
    history = History()
    history.on_change((), listing(resident(A, 100.0)), 101.0)
    begun = history.revision
    assert history.changes_after(begun) == Past()
    history.on_change((unloaded(A, since=100.0, at=150.0),), listing(), 151.0)
    changes = history.changes_after(begun)
    assert changes is not None
    assert [event.kind for event in changes.events] == ["unloaded"]
    assert [(stay.end, stay.why) for stay in changes.stays] == [(150.0, "keep-alive ran out")]
    behind = history.revision
    for _ in range(MOST_CHANGES):
        history.on_request(answered(), A)
    assert history.changes_after(begun) is None
    assert history.changes_after(behind) is None  # some requests have no record
    past = history.past(since=0.0)
    assert len(past.requests) == MOST_REQUESTS
    assert [minute.cold for minute in past.minutes] == [MOST_CHANGES]
    history.on_request(answered(), A)
    after = history.changes_after(history.revision - 2)
    assert after is not None
    assert (len(after.requests), after.minutes[0].cold) == (1, MOST_CHANGES + 1)
    assert history.changes_after(history.revision + 1) is None


# -- the state file --------------------------------------------------------------------------------


def test_the_past_outlives_the_process() -> None:
    before = History()
    before.on_change((), listing(resident(A, 100.0), resident(B, 90.0)), 101.0)
    before.on_change((unloaded(B, since=90.0, at=150.0),), listing(resident(A, 100.0)), 151.0)
    before.on_request(answered(), A)
    document = json.loads(json.dumps(msgspec.to_builtins(before.saved(200.0))))
    after = History()
    after.restore(msgspec.convert(document, SavedPast), 260.0)
    after.on_change((), listing(resident(A, 100.0)), 261.0)
    past = after.past(since=0.0)
    assert [(stay.model, stay.end) for stay in past.stays] == [(B, 150.0), (A, None)]
    assert [(outage.start, outage.end) for outage in past.outages] == [(200.0, 260.0)]
    assert len(past.events) == len(past.requests) == len(past.minutes) == 1
    assert after.most == before.most == 8 * 10**9
    numbers = [record.id for kind in (past.events, past.stays, past.outages) for record in kind]
    assert len(numbers) == len(set(numbers))


def test_an_unload_that_was_pending_is_settled_by_the_next_process() -> None:
    before, after = History(), History()
    before.on_change((), listing(resident(A, 100.0)), 101.0)
    before.on_change((), listing(), 150.0)
    after.restore(before.saved(160.0), 200.0)
    after.on_change((unloaded(A, since=100.0, at=149.0),), listing(), 210.0)
    (stay,) = after.past(since=0.0).stays
    assert (stay.end, stay.why) == (149.0, "keep-alive ran out")


@pytest.mark.parametrize("name", ["<img onerror=alert(1)>", "a\x1b[2Jb", "a\u202eb", "a\nb"])
def test_names_are_printable_wherever_they_stand(name: str) -> None:
    history = History()
    event = unloaded(name, since=1.0, at=9.0, reason=Reason.EVICTED, by=name)
    history.on_change((event,), listing(resident(name, 3.0)), 10.0)
    history.on_request(answered(), name)
    past = history.past(since=0.0)
    shown = [past.events[0].model, past.events[0].by, past.events[0].text, past.stays[0].model]
    shown += [past.requests[0].model, past.minutes[0].model]
    assert all(text.isprintable() for text in shown)
