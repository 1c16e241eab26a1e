# SPDX-License-Identifier: Apache-2.0
"""What births and deaths of processes settle, rule by rule: see docs/unload-reasons.md."""

from dataclasses import replace

import pytest

from ollama_exporter.poller.poll_schedule import Cadence, next_poll
from ollama_exporter.residency.events import Evidence, Loaded, Measured, Reason, Restarted, Source
from ollama_exporter.residency.facts import (
    LogKind,
    ProcessesScanned,
    ProcessesSeen,
    ProcessStarted,
    Snapshot,
)
from tests.support.story import START, Story, done, model, renamed


def two_loaded() -> Story:
    """Models a and b, whose runners 1 and 2 live; server 9."""
    story = Story()
    story.names("a", "b", "c")
    story.server(0, 9, born=-100)
    story.birth(-50, 1, "a", noticed=0)
    story.birth(-40, 2, "b", noticed=0)
    story.poll(0, model("a", 300), model("b", 310))
    return story


def test_a_death_at_the_deadline_is_an_expiry_and_known_to_the_moment() -> None:
    story = two_loaded()
    story.death(300.01, 1)
    story.poll(300.1, model("b", 310))
    assert story.reasons() == [("a", Reason.EXPIRED, None)]
    unload = story.unloads[0]
    assert unload.not_after == START + 300.01
    assert unload.not_after - unload.not_before <= 0.02


def test_a_request_tells_a_deadline_that_no_poll_has_shown() -> None:
    story = two_loaded()
    story.request(1, "a", 100, answered=100.1, ended=100.5, keep_alive=3)
    story.death(103.51, 1)
    story.poll(103.6, model("b", 310))
    assert story.reasons() == [("a", Reason.EXPIRED, None)]


@pytest.mark.parametrize("gap", [0.01, 0.16])
def test_a_birth_at_once_names_the_evictor_where_nothing_is_waited_for(gap: float) -> None:
    story = two_loaded()
    for number, at in enumerate((100.0, 110.0, 120.0, 130.0)):
        story.death(at, 1 if number == 0 else 2 + number)
        story.birth(at + gap, 3 + number, "ca"[number % 2])
        story.poll(at + 0.3, model("b", 310))
        story.poll(at + 3, model("ca"[number % 2], at + 303), model("b", 310))
    assert story.reasons() == [
        (gone, Reason.EVICTED, f"{came}:latest") for gone, came in ("ac", "ca", "ac", "ca")
    ]


def test_on_a_cpu_a_birth_five_seconds_later_is_no_successor() -> None:
    story = Story()
    story.names("a", "b")
    story.server(0, 9, born=-100)
    story.birth(-50, 1, "a", noticed=0)
    story.poll(0, replace(model("a", 300), size_vram=0))
    story.death(100, 1)
    story.poll(100.1)
    story.birth(105, 2, "b")
    story.poll(110, model("b", 410))
    assert story.reasons() == [("a", Reason.STOPPED, None)]


def test_a_birth_after_the_wait_for_memory_names_the_evictor() -> None:
    story = two_loaded()
    story.death(100, 1)
    story.poll(100.1, model("b", 310))
    assert story.reasons() == []
    story.birth(105, 3, "c")
    assert story.reasons() == [("a", Reason.EVICTED, "c:latest")]
    assert story.unloads[0].settled_at == START + 105.2


@pytest.mark.parametrize(
    ("context", "reason"), [(8192, Reason.OPTIONS_CHANGED), (4096, Reason.UNKNOWN)]
)
def test_the_same_weights_born_again_after_the_wait_show_by_their_context_why(
    context: int, reason: Reason
) -> None:
    story = two_loaded()
    story.death(100, 1)
    story.poll(100.1, model("b", 310))
    story.birth(105, 3, "a")
    story.poll(106, model("b", 310))
    assert story.reasons() == []
    story.poll(108, model("a", 400, context=context), model("b", 310))
    assert story.reasons() == [("a", reason, None)]


def test_the_same_weights_that_leave_before_they_are_listed_were_given_other_options() -> None:
    story = two_loaded()
    story.death(100, 1)
    story.poll(100.1, model("b", 310))
    story.birth(105, 3, "a")
    story.death(108, 3)
    story.poll(108.5, model("b", 310))
    assert story.reasons()[:1] == [("a", Reason.OPTIONS_CHANGED, None)]


def test_what_else_exits_during_the_wait_settles_nothing() -> None:
    story = two_loaded()
    story.death(100, 1)
    story.poll(100.1, model("b", 310))
    story.death(101.7, 2)
    story.poll(101.8)
    assert story.reasons() == []
    story.birth(105, 3, "c")
    assert story.reasons()[:1] == [("a", Reason.EVICTED, "c:latest")]


