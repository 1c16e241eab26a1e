# SPDX-License-Identifier: Apache-2.0
"""The decision table, rule by rule, on hand-made polls. docs/unload-reasons.md says the same."""

import math

import pytest

from ollama_exporter.errors import FailureReason
from ollama_exporter.poller.poll_schedule import window_for
from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.residency.events import (
    Event,
    Evidence,
    Found,
    Loaded,
    Reason,
    Restarted,
    Source,
    Unloaded,
)
from ollama_exporter.residency.facts import (
    ProcessExited,
    RequestAnswered,
    RequestEnded,
    RequestStarted,
    Snapshot,
)
from ollama_exporter.residency.tracker import Tracker
from tests.support.story import START, Story, model


def test_models_at_the_first_poll_are_found_not_loaded() -> None:
    story = Story()
    story.poll(0, model("a", 300))
    story.poll(15, model("a", 300), model("b", 315))
    assert [type(event) for event in story.said] == [Found, Loaded]
    assert story.said[1] == Loaded(model("b", 315), START, START + 15, START + 15)


def test_gone_at_its_deadline_is_expired() -> None:
    story = Story()
    story.poll(0, model("a", 20))
    story.poll(15, model("a", 20))
    story.poll(21)
    assert story.reasons() == [("a", Reason.EXPIRED, None)]
    unload = story.unloads[0]
    assert (unload.not_before, unload.not_after) == (START + 15, START + 21)
    assert unload.resident_since == START


def test_a_deadline_that_a_request_brought_forward_after_the_last_poll() -> None:
    story = Story()
    story.poll(0, model("a", 300))
    story.request(1, "a", 1, answered=1.1, ended=2, keep_alive=3)
    story.poll(6, model("b", 306))
    assert story.reasons() == [("a", Reason.EXPIRED, None)]


def test_removed_behind_another_unload_is_still_expired() -> None:
    story = Story()
    story.poll(0, model("a", 20))
    story.poll(24, model("a", 20))
    story.poll(27)
    assert story.reasons() == [("a", Reason.EXPIRED, None)]


def test_a_deadline_set_to_the_past_is_a_stop() -> None:
    story = Story()
    story.poll(0, model("a", 300))
    story.poll(5, model("a", 300))
    story.poll(10, model("a", 7))
    story.poll(15)
    assert story.reasons() == [("a", Reason.STOPPED, None)]


def test_a_stop_within_a_poll_is_a_stop_too() -> None:
    story = Story()
    story.poll(0, model("a", 300))
    story.poll(5, model("a", 300))
    story.poll(10, model("a", 9.98))
    story.poll(11, model("a", 9.98))
    story.poll(15)
    assert story.reasons() == [("a", Reason.STOPPED, None)]


def test_a_deadline_that_a_poll_hits_is_an_expiry() -> None:
    story = Story()
    story.poll(0, model("a", 10.02))
    story.poll(5, model("a", 10.02))
    story.poll(10, model("a", 10.02))
    story.poll(11)
    assert story.reasons() == [("a", Reason.EXPIRED, None)]


def test_early_loss_and_a_newcomer_without_room_is_an_eviction() -> None:
    story = Story()
    story.poll(0, model("a", 300), model("b", 300))
    story.poll(5, model("b", 300))
    assert story.tracker.view().pending == 1
    story.poll(12, model("b", 300), model("c", 312))
    assert story.reasons() == [("a", Reason.EVICTED, "c:latest")]
    assert story.unloads[0].settled_at == START + 12


def test_a_newcomer_that_fits_beside_it_is_no_evictor() -> None:
    story = Story()
    three = (model("a", 300), model("b", 300), model("d", 300))
    story.poll(0, *three)
    story.poll(5, model("a", 300))
    story.poll(10, model("a", 300), model("c", 310, size=1))
    assert {reason for _, reason, _ in story.reasons()} == {Reason.UNKNOWN}


