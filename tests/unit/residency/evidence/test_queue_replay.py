# SPDX-License-Identifier: Apache-2.0
"""Which busy runner the scheduler told to leave, as the order of the requests seen tells."""

import pytest

from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.facts import RequestAnswered, RequestEnded, RequestStarted
from tests.support.story import START, Story, model, renamed

A, B, D = model("a", 300), model("b", 310), model("d", 320)
FOR_C = RequestStarted(START + 40, 20, "c:latest")
OTHER_OPTIONS = RequestStarted(START + 40, 20, "b:latest", num_ctx=8192)


def three_busy(*, idle: bool = False) -> Story:
    """Runners 1, 2 and 3 of a, b and d serve requests. Only that of b has keep-alive 0.

    All loads were seen to be asked for. `idle`: that of d serves none.
    """
    story = Story()
    story.names("a", "b", "c", "d")
    story.server(0, 9, born=-100)
    story.poll(0)
    for number, name, listed in ((1, "a", [A]), (2, "b", [A, B]), (3, "d", [A, B, D])):
        at = 8.0 * (number - 1)
        story.tell(RequestStarted(START + at, number, f"{name}:latest"))
        story.birth(at + 0.1, number, name)
        story.poll(at + 3, *listed)
        story.tell(RequestAnswered(START + at + 3, number), RequestEnded(START + at + 3.1, number))
    story.poll(24, A, B, D)
    for number, name, keep_alive in ((11, "a", 300.0), (12, "b", 0.0), (13, "d", 300.0)):
        if name != "d" or not idle:
            story.request(number, name, 30, answered=30.1, keep_alive=keep_alive)
    story.poll(31, A, B, D)
    return story


def leave(story: Story, number: int, failure: Failure | None = None) -> None:
    """The request to b ends at 60, and its runner with it."""
    story.tell(RequestEnded(START + 60, number, failure))
    story.death(60.001, 2)
    story.poll(60.2, A, D)
    story.poll(61, A, D)


@pytest.mark.parametrize("failure", [None, Failure.CRASHED, Failure.OUT_OF_MEMORY])
def test_what_was_told_to_leave_while_busy_was_evicted_whatever_ended_it(
    failure: Failure | None,
) -> None:
    story = three_busy()
    story.tell(FOR_C)
    leave(story, 12, failure)
    assert story.reasons()[:1] == [("b", Reason.EVICTED, "c:latest")]


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_request_for_other_options_tells_that_very_runner_to_leave(*, made_anew: bool) -> None:
    story = three_busy()
    story.tell(OTHER_OPTIONS)
    if made_anew:  # perhaps before that request came: it waits for a load in either case
        story.tell(renamed("b", "sha256-new", 50))
    leave(story, 12)
    assert story.reasons() == [("b", Reason.OPTIONS_CHANGED, None)]


def test_what_is_wanted_only_as_it_leaves_anyway_was_stopped() -> None:
    story = three_busy()
    story.tell(RequestStarted(START + 59.9, 20, "c:latest"))
    leave(story, 12)
    assert story.reasons() == [("b", Reason.STOPPED, None)]


def test_an_idle_one_that_leaves_at_once_was_the_victim() -> None:
    story = three_busy(idle=True)
    story.tell(FOR_C)
    story.death(40.001, 3)
    story.poll(40.2, A, B)
    story.birth(45, 4, "c")
    story.tell(RequestEnded(START + 60, 12))
    story.death(60.001, 2)
    story.poll(60.2, A)
    story.poll(66, A)
    assert story.reasons() == [("d", Reason.EVICTED, "c:latest"), ("b", Reason.STOPPED, None)]


def test_if_the_client_of_the_oldest_leaves_the_next_in_line_counts() -> None:
    story = three_busy()
    story.names("e")
    story.tell(FOR_C, RequestStarted(START + 45, 21, "e:latest"), RequestEnded(START + 50, 20))
    leave(story, 12)
    assert story.reasons() == [("b", Reason.EVICTED, "e:latest")]


def test_a_later_request_that_names_a_keep_alive_lets_it_go_on() -> None:
    story = three_busy()
    story.tell(FOR_C)
    story.request(21, "b", 50, answered=50.1, keep_alive=60)
    story.tell(RequestEnded(START + 55, 21))
    leave(story, 12, Failure.CRASHED)
    assert story.reasons()[:1] == [("b", Reason.CRASHED, None)]


def test_a_long_request_to_a_model_of_a_small_context_waits_for_no_load() -> None:
    small = model("e", 330, context=2048)
    story = three_busy()
    story.names("e")
    story.tell(*(RequestEnded(START + 32, number) for number in (11, 12, 13)))
    story.request(30, "e", 33)  # nothing is streamed, so no byte comes before its end
    story.birth(33.1, 5, "e")
    story.poll(35, A, B, D, small)
    story.tell(OTHER_OPTIONS)
    story.death(40.001, 2)
    story.poll(40.2, A, D, small)
    story.birth(45, 6, "b")
    story.poll(47, A, model("b", 347, context=8192), D, small)
    assert story.reasons() == [("b", Reason.OPTIONS_CHANGED, None)]