@pytest.mark.parametrize("loaded", [True, False])
def test_what_exits_as_the_room_of_another_is_taken_was_evicted_if_that_one_took_no_turn(
    *, loaded: bool
) -> None:
    """A load's end is followed by the next eviction at once; else a busy victim was waited for."""
    story = Story()
    story.names("a", "b", "c", "d")
    story.server(0, 9, born=-100)
    story.birth(-50, 1, "a", noticed=0)
    story.birth(-40, 2, "b", noticed=0)
    if loaded:
        story.birth(97, 3, "d", noticed=97.1)
    story.poll(0, model("a", 300), model("b", 310))
    story.poll(99.8, model("a", 300), model("b", 310))
    story.death(100, 1)
    newcomer = [model("d", 400)] if loaded else []
    story.poll(100.1, model("b", 310), *newcomer)
    story.birth(105, 4, "c", noticed=105.02)
    story.death(105.03, 2)
    story.poll(105.3, *newcomer)
    story.poll(111.5, *newcomer, model("c", 420))
    evicted, stopped = (Reason.EVICTED, "c:latest"), (Reason.STOPPED, None)
    assert story.reasons() == [("a", *evicted), ("b", *(stopped if loaded else evicted))]


@pytest.mark.parametrize("fits", [True, False])
def test_what_exits_as_another_is_started_made_room_for_it_unless_both_would_have_fitted(
    *, fits: bool
) -> None:
    story = two_loaded()
    story.birth(30, 3, "c", noticed=30.1)
    story.poll(33, model("b", 310), model("c", 50), *([model("a", 300)] if fits else []))
    story.death(50, 3)
    story.poll(50.1, model("a", 300), model("b", 310))
    story.birth(100, 4, "c", noticed=100.01)
    story.death(100.03, 1)
    story.poll(100.3, model("b", 310))
    story.poll(106.5, model("b", 310), model("c", 420))
    told = (Reason.STOPPED, None) if fits else (Reason.EVICTED, "c:latest")
    assert story.reasons() == [("c", Reason.EXPIRED, None), ("a", *told)]


def test_a_runner_that_was_told_to_leave_and_then_crashed_was_evicted() -> None:
    story = two_loaded()
    story.birth(95, 3, "c", noticed=95.1)
    story.poll(97.9, model("a", 297.9), model("b", 310))
    story.poll(98.1, model("a", 98.1), model("b", 310), model("c", 400))  # as that load ends
    story.death(103, 1)
    story.poll(103.5, model("a", 98.1), model("b", 310), model("c", 400))
    story.poll(103.9, model("a", 98.1), model("b", 310), model("c", 400))
    story.names("d")
    story.birth(109, 4, "d", noticed=109.1)
    story.poll(109.5, model("b", 310), model("c", 400))
    assert story.reasons() == [("a", Reason.EVICTED, "d:latest")]


def test_other_weights_of_its_own_name_replaced_it() -> None:
    story = two_loaded()
    story.death(100, 1)
    story.poll(100.1, model("b", 310))
    story.tell(renamed("a", "sha256-new", 104))
    story.tell(ProcessStarted(START + 105.2, START + 105, 3, "sha256-new"))
    assert story.reasons() == [("a", Reason.REPLACED, "a:latest")]


def test_weights_that_have_no_name_yet_are_waited_for() -> None:
    story = two_loaded()
    story.death(100, 1)
    story.poll(100.1, model("b", 310))
    story.tell(ProcessStarted(START + 105.2, START + 105, 3, "sha256-new"))
    assert story.reasons() == []
    story.tell(renamed("a", "sha256-new", 107))
    story.poll(107.5, model("b", 310))
    assert story.reasons() == [("a", Reason.REPLACED, "a:latest")]


def test_a_model_whose_weights_have_no_name_yet_does_not_load_on() -> None:
    story = two_loaded()
    story.tell(ProcessStarted(START + 97.2, START + 97, 3, "sha256-z"))
    story.poll(99.9, model("a", 300), model("b", 310))
    story.death(100, 1)  # as that load ends
    for at in (100.3, 101, 103):
        story.poll(at, model("b", 310), model("z", 400))
    story.birth(105, 4, "c", noticed=105.1)
    assert story.reasons() == [("a", Reason.EVICTED, "c:latest")]


def test_a_name_with_new_weights_that_are_not_known_yet_does_not_load_on() -> None:
    story = two_loaded()
    story.tell(ProcessStarted(START + 97.2, START + 97, 3, "sha256-new"))  # c was made anew
    story.poll(99.9, model("a", 300), model("b", 310))
    story.death(100, 1)  # as that load ends
    for at in (100.3, 101, 103):
        story.poll(at, model("b", 310), model("c", 400, digest="new"))
    story.names("d")
    story.birth(105, 4, "d", noticed=105.1)
    assert story.reasons() == [("a", Reason.EVICTED, "d:latest")]