@pytest.mark.parametrize(
    ("before", "reason"), [(("b", "d", "e"), Reason.STOPPED), (("b",), Reason.UNKNOWN)]
)
def test_what_was_never_idle_was_stopped_only_if_its_room_is_known_not_to_be_needed(
    before: tuple[str, ...], reason: Reason
) -> None:
    story = Story()
    story.poll(0, *(model(name, 300) for name in before))
    story.poll(5, model("b", 300))
    story.poll(70, model("b", 300), model("a", 70))
    story.poll(75, model("b", 300))
    story.poll(80, model("b", 300), model("c", 380, size=1))
    story.poll(85, model("b", 300), model("c", 380, size=1))
    assert [said for said in story.reasons() if said[0] == "a"] == [("a", reason, None)]


def test_another_model_and_its_own_reload_between_two_polls_leave_it_open_who_took_the_room() -> (
    None
):
    story = Story()
    story.poll(0, model("a", 300))
    story.poll(5)
    story.poll(16, model("a", 316), model("b", 316))
    assert story.reasons() == [("a", Reason.UNKNOWN, None)]


def test_the_same_digest_with_another_context_is_changed_options() -> None:
    story = Story()
    story.poll(0, model("a", 300))
    story.poll(5, model("a", 305, context=8192))
    story.poll(10, model("a", 310, context=8192))
    assert story.reasons() == [("a", Reason.OPTIONS_CHANGED, None)]
    assert sum(isinstance(event, Loaded) for event in story.said) == 1


def test_the_same_digest_unchanged_is_unknown() -> None:
    story = Story()
    story.poll(0, model("a", 300))
    story.poll(5)
    story.poll(12, model("a", 312))
    assert story.reasons() == [("a", Reason.UNKNOWN, None)]


def test_its_name_with_another_digest_is_a_replacement() -> None:
    story = Story()
    story.poll(0, model("a", 300))
    story.poll(5)
    story.poll(10, model("a", 310, digest="other"))
    assert story.reasons() == [("a", Reason.REPLACED, "a:latest")]


def test_nothing_decisive_within_the_window_is_unknown() -> None:
    story = Story()
    story.poll(0, model("a", 300))
    for at in range(5, 60, 15):
        story.poll(at)
        assert story.unloads == []
    story.poll(65)
    assert story.reasons() == [("a", Reason.UNKNOWN, None)]


@pytest.mark.parametrize("reason", [FailureReason.REFUSED, FailureReason.RESET])
def test_a_lost_connection_and_all_gone_is_a_restart(reason: FailureReason) -> None:
    story = Story()
    story.poll(0, model("a", 300))
    story.fail(5, reason)
    story.poll(10, new_connection=True)
    assert story.reasons() == [("a", Reason.SERVER_RESTARTED, None)]
    assert story.said[1] == Restarted(START, START + 5)
    assert story.unloads[0].not_after == START + 5


def test_a_replaced_connection_alone_is_no_restart() -> None:
    story = Story()
    story.poll(0, model("a", 300))
    story.poll(5, model("a", 300))
    story.poll(10, model("a", 300), new_connection=True)
    assert [type(event) for event in story.said] == [Found]


def test_a_connection_that_we_gave_up_is_no_sign_of_a_restart() -> None:
    story = Story()
    story.poll(0, model("a", 300))
    story.fail(10, FailureReason.TIMEOUT)
    story.poll(12, new_connection=True)
    assert not any(isinstance(event, Restarted) for event in story.said)


def test_a_failed_poll_is_no_unload() -> None:
    story = Story()
    story.poll(0, model("a", 300))
    for at, reason in enumerate(FailureReason, start=1):
        story.fail(at, reason)
    story.poll(15, model("a", 300), new_connection=True)
    assert [type(event) for event in story.said] == [Found]


def test_after_a_long_time_unwatched_nothing_is_claimed() -> None:
    story = Story()
    story.poll(0, model("a", 300))
    story.fail(10, FailureReason.TIMEOUT)
    story.poll(400, new_connection=True)
    assert story.reasons() == [("a", Reason.UNKNOWN, None)]


