# SPDX-License-Identifier: Apache-2.0
"""Keep-warm decides: when to load, when to renew, and above all when not."""

import math

import pytest
from msgspec.structs import replace

from ollama_exporter.actions.keep_warm.decide import (
    CONFLICT_TIME,
    MAX_UNSEEN,
    MAX_UNSETTLED,
    MIN_PAUSE,
    RELOAD_TIME,
    Decision,
    KeepWarmPlanner,
    LoadModel,
    RenewModel,
    ResidentModel,
    Situation,
)
from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm, WarmModel
from ollama_exporter.actions.keep_warm.model_history import (
    FIRST_BACK_OFF,
    HOUR,
    MAX_BACK_OFF,
    HoldReason,
)
from ollama_exporter.actions.keep_warm.weekly_schedule import schedule
from ollama_exporter.actions.renewal_outcome import RenewalOutcome
from ollama_exporter.residency.events import Reason

A, B = WarmModel("a:latest", keep_alive=600.0), WarmModel("b:latest", keep_alive=600.0)


def keeper(*models: WarmModel, most: int = 3, grace: float = 900.0) -> KeepWarmPlanner:
    return KeepWarmPlanner(KeepWarm(models or (A,), grace=grace, most_per_hour=most))


def at(
    now: float,
    *resident: str,
    left: float = 600.0,
    loading: bool = False,
    installed: frozenset[str] | None = None,
) -> Situation:
    there = {name: ResidentModel(left) for name in resident}
    return Situation(now, now, there, loading=loading, installed=installed)


def loads(decision: Decision) -> bool:
    return bool(decision.loads)


def lose(it: KeepWarmPlanner, reason: Reason, now: float, by: str | None = None) -> None:
    it.decide(at(now - 1, "a:latest"))
    it.decide(at(now))
    it.on_unloaded("a:latest", reason, since=now, at=now, by=by, resident=())


def test_what_is_missing_is_loaded_and_what_is_there_is_left_alone() -> None:
    it = keeper()
    assert it.decide(at(0)).loads == (LoadModel(A),)
    assert it.decide(at(1, "a:latest")) == Decision()


def renewed(it: KeepWarmPlanner, now: float, outcome: RenewalOutcome, left: float) -> None:
    it.on_renewal(RenewModel(A), outcome, left=left, at=now)


def test_a_deadline_is_renewed_in_its_second_half_and_not_at_once_again() -> None:
    it = keeper()
    assert it.decide(at(0, "a:latest", left=301)).renewals == ()
    assert it.decide(at(1, "a:latest", left=299)).renewals == (RenewModel(A),)
    renewed(it, 1, RenewalOutcome.SET, 600)
    late = at(1 + MIN_PAUSE - 1, "a:latest", left=600 - MIN_PAUSE)  # the listing has caught up
    assert it.decide(late).renewals == ()


def test_a_client_that_shortens_a_keep_alive_again_is_answered_again() -> None:
    """P2: the deadline that is listed decides, not the time since the last renewal."""
    it = keeper()
    renewed(it, 0, RenewalOutcome.SET, 600)
    for now in (10, 20, 30):
        assert it.decide(at(now, "a:latest", left=20)).renewals == (RenewModel(A),)
        renewed(it, now, RenewalOutcome.SET, 600)


def test_a_model_in_use_is_looked_at_again_before_its_deadline() -> None:
    it = keeper()
    renewed(it, 0, RenewalOutcome.BUSY, 40)
    assert it.decide(at(19, "a:latest", left=21)).renewals == ()
    assert it.decide(at(20, "a:latest", left=20)).renewals == (RenewModel(A),)
    renewed(it, 20, RenewalOutcome.BUSY, -5)
    assert it.decide(at(24, "a:latest", left=-9)).renewals == ()
    # its request has ended: the deadline is another one
    assert it.decide(at(26, "a:latest", left=8)).renewals == (RenewModel(A),)


def test_what_is_known_of_a_renewal_ends_with_the_runner() -> None:
    it = keeper()
    renewed(it, 0, RenewalOutcome.BUSY, 290)
    assert it.decide(at(1, "a:latest", left=289)).renewals == ()
    lose(it, Reason.EXPIRED, 2)
    assert it.decide(at(3, "a:latest", left=287)).renewals == (RenewModel(A),)