def test_weights_that_nobody_names_evict_all_the_same() -> None:
    story = two_loaded()
    story.death(100, 1)
    story.poll(100.1, model("b", 310))
    story.tell(ProcessStarted(START + 105.2, START + 105, 3, "sha256-new"))
    story.poll(161, model("b", 310))
    assert story.reasons() == [("a", Reason.EVICTED, None)]


def test_nobody_waited_for_the_room_of_what_was_stopped() -> None:
    story = two_loaded()
    story.death(100, 1)
    for at in (100.1, 105.7, 107.5):
        story.poll(at, model("b", 310))
    assert story.reasons() == [("a", Reason.STOPPED, None)]


def test_dead_but_listed_is_a_crash_said_once_though_it_is_listed_on() -> None:
    story = two_loaded()
    story.death(100, 1)
    assert story.state("a").resident == ()
    story.poll(100.1, model("a", 300), model("b", 310))
    assert (story.state("a").runner_up, story.state("b").runner_up) == (False, True)
    assert len(story.state("a").resident) == 1
    story.poll(102, model("a", 300), model("b", 310))
    assert story.reasons() == [("a", Reason.CRASHED, None)]
    story.poll(115, model("a", 300), model("b", 310))
    story.poll(301, model("b", 310))
    story.said += story.tracker.finish(START + 400)
    assert story.reasons() == [("a", Reason.CRASHED, None)]
    assert story.state("a").resident == ()
    assert story.state("a").runner_up is None


def test_an_out_of_memory_condemns_the_others_at_once() -> None:
    story = two_loaded()
    story.death(100, 1)
    story.death(100.01, 2)
    story.poll(100.4, model("a", 300))
    for at in (102, 106, 108):
        story.poll(at)
    reasons = {name: reason for name, reason, _ in story.reasons()}
    assert reasons == {"a": Reason.OUT_OF_MEMORY, "b": Reason.OUT_OF_MEMORY}


def test_what_an_out_of_memory_drops_leaves_in_turn_whatever_is_loaded_meanwhile() -> None:
    story = two_loaded()
    story.birth(-30, 3, "c", noticed=0)
    story.poll(1, model("a", 300), model("b", 310), model("c", 320))
    story.death(100, 3)  # it makes room for d
    story.death(100.1, 1)  # and this ran out of memory
    story.poll(100.7, model("a", 300), model("b", 310))
    story.birth(105, 4, "d")
    story.death(105, 2)  # dropped with it, and removed at the end of the wait
    story.poll(105.5, model("a", 300))
    story.birth(110, 5, "a")  # it is loaded again
    for at in (112, 118, 124):
        story.poll(at, model("d", 405))
    reasons = {name: reason for name, reason, _ in story.reasons()}
    assert reasons["b"] is Reason.OUT_OF_MEMORY


def test_busy_models_that_become_due_together_show_an_out_of_memory() -> None:
    story = Story()
    story.names("a", "b", "c")
    story.server(0, 9, born=-100)
    for number, name in enumerate("abc", start=1):
        story.birth(-50 + number, number, name, noticed=0)
    for at in (0.0, 10.0, 99.7):  # all are busy since they were loaded: their deadlines slide
        story.poll(at, *(model(name, at + 300) for name in "abc"))
    story.death(100, 1)
    for at in (100.2, 102, 107):
        story.poll(at, model("b", at), model("c", at))
    assert story.reasons() == [("a", Reason.OUT_OF_MEMORY, None)]
    story.death(130, 2)
    story.poll(130.2, model("c", 130.2))
    assert story.reasons()[1] == ("b", Reason.OUT_OF_MEMORY, None)


def test_a_new_keep_alive_of_one_that_was_never_idle_is_no_end_of_a_request() -> None:
    story = two_loaded()
    story.names("d")
    story.birth(80, 4, "d")
    for at in (84.0, 84.5):
        story.poll(at, model("a", 300), model("b", 310), model("d", at))  # keep_alive 0, then 30 s
    for at in (90.0, 95.0, 99.7):
        story.poll(at, model("a", 300), model("b", 310), model("d", at + 30))
    story.death(100, 1)
    for at in (100.4, 102, 106, 112):
        story.poll(at, model("a", 300), model("b", 310), model("d", at))
    assert story.reasons() == [("a", Reason.OUT_OF_MEMORY, None)]


def test_two_that_end_together_tell_when_a_runner_ran_out_of_memory() -> None:
    story = two_loaded()
    story.birth(-30, 3, "c", noticed=0)
    story.poll(1, model("a", 300), model("b", 310), model("c", 320))
    story.death(100, 1)
    story.death(100, 2)
    story.poll(100.4, model("c", 320))
    story.death(115, 3)  # it was busy until now
    for at in (115.2, 121, 130):
        story.poll(at)
    assert story.reasons()[-1] == ("c", Reason.OUT_OF_MEMORY, None)