def test_a_seen_stop_call_settles_it_at_once() -> None:
    story = Story()
    story.poll(0, model("a", 300))
    story.request(1, "a", 3, stop=True, keep_alive=0)
    assert story.tracker.view().poll_requested_at == START + 3
    story.poll(4)
    assert story.reasons() == [("a", Reason.STOPPED, None)]
    assert story.tracker.view().poll_requested_at is None


def test_a_stop_call_that_overtakes_the_first_listing_is_a_stop() -> None:
    story = Story()
    story.poll(0)
    story.request(1, "a", 1, answered=1.5, ended=2)
    story.tell(RequestStarted(START + 3.1, 2, "a:latest", keep_alive=0.0, stop=True))
    story.tell(Snapshot(START + 3, START + 3.2, (model("a", 302),)))
    story.poll(5)
    assert story.reasons() == [("a", Reason.STOPPED, None)]
    assert story.unloads[0].evidence == (Evidence.STOP_CALL,)


def test_a_last_request_with_keep_alive_zero_is_a_stop() -> None:
    story = Story()
    story.poll(0, model("a", 300))
    story.request(1, "a", 1, answered=1.2, ended=3, keep_alive=0)
    story.poll(4)
    assert story.reasons() == [("a", Reason.STOPPED, None)]


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [(60.0, 0.0, Reason.STOPPED), (0.0, 60.0, Reason.UNKNOWN), (0.0, 0.0, Reason.STOPPED)],
)
def test_of_two_keep_alives_at_one_moment_the_one_that_was_served_last_counts(
    first: float, second: float, reason: Reason
) -> None:
    story = Story()
    story.poll(0, model("a", 300))
    story.tell(*(RequestStarted(START + 1, n, "a:latest", k) for n, k in ((1, first), (2, second))))
    for number in (1, 2):
        story.tell(RequestAnswered(START + 1 + number / 10, number))
    story.tell(*(RequestEnded(START + 3, number) for number in (1, 2)))
    story.poll(4)
    story.poll(65)
    assert story.reasons() == [("a", reason, None)]


def test_an_out_of_memory_of_what_was_loaded_as_it_left_did_not_drop_it() -> None:
    story = covered()
    story.request(1, "a", 50, answered=53, ended=54)
    story.poll(55, model("a", 354))
    story.request(2, "b", 56)
    story.poll(58, model("a", 354))
    story.tell(RequestEnded(START + 59, 2, Failure.OUT_OF_MEMORY))  # its load is over
    story.request(3, "c", 56.5)
    story.poll(60)
    assert story.reasons() == [("a", Reason.EVICTED, "c:latest")]


def test_a_crash_text_is_a_crash() -> None:
    story = Story()
    story.poll(0, model("a", 300))
    story.request(1, "a", 1, answered=1.2, ended=3, failure=Failure.CRASHED)
    story.poll(4, model("a", 303))
    story.poll(20)
    assert story.reasons() == [("a", Reason.CRASHED, None)]


def test_a_crash_is_forgotten_once_it_answers_again() -> None:
    story = Story()
    story.poll(0, model("a", 30))
    story.request(1, "a", 1, answered=1.2, ended=2, failure=Failure.CRASHED)
    story.request(2, "a", 3, answered=6, ended=7)
    story.poll(10, model("a", 37))
    story.poll(38)
    assert story.reasons() == [("a", Reason.EXPIRED, None)]


def test_out_of_memory_takes_them_all() -> None:
    story = Story()
    story.poll(0, model("a", 300), model("b", 300))
    story.request(1, "a", 1, answered=1.2, ended=3, failure=Failure.OUT_OF_MEMORY)
    story.poll(4, model("b", 300))
    story.poll(9)
    assert story.reasons() == [
        ("a", Reason.OUT_OF_MEMORY, None),
        ("b", Reason.OUT_OF_MEMORY, None),
    ]