def test_for_ever_is_never_renewed_and_is_wanted_until_it_is_there() -> None:
    pinned = WarmModel("a:latest", keep_alive=math.inf)
    it = keeper(pinned)
    assert it.decide(at(0, "a:latest", left=10_000)).renewals == (RenewModel(pinned),)
    assert it.decide(at(1, "a:latest", left=math.inf)).renewals == ()
    assert keeper().decide(at(0, "a:latest", left=math.inf)).renewals == ()


def test_outside_its_hours_a_model_is_not_touched() -> None:
    warm = WarmModel("a:latest", schedule=schedule("s", "Thu 00:00-01:00 UTC"))
    it = keeper(warm)
    assert it.decide(at(0)).loads == (LoadModel(warm),)
    assert it.decide(at(3600)) == Decision()
    assert it.decide(at(3600, "a:latest", left=1)) == Decision()


@pytest.mark.parametrize("reason", [Reason.STOPPED, Reason.UNKNOWN])
def test_a_stop_and_what_may_have_been_one_are_respected(reason: Reason) -> None:
    copy = WarmModel("copy-of-a:latest", keep_alive=600.0)  # another name of the same runner
    section = KeepWarm((A,), grace=900.0)
    it = KeepWarmPlanner(section, lambda name: name.removeprefix("copy-of-"))
    lose(it, reason, 1000)
    it.section = replace(section, models=(copy, A))
    held = it.decide(at(1001)).held
    assert held == dict.fromkeys((copy.model, A.model), HoldReason(reason.value))
    assert not loads(it.decide(at(1000 + 899)))
    assert loads(it.decide(at(1000 + 900)))


def test_whoever_loads_it_again_ends_the_grace() -> None:
    it = keeper()
    lose(it, Reason.STOPPED, 1000)
    it.decide(at(1010, "a:latest"))
    it.decide(at(1020))
    it.on_unloaded("a:latest", Reason.EXPIRED, since=1020, at=1020, by=None, resident=())
    assert loads(it.decide(at(1021)))


def test_a_loss_is_not_answered_before_its_reason_is_settled() -> None:
    it = keeper()
    it.decide(at(0, "a:latest"))
    assert it.decide(at(1)).held == {"a:latest": HoldReason.UNSETTLED}
    assert not loads(it.decide(at(900)))  # it may have been a stop: the grace time counts
    assert loads(it.decide(at(901)))
    it = keeper()
    lose(it, Reason.EXPIRED, 10)
    assert loads(it.decide(at(11)))


def test_while_a_loss_is_unsettled_no_other_model_is_loaded_but_not_for_ever() -> None:
    """Promise 8. The load would be taken for what evicted a stopped model."""
    it = keeper(A, B)
    it.decide(at(0, "a:latest"))
    it.decide(at(1))
    assert it.decide(at(MAX_UNSETTLED)).held["b:latest"] is HoldReason.UNSETTLED
    assert it.decide(at(MAX_UNSETTLED + 1)).loads == (LoadModel(B),)
    it.on_unloaded("a:latest", Reason.STOPPED, since=1, at=1, by=None, resident=())
    assert it.decide(at(2)).loads == (LoadModel(B),)