@pytest.mark.parametrize(("queued", "reason"), [(True, Reason.UNKNOWN), (False, Reason.STOPPED)])
def test_what_ends_as_a_load_begins_behind_a_queue_may_have_been_chosen_before(
    reason: Reason, *, queued: bool
) -> None:
    story = two_loaded()
    story.names("d", "e", "f")
    story.birth(-30, 3, "c", noticed=0)
    story.birth(-20, 4, "d", noticed=0)
    stay = [model("b", 310), model("c", 320)]
    story.poll(1, model("a", 300), *stay, model("d", 90 if queued else 80))
    story.death(90 if queued else 80, 4)  # expired
    story.birth(92, 5, "f")
    story.poll(94.5, model("a", 300), *stay)
    story.death(95, 1)  # as a load has ended: the next request found it idle
    story.poll(95.2, *stay, model("f", 395))
    story.birth(100, 6, "e", noticed=100)
    story.death(100, 2)
    for at in (100.4, 101):
        story.poll(at, model("c", 320), model("f", 395))
    story.poll(104, model("c", 320), model("f", 395), model("e", 404))
    assert {name: why for name, why, _ in story.reasons()}["b"] is reason


def test_a_busy_model_that_became_due_as_a_load_ended_makes_room_for_the_next() -> None:
    story = two_loaded()
    story.poll(99, model("a", 399), model("b", 310))  # busy since its load
    story.birth(99.2, 3, "c")
    for at in (99.5, 100.0):
        story.poll(at, model("a", at + 300), model("b", 310))
    for at in (100.5, 101, 105):
        story.poll(at, model("a", at), model("b", 310), model("c", 500))
    story.names("d")
    story.death(108, 2)  # stopped, which wakes the scheduler: there is room now
    story.poll(108.2, model("a", 108.2), model("c", 500))
    story.death(113, 1)
    story.birth(113, 4, "d", noticed=113.4)
    story.poll(113.5, model("c", 500))
    story.poll(119, model("c", 500))
    assert ("a", Reason.EVICTED, "d:latest") in story.reasons()


def test_what_was_due_while_others_were_loaded_was_not_to_make_room() -> None:
    story = two_loaded()
    story.poll(99, model("a", 399), model("b", 310))
    story.birth(99.2, 3, "c")
    for at in (99.5, 100.0):
        story.poll(at, model("a", at + 300), model("b", 310))
    for at in (100.5, 101):
        story.poll(at, model("a", at), model("b", 310), model("c", 500))
    story.names("d")
    story.birth(104, 4, "d")  # it found room beside a
    story.poll(108, model("a", 108), model("b", 310), model("c", 500), model("d", 500))
    story.death(120, 1)
    story.poll(120.2, model("b", 310), model("c", 500), model("d", 500))
    story.poll(128, model("b", 310), model("c", 500), model("d", 500))
    assert story.reasons() == [("a", Reason.STOPPED, None)]


def test_a_server_that_waits_for_memory_ends_no_two_runners_at_one_moment() -> None:
    story = two_loaded()
    story.death(100, 1)
    story.death(100.005, 2)
    story.birth(100.3, 3, "c")
    for at in (100.4, 102, 108):
        story.poll(at)
    assert {reason for _, reason, _ in story.reasons()} == {Reason.OUT_OF_MEMORY}


def test_a_successor_that_is_listed_before_its_birth_is_known_is_no_crash() -> None:
    story = two_loaded()
    story.death(100, 1)
    story.poll(100.6, model("a", 400, context=8192), model("b", 310))
    story.birth(100.05, 3, "a", noticed=101)  # the server of 0.24 lists what it loads
    story.poll(101.1, model("a", 400, context=8192), model("b", 310))
    story.poll(108, model("a", 400, context=8192), model("b", 310))
    assert [reason for _, reason, _ in story.reasons()] == [Reason.OPTIONS_CHANGED]
    assert story.state("a").pids == (3,)


def test_a_load_is_seen_before_it_is_listed_and_measured() -> None:
    story = two_loaded()
    story.birth(20, 3, "c")
    assert (story.state("c").loading_since, story.state("c").pids) == (START + 20, (3,))
    assert story.state("c").resident == ()
    for at in (20.3, 21, 22):
        story.poll(at, model("a", 300), model("b", 310))
    story.poll(22.5, model("a", 300), model("b", 310), model("c", 330))
    loaded = story.said[-1]
    assert isinstance(loaded, Loaded)
    assert (loaded.load_seconds, loaded.measured) == (2.5, Measured.PROCESS)
    assert loaded.witnessed == {Source.PROCESS}
    assert (loaded.not_before, loaded.not_after) == (START + 22, START + 22.5)
    assert story.state("c").loading_since is None
    assert story.state("c").runner_up is True