def covered() -> Story:
    """A story in which every load had a seen request: coverage is complete."""
    story = Story()
    story.poll(0)
    for number, name in enumerate("xyz", start=100):
        at = (number - 99) * 10.0
        story.request(number, name, at, answered=at + 4, ended=at + 5)
        story.poll(at + 6, model(name, at + 8))
        story.poll(at + 9)
    assert story.tracker.view().complete
    assert all(e.witnessed == {Source.REQUEST} for e in story.said if isinstance(e, Loaded))
    story.said.clear()
    return story


def test_with_all_requests_seen_the_waiting_one_names_the_evictor_before_it_appears() -> None:
    story = covered()
    story.request(1, "a", 50, answered=53, ended=54)
    story.poll(55, model("a", 354))
    story.request(2, "b", 57)
    story.poll(60)
    assert story.reasons() == [("a", Reason.EVICTED, "b:latest")]


def test_with_all_requests_seen_the_waiting_one_may_want_other_options() -> None:
    story = covered()
    story.request(1, "a", 50, answered=53, ended=54)
    story.poll(55, model("a", 354))
    story.request(2, "a", 57, num_ctx=8192)
    story.poll(60)
    assert story.unloads == []  # another digest of its name may still come back
    story.poll(64, model("a", 364, context=8192))
    assert story.reasons() == [("a", Reason.OPTIONS_CHANGED, None)]


def test_a_deadline_that_does_not_slide_reveals_no_keep_alive() -> None:
    story = Story()
    story.poll(0, model("a", 200))
    assert story.tracker.view().models[0].keep_alive is None
    story.poll(15, model("a", 200))
    assert story.tracker.view().models[0].keep_alive is None


def test_keep_alive_is_revealed_while_the_deadline_slides() -> None:
    story = Story()
    story.poll(0)
    story.poll(5, model("a", 305))
    story.poll(10, model("a", 310))
    assert story.tracker.view().models[0].keep_alive == pytest.approx(300)
    story.poll(15, model("a", 45))  # a request set another, and it is busy still
    story.poll(20, model("a", 50))
    assert story.tracker.view().models[0].keep_alive == pytest.approx(30)
    story.poll(25, model("a", math.inf))
    assert story.tracker.view().models[0].keep_alive == math.inf


def test_a_poll_that_waits_for_the_end_of_a_load_does_not_end_the_slide() -> None:
    """It is answered at its end: the server holds a lock until then."""
    story = Story()
    story.poll(0)
    story.tell(Snapshot(START + 5, START + 8, (model("a", 308),)))
    story.poll(9, model("a", 309))
    story.poll(14, model("a", 314))
    assert story.tracker.view().models[0].keep_alive == pytest.approx(300)


def test_two_entries_of_one_name_are_two_lives() -> None:
    story = Story()
    old, new = model("a", 300), model("a", 310, digest="new")
    story.poll(0, old)
    story.poll(5, old, new)
    view = story.tracker.view()
    assert view.models[0].resident == (old, new)
    assert view.models[0].since == START + 5


def test_an_early_loss_is_remembered_for_the_schedule() -> None:
    story = Story()
    story.poll(0, model("a", 300), model("b", 300))
    story.poll(5, model("b", 300))
    story.poll(12, model("b", 300), model("c", 312))
    assert story.tracker.view().last_early == START + 12


@pytest.mark.parametrize(("interval", "window"), [(1.0, 60.0), (15.0, 60.0), (60.0, 180.0)])
def test_evidence_is_waited_for_a_minute_and_three_polls(interval: float, window: float) -> None:
    assert window_for(interval) == window


def test_processes_are_taken_and_change_nothing_yet() -> None:
    assert Tracker(window=60.0).observe(ProcessExited(START, 4711)) == ()


