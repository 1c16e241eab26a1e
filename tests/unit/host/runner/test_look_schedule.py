# SPDX-License-Identifier: Apache-2.0
from ollama_exporter.host.runner.look_schedule import LookSchedule, LookTimes


def test_a_runner_that_works_or_worked_lately_is_looked_at_more_often() -> None:
    schedule = LookSchedule(LookTimes())
    gaps = []
    for at, used in ((100, False), (105, True), (107, False), (224, False), (226, False)):
        schedule.answered(at, used=used)
        gaps.append(schedule.next_look - at)
    assert gaps == [5, 2, 2, 2, 5]


def test_a_runner_that_does_not_answer_is_asked_more_and_more_rarely() -> None:
    schedule, gaps = LookSchedule(LookTimes()), []
    for _ in range(10):
        schedule.was_late(0)
        gaps.append(schedule.next_look)
    assert gaps == [5, 5, 5, 10, 20, 40, 60, 60, 60, 60]
    schedule.answered(0, used=False)
    assert schedule.next_look == 5


def test_counters_are_asked_for_when_they_may_have_moved() -> None:
    schedule = LookSchedule(LookTimes())
    assert schedule.wants_counters(0, worked=False)
    assert not schedule.wants_counters(5, worked=False)
    assert schedule.wants_counters(10, worked=True)
    assert not schedule.wants_counters(20, worked=False)
    assert schedule.wants_counters(25, worked=False)