def test_a_load_that_takes_long_is_polled_for_ever_more_rarely() -> None:
    story = two_loaded()
    story.birth(20, 3, "c")
    gaps, last = [], START + 20.3
    for _ in range(12):
        story.poll(last - START, model("a", 300), model("b", 310))
        due = next_poll(Cadence(), story.tracker.view(), last_started=last, failures=0)
        gaps.append(due - last)
        last = due
    assert 0.4 <= min(gaps) < 1
    assert sorted(gaps) == gaps


def test_the_server_dies_and_all_with_it() -> None:
    story = two_loaded()
    story.death(100, 9)
    reasons = {(name, reason) for name, reason, _ in story.reasons()}
    assert reasons == {("a", Reason.SERVER_RESTARTED), ("b", Reason.SERVER_RESTARTED)}
    assert not any(isinstance(event, Restarted) for event in story.said)
    assert story.tracker.view().server_started is None
    story.death(100.4, 1)  # runners may outlive a killed server by a moment
    story.server(101.2, 10, born=100.9)
    assert [event for event in story.said if isinstance(event, Restarted)] == [
        Restarted(START + 99.99, START + 100.9)
    ]
    assert story.tracker.view().server_started == START + 100.9
    story.poll(102, new_connection=True)
    assert len(story.unloads) == 2
    assert sum(isinstance(event, Restarted) for event in story.said) == 1


def test_a_server_that_ends_in_order_kills_its_runners_first() -> None:
    story = two_loaded()
    story.death(100, 1)
    story.death(100.01, 2)
    story.death(100.05, 9)
    assert {reason for _, reason, _ in story.reasons()} == {Reason.SERVER_RESTARTED}


def test_a_restart_within_a_scan_is_one_restart() -> None:
    story = two_loaded()
    story.server(100.5, 10, born=100.2)  # the death of 9 was missed
    assert {reason for _, reason, _ in story.reasons()} == {Reason.SERVER_RESTARTED}
    story.poll(101, new_connection=True)
    assert sum(isinstance(event, Restarted) for event in story.said) == 1
    assert len(story.unloads) == 2


def test_a_lost_connection_is_no_restart_while_the_server_lives() -> None:
    story = two_loaded()
    story.poll(15, model("a", 400), model("b", 410), new_connection=True)
    assert story.unloads == []


def test_a_process_that_leaves_the_list_before_it_dies_is_unloaded_once() -> None:
    story = two_loaded()
    story.poll(100, model("b", 310))  # the newest servers remove first
    assert story.unloads == []
    story.death(101, 1)
    story.poll(101.1, model("b", 310))
    story.birth(106, 3, "c")
    assert story.reasons() == [("a", Reason.EVICTED, "c:latest")]


def test_a_model_whose_process_stays_for_ever_is_judged_by_the_polls() -> None:
    story = two_loaded()
    story.poll(100, model("b", 310))
    story.poll(106, model("b", 310))
    story.poll(107, model("b", 310), model("c", 400))
    story.said += story.tracker.finish(START + 300)
    assert [name for name, _, _ in story.reasons()] == ["a"]
    story.death(200, 1)
    story.said += story.tracker.finish(START + 400)
    assert len(story.unloads) == 1


def test_a_pid_that_is_used_again_ends_the_life_of_before() -> None:
    story = two_loaded()
    story.birth(105, 1, "c")
    story.poll(105.4, model("b", 310))
    story.said += story.tracker.finish(START + 200)
    assert [name for name, _, _ in story.reasons()] == ["a"]
    assert story.state("c").loading_since == START + 105


def test_a_death_that_was_never_born_is_nothing() -> None:
    story = two_loaded()
    story.death(50, 4711)
    story.poll(51, model("a", 300), model("b", 310))
    assert story.unloads == []


def test_names_that_are_not_known_yet_fall_back_to_polls() -> None:
    story = Story()
    story.birth(-50, 1, "a", noticed=0)
    story.birth(-40, 2, "b", noticed=0)
    story.poll(0, model("a", 300), model("b", 310))
    assert story.state("a").runner_up is None
    story.death(100, 1)
    assert story.unloads == []
    story.poll(100.1, model("b", 310))
    story.said += story.tracker.finish(START + 200)
    assert [name for name, _, _ in story.reasons()] == ["a"]


def test_what_cannot_be_seen_any_more_is_judged_by_the_polls() -> None:
    story = two_loaded()
    story.tell(ProcessesSeen(START + 50, seen=False))
    assert story.state("a").runner_up is None
    assert story.tracker.view().server_started is None
    story.poll(60, model("a", 300), model("b", 310))
    story.poll(299.9, model("a", 300), model("b", 310))
    story.poll(300.5, model("b", 310))
    assert story.reasons() == [("a", Reason.EXPIRED, None)]