def test_an_hour_of_clock_error_changes_no_reason() -> None:
    hour = 3600.0
    tracker = Tracker(window=60.0)
    said: list[Event] = []
    for at in (0.0, 7.3, 15.1, 21.9):
        listed = (model("a", 20 + hour),) if at < 20 else ()
        date = math.floor(START + at + hour)
        said += tracker.observe(Snapshot(START + at, START + at, listed, date=date))
    assert [e.reason for e in said if isinstance(e, Unloaded)] == [Reason.EXPIRED]


def test_a_step_of_the_server_s_clock_moves_no_deadline_that_was_read_before() -> None:
    tracker = Tracker(window=60.0)
    said: list[Event] = []
    for at in (0.0, 7.3, 15.1, 21.9):
        listed = (model("a", 20),) if at < 20 else ()
        date = math.floor(START + at + (3600.0 if at > 10 else 0.0))
        said += tracker.observe(Snapshot(START + at, START + at, listed, date=date))
    assert [e.reason for e in said if isinstance(e, Unloaded)] == [Reason.EXPIRED]


def test_what_was_saved_is_taken_up_and_a_loss_meanwhile_is_noticed() -> None:
    story = Story()
    story.poll(0, model("a", 20), model("b", math.inf))
    story.poll(10, model("a", 20), model("b", math.inf))
    later = Story()
    later.tracker.restore(story.tracker.dump())
    later.poll(30, model("b", math.inf), new_connection=True)
    assert later.reasons() == [("a", Reason.EXPIRED, None)]
    assert [type(event) for event in later.said] == [Unloaded]


def test_names_that_left_are_forgotten_beyond_a_thousand() -> None:
    story = Story()
    for number in range(1100):
        story.poll(number * 10, model(f"m{number}", number * 10 + 300))
    assert len(story.tracker.view().models) == 1000


@pytest.mark.parametrize(("seen", "reason"), [(False, "options_changed"), (True, "unknown")])
def test_a_context_that_changed_before_explains_nothing_where_all_requests_are_seen(
    reason: str, *, seen: bool
) -> None:
    story = covered() if seen else Story()
    at = 100.0
    for number, context in enumerate((4096, 8192, 4096)):
        name, wanted = "a", None if context == 4096 else context
        if seen:
            story.request(number + 50, name, at, answered=at + 3, ended=at + 4, num_ctx=wanted)
        story.poll(at + 5, model("a", at + 304, context=context))
        at += 10
    story.poll(at - 4, model("a", at + 304 - 10))
    before = len(story.unloads)
    if seen:
        story.request(60, "a", at)  # its runner had died while it was idle
    story.poll(at + 1)
    if seen:
        story.tracker.observe(RequestAnswered(START + at + 3, 60))
    story.poll(at + 4, model("a", at + 304))
    assert [unload.reason for unload in story.unloads[before:]] == [reason]


# -- when requests ask for a poll ------------------------------------------------------------------


def test_a_request_that_waits_as_long_as_for_a_load_asks_for_a_poll_once() -> None:
    story = Story()
    story.poll(0, model("a", 100))
    story.request(1, "a", 1.0)
    story.request(2, "a", 1.5)
    story.request(3, "b", 1.6)  # not listed: that it waits is known
    assert story.tracker.poll_wanted_at == START + 2.0
    story.poll(2.05, model("a", 100))
    assert story.tracker.poll_wanted_at == START + 2.5
    story.tracker.observe(RequestAnswered(START + 2.1, 2))
    assert story.tracker.poll_wanted_at is None


def test_a_crash_whose_reload_a_request_waits_for_is_seen() -> None:
    story = Story()
    story.poll(0, model("a", 100))
    story.request(1, "a", 1, answered=2, ended=3, failure=Failure.CRASHED)
    story.poll(3.05, model("a", 303))
    story.request(2, "a", 10)
    assert story.tracker.poll_wanted_at == START + 11
    story.poll(11.05)
    story.tracker.observe(RequestAnswered(START + 12.5, 2))
    story.poll(12.55, model("a", 312.55))
    assert [unload.reason for unload in story.said if isinstance(unload, Unloaded)] == [
        Reason.CRASHED
    ]