@pytest.mark.parametrize(("after", "held"), [(5.0, False), (20.0, True), (60.0, False)])
def test_who_leaves_late_in_a_load_of_ours_may_have_been_stopped(
    after: float,
    held: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Promise 8. The load, of 30 seconds, needs its room in its first seconds."""
    it = keeper(A, B)
    it.decide(at(0, "a:latest"))
    load = LoadModel(B)
    it.on_load_start(load, at=100)
    it.on_load_end(load, at=130)
    left = 100 + after
    it.on_unloaded("a:latest", Reason.EVICTED, since=left, at=left + 5, by="b:latest", resident=())
    expected = {"a:latest": HoldReason.UNKNOWN if held else HoldReason.NO_ROOM}
    assert it.decide(at(170, "b:latest")).held == expected


def test_a_model_that_was_driven_out_waits_until_the_other_is_gone() -> None:
    it = keeper()
    lose(it, Reason.EVICTED, 1000, by="c:latest")
    assert it.decide(at(1001, "c:latest")).held == {"a:latest": HoldReason.NO_ROOM}
    assert it.decide(at(1001 + CONFLICT_TIME - 2, "c:latest")).held == {
        "a:latest": HoldReason.NO_ROOM
    }
    assert it.decide(at(1010)).held == {"a:latest": HoldReason.BACKING_OFF}
    assert loads(it.decide(at(1000 + FIRST_BACK_OFF)))


def test_where_the_evictor_is_not_known_all_that_are_there_count() -> None:
    it = keeper()
    it.on_unloaded("a:latest", Reason.EVICTED, since=0, at=0, by=None, resident=("c:latest",))
    assert it.decide(at(4000, "c:latest")).held == {"a:latest": HoldReason.NO_ROOM}


def test_what_did_not_fit_is_tried_again_in_the_end() -> None:
    it = keeper()
    lose(it, Reason.EVICTED, 0, by="c:latest")
    assert loads(it.decide(at(CONFLICT_TIME, "c:latest")))


def test_two_that_do_not_fit_the_first_in_the_file_has_its_turn() -> None:
    it = keeper(A, B)
    lose(it, Reason.EVICTED, 0, by="b:latest")
    assert it.decide(at(1, "b:latest")).held == {"a:latest": HoldReason.NO_ROOM}
    it.on_unloaded(
        "b:latest", Reason.EXPIRED, since=FIRST_BACK_OFF, at=FIRST_BACK_OFF, by=None, resident=()
    )
    later = it.decide(at(FIRST_BACK_OFF))
    assert later.loads == (LoadModel(A),)
    assert later.held == {"b:latest": HoldReason.NO_ROOM}


def test_if_the_first_may_not_be_loaded_the_other_one_may() -> None:
    it = keeper(A, B)
    lose(it, Reason.EVICTED, 0, by="b:latest")
    it.on_unloaded("a:latest", Reason.STOPPED, since=10, at=10, by=None, resident=())
    decision = it.decide(at(100))
    assert decision.loads == (LoadModel(B),)
    assert decision.held == {"a:latest": HoldReason.STOPPED}


@pytest.mark.parametrize("reason", [Reason.CRASHED, Reason.OUT_OF_MEMORY])
def test_each_failure_doubles_the_wait(reason: Reason) -> None:
    it = keeper(most=100)
    now, waits = 0.0, []
    for _ in range(8):
        it.on_unloaded("a:latest", reason, since=now, at=now, by=None, resident=())
        began = now
        while not loads(it.decide(at(now))):
            now += 1.0
        waits.append(now - began)
    assert waits == [min(MAX_BACK_OFF, FIRST_BACK_OFF * 2**n) for n in range(8)]


def test_a_failed_load_backs_off_and_calm_forgets_it() -> None:
    it = keeper()
    for now in (0.0, 100.0):
        it.on_load_failed(LoadModel(A), at=now)
    assert not loads(it.decide(at(100 + 2 * FIRST_BACK_OFF - 1)))
    for hour in range(1, 5):
        it.decide(at(hour * HOUR, "a:latest"))
    it.on_unloaded("a:latest", Reason.CRASHED, since=5, at=5 * HOUR, by=None, resident=())
    assert loads(it.decide(at(5 * HOUR + FIRST_BACK_OFF)))


@pytest.mark.parametrize("reason", [Reason.OPTIONS_CHANGED, Reason.REPLACED])
def test_what_comes_back_by_itself_is_waited_for(reason: Reason) -> None:
    it = keeper()
    lose(it, reason, 0)
    assert not loads(it.decide(at(RELOAD_TIME - 1)))
    assert loads(it.decide(at(RELOAD_TIME)))


def test_a_restart_is_answered_at_once() -> None:
    it = keeper()
    lose(it, Reason.SERVER_RESTARTED, 0)
    assert loads(it.decide(at(1)))


def test_loads_have_a_bound_per_hour() -> None:
    it = keeper(most=2)
    for now in (0.0, 10.0):
        assert loads(it.decide(at(now)))
        it.on_load_start(LoadModel(A), at=now)
    assert it.decide(at(20)).held == {"a:latest": HoldReason.BOUND}
    assert loads(it.decide(at(HOUR)))


def test_nothing_is_loaded_against_another_load_or_that_is_not_installed() -> None:
    it = keeper()
    assert it.decide(at(0, loading=True)).held == {"a:latest": HoldReason.LOADING}
    assert it.decide(at(0, installed=frozenset())).held == {"a:latest": HoldReason.NOT_INSTALLED}
    assert loads(it.decide(at(0, installed=frozenset({"a:latest"}))))


def test_all_that_is_to_be_done_is_named() -> None:
    it = keeper(A, B)
    decision = it.decide(at(0, "a:latest", left=1))
    assert (decision.loads, decision.renewals) == ((LoadModel(B),), (RenewModel(A),))
    assert keeper(A, B).decide(at(0)).loads == (LoadModel(A), LoadModel(B))


def test_during_a_load_of_its_own_others_are_renewed_and_nothing_is_held() -> None:
    it = keeper(A, B)
    now = replace(at(0, "b:latest", left=1), own_load="a:latest")
    assert it.decide(now) == Decision((), (RenewModel(B),), {})
    assert keeper(A, B).decide(replace(at(0), own_load="a:latest")) == Decision()


def test_a_renewal_that_failed_is_repeated_later_but_before_the_deadline() -> None:
    it = keeper()
    it.on_renewal_failed(RenewModel(A), left=290, at=0)
    assert it.decide(at(FIRST_BACK_OFF - 1, "a:latest", left=231)).renewals == ()
    assert it.decide(at(FIRST_BACK_OFF, "a:latest", left=230)).renewals == (RenewModel(A),)
    it.on_renewal_failed(RenewModel(A), left=60, at=230)
    assert it.decide(at(259, "a:latest", left=31)).renewals == ()
    assert it.decide(at(260, "a:latest", left=30)).renewals == (RenewModel(A),)


def test_a_later_model_makes_way_for_an_earlier_one_that_it_drove_out() -> None:
    it = keeper(A, B)
    lose(it, Reason.EVICTED, 0, by="b:latest")
    decision = it.decide(at(1, "b:latest", left=100))
    assert decision == Decision(held={"a:latest": HoldReason.NO_ROOM})


def test_a_reload_has_a_reason_of_its_own_and_a_cloud_model_is_never_loaded() -> None:
    it = keeper()
    lose(it, Reason.OPTIONS_CHANGED, 0)
    assert it.decide(at(1)).held == {"a:latest": HoldReason.RELOADING}
    cloud = replace(at(100, installed=frozenset({"a:latest"})), remote=frozenset({"a:latest"}))
    assert it.decide(cloud).held == {"a:latest": HoldReason.REMOTE}


def test_a_model_evicted_as_soon_as_it_was_loaded_waits_until_its_evictor_is_gone() -> None:
    """Promise 9. A client's request had waited behind the load; no poll shows the model."""
    it = keeper(A, B)
    (load, _) = it.decide(at(0)).loads
    it.on_load_start(load, at=0)
    it.on_load_vanished(load, at=30, resident=())
    unseen = it.decide(at(31))
    assert not loads(unseen)
    assert unseen.held == {"a:latest": HoldReason.UNSETTLED, "b:latest": HoldReason.LOADING}
    assert it.decide(at(60, "c:latest")).held["a:latest"] is HoldReason.NO_ROOM
    assert it.decide(at(2000, "c:latest")).held == {"a:latest": HoldReason.NO_ROOM}
    assert loads(it.decide(at(2100)))


def test_an_evictor_that_never_appears_is_waited_for_in_vain_but_not_for_long() -> None:
    it = keeper(A)
    (load,) = it.decide(at(0)).loads
    it.on_load_vanished(load, at=30, resident=())
    assert not loads(it.decide(at(30 + MAX_UNSEEN - 1)))
    assert loads(it.decide(at(30 + MAX_UNSEEN)))


def test_two_models_do_not_fit_whatever_the_names_of_their_weights() -> None:
    """Promise 9."""
    it = KeepWarmPlanner(KeepWarm((A,)), lambda name: name.removeprefix("copy-of-"))
    lose(it, Reason.EVICTED, 10, by="b:latest")
    assert it.decide(at(5000, "copy-of-b:latest")).held == {"a:latest": HoldReason.NO_ROOM}


def test_a_stop_counts_although_the_model_was_not_in_the_section_then() -> None:
    """Promise 8. A reload of the configuration adds it before the reason is settled."""
    it = keeper(B)
    it.record_residence(at(0, "a:latest", "b:latest"))
    it.record_residence(at(10, "b:latest"))
    it.section = KeepWarm((A, B))
    assert it.decide(at(11, "b:latest")).held == {"a:latest": HoldReason.UNSETTLED}