def test_a_dead_one_that_is_loaded_again_out_of_sight_is_a_load() -> None:
    story = two_loaded()
    story.death(100, 1)
    story.poll(100.1, model("a", 300), model("b", 310))
    story.poll(102, model("a", 300), model("b", 310))
    story.tell(ProcessesSeen(START + 103, seen=False))
    story.poll(104, model("a", 300), model("b", 310))
    assert story.state("a").runner_up is False
    story.poll(120, model("a", 420), model("b", 310))
    assert isinstance(story.said[-1], Loaded)
    assert story.state("a").runner_up is None
    assert story.reasons() == [("a", Reason.CRASHED, None)]


def test_a_death_at_a_moment_that_only_a_scan_told_is_judged_by_the_polls() -> None:
    story = two_loaded()
    story.poll(99, model("a", 300), model("b", 310))
    story.death(100.9, 1, alive=99.9)
    assert story.tracker.view().urgent == START + 100.9
    story.poll(101, model("b", 310))
    story.birth(105, 3, "c")  # who knows whether five seconds lie between the two
    for at in (105.5, 106, 106.5, 107, 107.5, 108, 108.5):
        story.poll(at, model("b", 310))
    assert story.reasons() == []
    story.poll(109, model("b", 310), model("c", 400))
    assert story.reasons() == [("a", Reason.EVICTED, "c:latest")]


def test_dead_but_listed_is_a_crash_whenever_it_died() -> None:
    story = two_loaded()
    story.death(100.9, 1, alive=99.9)
    for at in (101, 103):
        story.poll(at, model("a", 300), model("b", 310))
    assert story.reasons() == [("a", Reason.CRASHED, None)]
    assert story.state("a").runner_up is False


def test_a_load_that_needs_two_victims_names_both() -> None:
    story = two_loaded()
    story.birth(5, 3, "c")
    for at in (5.3, 6, 7):
        story.poll(at, model("a", 300), model("b", 310))
    big = model("c", 600, size=60)
    story.poll(7.5, model("a", 300), model("b", 310), big)
    story.death(600, 3)  # its deadline
    story.poll(600.1, model("a", 900), model("b", 910))
    story.death(700, 1)
    story.poll(700.1, model("b", 910))
    story.death(705, 2)
    story.poll(705.1)
    story.birth(710, 4, "c")
    story.poll(710.3)
    story.said += story.tracker.finish(START + 900)
    early = [(name, reason, by) for name, reason, by in story.reasons() if name != "c"]
    # Beside a and b there was room for c before, so nobody can tell why a left; b made room.
    assert ("b", Reason.EVICTED, "c:latest") in early


# -- the log ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ((LogKind.TIMER_EXPIRED, LogKind.EXPIRING, LogKind.KILLED), Reason.EXPIRED),
        ((LogKind.RELOADING, LogKind.EVICTING, LogKind.EXPIRING, LogKind.KILLED),
         Reason.OPTIONS_CHANGED),
        ((LogKind.IDLE_AT_ZERO, LogKind.EXPIRING, LogKind.KILLED), Reason.STOPPED),
        ((LogKind.EXPIRING, LogKind.KILLED), Reason.STOPPED),
        ((LogKind.EVICTING, LogKind.IDLE, LogKind.TIMER_EXPIRED, LogKind.EXPIRING,
          LogKind.KILLED), Reason.EXPIRED),
    ],
)  # fmt: skip
def test_at_debug_level_the_log_decides(said: tuple[LogKind, ...], reason: Reason) -> None:
    story = two_loaded()
    story.death(100, 1)
    for kind in (*said, LogKind.REMOVED):
        story.log(100.001, kind, "a", pid=77)  # pids of another namespace
    story.poll(100.1, model("b", 310))
    assert story.reasons() == [("a", reason, None)]
    assert story.unloads[0].evidence[0].startswith("the log says that ")


def test_an_out_of_memory_drops_a_runner_of_which_the_log_had_said_nothing_yet() -> None:
    story = two_loaded()
    story.log(90, LogKind.SET_UP, "b", 2)
    story.log(95, LogKind.OUT_OF_MEMORY, "b")
    story.log(99.9, LogKind.EXPIRING, "a", 1)
    story.log(99.9, LogKind.KILLED, "a", 1)
    story.death(100, 1)
    story.log(100.02, LogKind.REMOVED, "a", 1)
    story.poll(100.5, model("b", 310))
    story.log(102, LogKind.ROOM_WANTED)
    assert story.reasons() == [("a", Reason.OUT_OF_MEMORY, None)]


def test_without_processes_the_log_decides_as_well() -> None:
    story = Story()
    story.poll(0, model("a", 300), model("b", 310))
    for kind in (LogKind.EXPIRING, LogKind.KILLED, LogKind.REMOVED):
        story.log(10, kind, "a", pid=77)
    story.poll(10.1, model("b", 310))
    assert story.reasons() == [("a", Reason.STOPPED, None)]


