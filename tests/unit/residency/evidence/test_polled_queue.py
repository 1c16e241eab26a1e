# SPDX-License-Identifier: Apache-2.0
"""Which busy model the scheduler told to leave, where only polls show that it left."""

import pytest

from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.facts import RequestAnswered, RequestEnded, RequestStarted
from tests.support.story import START, Story, model

A, B, D = model("a", 300), model("b", 310), model("d", 320)


def three_busy(*, idle: str = "", keep_alive: float = 0.0) -> Story:
    """Models a, b and d serve requests; that to b names this keep-alive, the others 300 s.

    All loads were seen to be asked for. `idle`: it serves none.
    """
    story = Story()
    story.poll(0)
    for number, name, listed in ((1, "a", [A]), (2, "b", [A, B]), (3, "d", [A, B, D])):
        at = 8.0 * (number - 1)
        story.tell(RequestStarted(START + at, number, f"{name}:latest"))
        story.poll(at + 3, *listed)
        story.tell(RequestAnswered(START + at + 3, number), RequestEnded(START + at + 3.1, number))
    story.poll(24, A, B, D)
    for number, name, given in ((11, "a", 300.0), (12, "b", keep_alive), (13, "d", 300.0)):
        if name != idle:
            story.request(number, name, 30, answered=30.1, keep_alive=given)
    story.poll(31, A, B, D)
    return story


def leave(story: Story, failure: Failure | None = None) -> list[tuple[str, Reason, str | None]]:
    """The request to b ends at 60, and the next poll lacks b."""
    story.poll(59, A, B, D)
    story.tell(RequestEnded(START + 60, 12, failure))
    story.poll(60.5, A, D)
    story.poll(61.5, A, D)
    return story.reasons()


def wants(story: Story, name: str, at: float, *, num_ctx: int | None = None) -> None:
    """A request waits for a load."""
    story.tell(RequestStarted(START + at, 20, f"{name}:latest", num_ctx=num_ctx))


@pytest.mark.parametrize("failure", [None, Failure.CRASHED, Failure.OUT_OF_MEMORY])
def test_what_was_told_to_leave_while_busy_was_evicted_whatever_ended_it(
    failure: Failure | None,
) -> None:
    story = three_busy()
    wants(story, "c", 40)
    assert leave(story, failure)[0] == ("b", Reason.EVICTED, "c:latest")


@pytest.mark.parametrize(("at", "idle"), [(59.9, ""), (40, "d")])
def test_what_left_anyway_or_beside_an_idle_one_was_stopped(at: float, idle: str) -> None:
    story = three_busy(idle=idle)
    wants(story, "c", at)
    assert leave(story) == [("b", Reason.STOPPED, None)]


def test_what_is_listed_long_after_its_last_request_was_not_told_to_leave_before() -> None:
    story = three_busy(keep_alive=20)
    story.tell(RequestEnded(START + 35, 11))
    story.request(22, "a", 35.5, ended=35.5, stop=True)
    story.poll(35.7, B, D)
    wants(story, "c", 40)
    story.tell(RequestEnded(START + 41.5, 12))
    for at in (42.0, 56.0, 61.0):
        story.poll(at, model("b", 61.5), D)
    for at in (62.0, 62.5):
        story.poll(at, D)
    assert ("b", Reason.EXPIRED, None) in story.reasons()


def test_a_request_that_waits_to_reload_it_does_not_keep_it() -> None:
    story = three_busy()
    wants(story, "c", 59.9)
    story.tell(RequestStarted(START + 59.95, 21, "b:latest", num_ctx=8192))
    assert leave(story) == [("b", Reason.STOPPED, None)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [(60.1, ("b", Reason.EVICTED, "c:latest")), (61.9, ("b", Reason.STOPPED, None))],
)
def test_a_request_takes_an_idle_one_at_once_and_a_later_stop_call_finds_nothing(
    wanted: float, found: tuple[str, Reason, str | None]
) -> None:
    story = three_busy(idle="b")
    story.poll(59, A, B, D)
    wants(story, "c", wanted)
    story.request(21, "b", 62, answered=62.01, ended=62.02, keep_alive=0.0, stop=True)
    story.poll(62.5, A, D)
    story.poll(63.5, A, D)
    assert story.reasons() == [found]


def test_a_stop_call_just_as_a_load_ends_and_another_request_waits_is_not_believed() -> None:
    story = three_busy(idle="b")
    story.tell(RequestStarted(START + 40, 22, "e:latest"))
    wants(story, "c", 50)
    story.poll(59, A, B, D)
    story.request(21, "b", 62, answered=62.01, ended=62.02, keep_alive=0.0, stop=True)
    story.poll(62.5, A, D, model("e", 400))
    story.poll(63.5, A, D, model("e", 400))
    assert story.reasons() == [("b", Reason.UNKNOWN, None)]


def test_the_keep_alive_counts_of_the_request_that_was_answered_last() -> None:
    """A request that waits in the queue is overtaken by those that find the model loaded."""
    story = three_busy(idle="b")
    story.tell(RequestStarted(START + 40, 12, "b:latest", keep_alive=0.0))
    story.request(14, "b", 41, answered=41.1, ended=42, keep_alive=300.0)
    story.tell(RequestAnswered(START + 45, 12))
    assert leave(story) == [("b", Reason.STOPPED, None)]
