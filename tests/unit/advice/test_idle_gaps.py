# SPDX-License-Identifier: Apache-2.0
"""Idle gaps from polls and from requests: each once, as far as they can be known."""

import math
import random
from typing import Final

import pytest

from ollama_exporter.advice.idle_gaps import MOST_MODELS, IdleGapDetector
from ollama_exporter.advice.idle_histogram import IdleHistogram
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.facts import Snapshot
from ollama_exporter.simulator.offline_run import OfflineRun, rehearse
from ollama_exporter.simulator.script import Ask, Script
from ollama_exporter.simulator.state import Host

START: Final = 1_800_000_000.0
FAR: Final = START + 100 * 365 * 86400.0
NAME: Final = "mistral:latest"


def poll(at: float, *deadlines: float, name: str = NAME) -> Snapshot:
    """Return a poll that lists one model for each deadline, moments from the start."""
    models = tuple(RunningModel(name, "d", START + deadline, 7) for deadline in deadlines)
    return Snapshot(START + at, START + at, models)


def gaps_of(gaps: IdleGapDetector, *polls: Snapshot) -> list[float]:
    return [round(gap, 3) for each in polls for _, gap in gaps.on_poll(each)]


def test_two_deadlines_tell_the_time_between_two_ends_whatever_the_keep_alive() -> None:
    found = gaps_of(IdleGapDetector(), poll(0, 250), poll(15, 250), poll(30, 325), poll(90, 385))
    assert found == [75.0, 60.0]


def test_a_load_ends_a_gap_and_its_first_request_is_no_second_one() -> None:
    gaps = IdleGapDetector(blind=1000)
    assert gaps_of(gaps, poll(0), poll(15, 310), poll(30, 310)) == []  # ended at 10
    assert gaps_of(gaps, poll(300, 310), poll(315)) == []
    loaded = gaps_of(gaps, poll(400), poll(410, 710), poll(420, 720))  # slides: still running
    assert loaded == [395.0]
    assert gaps_of(gaps, poll(435, 725), poll(450, 725), poll(600, 880)) == [155.0]


@pytest.mark.parametrize("made_at", [0.0, 1.5, 3.0])
def test_a_slow_poll_of_a_first_request_shows_no_gap(made_at: float) -> None:
    """The listing is made at some moment within the poll, mostly at its end."""
    made = START + 20 + made_at
    slow = Snapshot(START + 20, START + 23, (RunningModel(NAME, "d", made + 300, 7),))
    polls = poll(0), poll(15), slow, poll(24, 324), poll(24.3, 324.3), poll(29, 329)
    assert gaps_of(IdleGapDetector(), *polls) == []


def test_the_keep_alive_is_the_roundest_that_the_polls_allow() -> None:
    gaps = IdleGapDetector(blind=1000)
    gaps_of(gaps, poll(0), poll(15, 607), poll(30, 607))  # written between 0 and 15: K 592..607
    assert gaps.on_request_start(NAME, START + 47) == pytest.approx(40.0)


def test_an_expired_model_was_idle_longer_than_its_keep_alive() -> None:
    gaps = IdleGapDetector(blind=1000)
    gaps_of(gaps, poll(0), poll(15, 310), poll(30, 310), poll(305, 310))
    (gap,) = gaps_of(gaps, poll(320, 620))  # gone and back between two polls
    assert gap == 310.0
    gaps_of(gaps, poll(335, 620), poll(619.5, 620))
    gaps_of(gaps, poll(619.9))
    (gap,) = gaps_of(gaps, poll(620.5, 925))
    assert gap > 300.0


def test_a_changed_keep_alive_is_no_gap() -> None:
    gaps = IdleGapDetector()
    gaps_of(gaps, poll(0), poll(15, 310), poll(30, 310))  # ended at 10, kept for 300
    assert gaps_of(gaps, poll(45, 3640)) == [30.0]  # ended at 40, kept for 3600
    assert gaps_of(gaps, poll(60, 3640), poll(75, 370)) == [30.0]  # ended at 70, 300 again


def test_a_stop_is_no_use_and_a_pinned_model_shows_none() -> None:
    gaps = IdleGapDetector()
    gaps_of(gaps, poll(0), poll(15, 310), poll(30, 310))
    assert gaps_of(gaps, poll(45, 40)) == []  # a stop set it to the moment
    assert gaps_of(gaps, poll(60)) == []
    never = math.inf
    assert gaps_of(gaps, poll(75, never)) == [57.5]  # a load
    assert gaps_of(gaps, poll(90, never), poll(105, 400), poll(120, 400)) == []


def test_the_end_of_a_request_that_unloads_its_model_is_when_it_went() -> None:
    gaps = IdleGapDetector()
    assert gaps_of(gaps, poll(0), poll(15, 15), poll(30, 30), poll(45)) == []
    assert gaps_of(gaps, poll(60), poll(75, 75)) == [30.0]  # from between 30 and 45


def test_nothing_is_concluded_across_a_time_without_polls() -> None:
    gaps = IdleGapDetector(blind=60)
    gaps_of(gaps, poll(0), poll(15, 310), poll(30, 310))
    assert gaps_of(gaps, poll(200, 450)) == []
    assert gaps_of(gaps, poll(215, 450), poll(230, 525)) == [75.0]
    gaps_of(gaps, poll(245))
    assert gaps_of(gaps, poll(400), poll(415, 700)) == []