def test_the_default_level_tells_an_out_of_memory_and_what_fails_by_itself() -> None:
    story = two_loaded()
    story.death(100, 1)
    story.log(100.02, LogKind.OUT_OF_MEMORY, "a")
    story.poll(100.1, model("a", 300), model("b", 310))
    story.poll(102, model("b", 310))
    assert story.reasons() == [("a", Reason.OUT_OF_MEMORY, None)]
    story.death(200, 2)
    story.log(200.01, LogKind.RUNNER_DIED)
    story.poll(200.1)
    story.poll(202)
    assert story.reasons()[1] == ("b", Reason.CRASHED, None)


def test_the_default_level_tells_that_room_was_wanted() -> None:
    story = two_loaded()
    story.log(100, LogKind.ROOM_WANTED)
    story.death(100.001, 1)
    story.poll(100.1, model("b", 310))
    story.poll(102, model("b", 310))
    story.log(103.2, LogKind.LOAD_STARTED, "c")  # not after a usual wait
    story.poll(103.3, model("b", 310))
    assert story.reasons() == [("a", Reason.EVICTED, "c:latest")]


def test_the_log_s_own_figure_is_the_load_time() -> None:
    story = two_loaded()
    story.birth(20, 3, "c")
    story.log(20, LogKind.LOAD_STARTED, "c")
    story.tell(done(22.28, 2.28))
    story.poll(23, model("a", 300), model("b", 310), model("c", 330))
    loaded = story.said[-1]
    assert isinstance(loaded, Loaded)
    assert (loaded.load_seconds, loaded.measured) == (2.28, Measured.LOG)


def test_a_listing_that_contradicts_the_log_is_counted_and_believed() -> None:
    story = two_loaded()
    for kind in (LogKind.EXPIRING, LogKind.KILLED, LogKind.REMOVED):
        story.log(10, kind, "a", pid=77)
    for at in (11, 15, 30):
        story.poll(at, model("a", 300), model("b", 310))
    assert story.unloads == []
    assert story.tracker.view().contradictions == 1


def test_an_unload_and_a_load_between_two_polls_contradict_nothing() -> None:
    story = two_loaded()
    for kind in (LogKind.EXPIRING, LogKind.KILLED, LogKind.REMOVED):
        story.log(10, kind, "a", pid=77)
    story.log(10.2, LogKind.LOAD_STARTED, "a")
    story.poll(15, model("a", 315), model("b", 310))
    assert story.tracker.view().contradictions == 0


# -- what is noticed late --------------------------------------------------------------------------


def scan(story: Story, at: float, *, began: float | None = None) -> None:
    """A complete scan ends."""
    story.tell(ProcessesScanned(START + at, START + (at if began is None else began)))


def test_one_look_right_after_an_exit_is_no_crash() -> None:
    story = two_loaded()
    story.death(100, 1)
    story.poll(100.1, model("a", 300), model("b", 310))  # its removal is still to come
    assert story.reasons() == []
    assert story.tracker.poll_wanted_at == START + 100.3
    for at in (100.4, 101, 107):
        story.poll(at, model("b", 310))
    assert story.reasons() == [("a", Reason.STOPPED, None)]


def test_on_a_busy_host_a_second_look_is_later() -> None:
    story = two_loaded()
    story.tell(Snapshot(START + 99, START + 99.4, (model("a", 300), model("b", 310))))
    story.death(100, 1)
    for at in (100.1, 100.6, 100.9):
        story.poll(at, model("a", 300), model("b", 310))
    assert story.reasons() == []
    story.poll(101.4, model("a", 300), model("b", 310))
    assert story.reasons() == [("a", Reason.CRASHED, None)]


def test_a_successor_that_lives_between_two_scans_is_no_crash() -> None:
    story = two_loaded()
    scans = [ProcessesScanned(START + at + 0.01, START + at) for at in (100, 101, 106, 107, 111)]
    story.tell(scans[0])
    story.death(100, 1)
    story.tell(scans[1])
    story.poll(105.6, model("a", 400), model("b", 310))  # born at 105.1, dead at 105.9
    story.tell(scans[2])
    story.poll(106.4, model("b", 310))
    story.tell(*scans[3:])
    story.poll(112, model("b", 310))
    assert [reason for _, reason, _ in story.reasons()] == [Reason.STOPPED]


@pytest.mark.parametrize(
    "listed", [300.0, 130.0, 100.0], ids=["deadline kept", "written as its requests failed", "now"]
)
def test_a_crash_is_settled_while_scans_go_on(listed: float) -> None:
    story = two_loaded()
    if listed == 130.0:
        story.poll(98, model("a", 128), model("b", 310))  # it slides: keep_alive 30 s
        story.poll(99, model("a", 129), model("b", 310))
    story.death(100, 1)
    for tick in range(1, 13):
        at = 100 + tick / 4
        story.tell(ProcessesScanned(START + at + 0.01, START + at))
        if tick % 2:
            shown = at if listed == 100.0 else listed
            story.poll(at + 0.1, model("a", shown), model("b", 310))
    assert story.reasons() == [("a", Reason.CRASHED, None)]
    assert story.unloads[0].settled_at < START + 102


def test_a_birth_that_a_late_scan_notices_was_not_absent() -> None:
    story = two_loaded()
    scan(story, 99)
    story.death(100, 1)
    for at in (100.1, 105.7, 107.5, 109):
        story.poll(at, model("b", 310))
    assert story.reasons() == []  # no scan began late enough to miss a birth
    story.birth(105, 3, "c", noticed=109.2)
    scan(story, 109.2, began=109.1)
    assert story.reasons() == [("a", Reason.EVICTED, "c:latest")]


def test_a_complete_scan_that_began_late_enough_shows_that_nothing_was_started() -> None:
    story = two_loaded()
    scan(story, 99)
    story.death(100, 1)
    story.poll(100.1, model("b", 310))
    story.poll(105.7, model("b", 310))
    scan(story, 105.9, began=105.5)
    assert story.reasons() == []
    scan(story, 106.1, began=105.9)
    assert story.reasons() == [("a", Reason.STOPPED, None)]


def test_scans_that_end_are_not_waited_for_for_ever() -> None:
    story = two_loaded()
    scan(story, 99)
    story.death(100, 1)
    for at in (100.1, 105.7, 118):
        story.poll(at, model("b", 310))
    assert story.reasons() == [("a", Reason.STOPPED, None)]


def test_what_polls_have_ended_is_not_ended_again_by_a_name_that_comes_later() -> None:
    story = Story()
    story.server(0, 9, born=-100)
    story.birth(-50, 1, "a", noticed=0)
    story.poll(0, model("a", 300), model("b", 310))
    story.death(9.9, 1)
    story.poll(10, model("b", 310))
    story.poll(15, model("b", 310), model("c", 320))
    story.poll(16, model("b", 310), model("c", 320))
    assert story.reasons() == [("a", Reason.EVICTED, "c:latest")]
    story.names("a", "b", "c")
    story.poll(100, model("b", 310), model("c", 320), model("a", 400))  # its birth is noticed late
    story.poll(101, model("b", 310), model("c", 320), model("a", 400))
    story.birth(98, 4, "a", noticed=101.2)
    story.said += story.tracker.finish(START + 200)
    assert story.reasons() == [("a", Reason.EVICTED, "c:latest")]
    assert story.state("a").resident


def test_a_kill_that_came_late_is_an_expiry_all_the_same() -> None:
    story = two_loaded()
    story.death(301.5, 1)
    for at in (301.6, 309):
        story.poll(at, model("b", 310))
    assert story.reasons() == [("a", Reason.EXPIRED, None)]
    assert story.unloads[0].evidence == (Evidence.EXITED_AFTER_DEADLINE,)


def test_beside_a_log_that_would_have_an_out_of_memory_a_crash_is_said_by_the_next_scan() -> None:
    story = two_loaded()
    story.log(50, LogKind.LOAD_DONE, "b")
    story.death(100, 1)
    for at in (100.1, 101.5):
        story.poll(at, model("a", 300), model("b", 310))
    assert story.reasons() == [("a", Reason.CRASHED, None)]


@pytest.mark.parametrize("late", [False, True], ids=["log first", "log last"])
def test_a_logged_eviction_by_weights_without_a_name_waits_for_it(*, late: bool) -> None:
    """It may be its own name that has new weights."""
    story = two_loaded()
    story.log(50, LogKind.IDLE, "b", 2)

    def logged() -> None:
        for at, kind in (
            (99.9, LogKind.EVICTING),
            (99.95, LogKind.EXPIRING),
            (100, LogKind.KILLED),
        ):
            story.log(at, kind, "a", 1)

    if not late:
        logged()
    story.death(100, 1)
    story.poll(100.1, model("b", 310))
    if late:
        logged()
    story.log(100.1, LogKind.REMOVED, "a", 1)
    story.tell(ProcessStarted(START + 105.2, START + 105, 3, "sha256-new"))
    assert story.reasons() == []
    story.tell(renamed("a", "sha256-new", 107))
    story.poll(107.5, model("b", 310))
    assert story.reasons() == [("a", Reason.REPLACED, "a:latest")]
    assert story.unloads[0].evidence == (Evidence.LOG_EVICTED,)


def test_a_process_that_is_told_of_twice_is_one() -> None:
    story = two_loaded()
    said = len(story.said)
    story.server(5, 9, born=-100)
    story.birth(-50, 1, "a", noticed=6)
    story.poll(7, model("a", 300), model("b", 310))
    assert (len(story.said), story.state("a").pids) == (said, (1,))