def test_requests_that_are_seen_count_alone() -> None:
    gaps = IdleGapDetector()
    gaps_of(gaps, poll(0))
    assert gaps.on_request_start(NAME, START + 1) is None
    gaps.on_request_end(NAME, START + 10, used=True)
    assert gaps_of(gaps, poll(15, 310), poll(30, 310)) == []
    assert gaps.on_request_start(NAME, START + 50) == 40.0
    assert gaps.on_request_start(NAME, START + 51) is None  # not idle
    gaps.on_request_end(NAME, START + 52, used=True)
    gaps.on_request_end(NAME, START + 61, used=True)
    assert gaps_of(gaps, poll(66, 361), poll(81, 361)) == []  # written 5 s late or not
    assert gaps_of(gaps, poll(96, 391)) == [pytest.approx(30.0, abs=1)]  # that one was not seen
    assert gaps.on_request_start(NAME, START + 100) == pytest.approx(9.0, abs=1)


def test_a_request_that_no_runner_served_is_no_use() -> None:
    gaps = IdleGapDetector()
    gaps.on_request_start(NAME, START)
    gaps.on_request_end(NAME, START + 5, used=True)
    assert gaps.on_request_start(NAME, START + 10) == 5.0
    gaps.on_request_end(NAME, START + 11, used=False)
    assert gaps.on_request_start(NAME, START + 20) == 15.0


def test_our_own_renewal_is_no_use() -> None:
    gaps = IdleGapDetector()
    gaps_of(gaps, poll(0), poll(15, 310), poll(30, 310))  # ended at 10
    gaps.on_own_use(NAME, START + 40)
    assert gaps_of(gaps, poll(45, 340), poll(60, 340)) == []
    assert gaps.on_request_start(NAME, START + 70) == pytest.approx(60.0, abs=1)


def test_names_are_forgotten_beyond_the_limit() -> None:
    gaps = IdleGapDetector()
    for number in range(MOST_MODELS + 1):
        gaps.on_request_start(f"m{number}", START)
        gaps.on_request_end(f"m{number}", START + 1, used=True)
    assert gaps.on_request_start("m0", START + 10) is None
    assert gaps.on_request_start(f"m{MOST_MODELS}", START + 10) == 9.0


def rehearsal(keep_alive: float, *, dt: float, hours: int = 48) -> OfflineRun:
    """Use a model in sessions, and look every dt seconds."""
    rng = random.Random(3)  # noqa: S311 - a reproducible workload, no secret
    steps, at, duration = [], 20.0, hours * 3600.0
    while at < duration:
        steps.append(Ask(at, "mistral", rng.randint(40, 300)))
        goes_on = rng.random() < 0.85
        at += rng.lognormvariate(math.log(75), 1) if goes_on else rng.expovariate(1 / 3600)
    script = Script("sessions", tuple(steps), duration, Host(keep_alive=keep_alive))
    return rehearse(script, start=START, polls=[dt * n for n in range(1, int(duration / dt))])


@pytest.mark.parametrize(("keep_alive", "dt"), [(300.0, 15.0), (300.0, 60.0), (7200.0, 15.0)])
def test_what_polls_tell_of_days_of_use_is_close_to_the_truth(keep_alive: float, dt: float) -> None:
    played = rehearsal(keep_alive, dt=dt)
    true, ended = [], math.inf
    for answer in sorted(played.answers, key=lambda each: each.arrived):
        if answer.arrived > ended:
            true.append(answer.arrived - ended)
        ended = answer.ended if math.isinf(ended) else max(ended, answer.ended)
    gaps, found = IdleGapDetector(), []
    for seen in played.polls:
        models = tuple(
            RunningModel(m.name, m.digest, m.expires_at if m.expires_at < FAR else math.inf, m.size)
            for m in seen.models or ()
        )
        found += [gap for _, gap in gaps.on_poll(Snapshot(seen.at, seen.at, models))]
    told, real = IdleHistogram.of(found), IdleHistogram.of(true)
    assert told.samples > 100
    assert sum(told.counts[5:]) == pytest.approx(sum(real.counts[5:]), rel=0.05)  # above 5 minutes
    assert told.total == pytest.approx(real.total, rel=0.03)


def test_work_at_the_slots_is_a_use_without_a_proxy() -> None:
    gaps = IdleGapDetector()
    assert gaps.on_slots_busy("m", 100) is None
    gaps.on_slots_idle("m", 110)
    assert gaps.on_slots_busy("m", 170) == 60


def test_work_that_a_request_showed_already_counts_once() -> None:
    gaps = IdleGapDetector()
    gaps.on_request_start("m", 100)
    assert gaps.on_slots_busy("m", 102) is None
    gaps.on_request_end("m", 110, used=True)
    gaps.on_slots_idle("m", 112)  # later, and less exact
    assert gaps.on_request_start("m", 150) == 40


def test_a_request_while_the_slots_work_begins_no_gap() -> None:
    gaps = IdleGapDetector()
    gaps.on_slots_busy("m", 100)
    assert gaps.on_request_start("m", 105) is None
    gaps.on_slots_idle("m", 107)
    gaps.on_request_end("m", 109, used=True)
    assert gaps.on_slots_busy("m", 119) == 10


def test_work_between_two_looks_is_a_use_and_one_that_is_known_already_counts_once() -> None:
    gaps = IdleGapDetector()
    assert gaps.on_slots_used("m", after=100, before=104) is None
    assert gaps.on_slots_used("m", after=160, before=164) == 60
    assert gaps.on_request_start("m", 201) == 39
    gaps.on_request_end("m", 203, used=True)
    assert gaps.on_slots_used("m", after=200, before=204) is None  # that request
    assert gaps.on_request_start("m", 213) == 10
    assert gaps.on_slots_used("m", after=212, before=216) is None  # it still runs
