# SPDX-License-Identifier: Apache-2.0
"""A connection that ends: on a direct path a restart, behind a proxy everyday life."""

import pytest

from ollama_exporter.errors import FailureReason
from ollama_exporter.residency.events import Reason, Restarted
from ollama_exporter.residency.facts import LogKind
from tests.support.story import START, Story, model


def restarts(story: Story) -> int:
    return sum(isinstance(event, Restarted) for event in story.said)


def behind_a_proxy(*, resident: bool) -> Story:
    """A story in which every poll opens a connection."""
    story = Story()
    models = [model("z", 9000)] if resident else []
    for number in range(8):
        story.poll(number * 15 - 200, *models, new_connection=True)
    return story


def test_closed_connections_to_an_idle_server_are_no_restarts() -> None:
    story = behind_a_proxy(resident=False)
    assert restarts(story) == 0
    assert story.tracker.view().reconnects


@pytest.mark.parametrize("resident", [False, True])
def test_an_expiry_is_one_whatever_the_connection_does(*, resident: bool) -> None:
    story = behind_a_proxy(resident=resident)
    kept = [model("z", 9000)] if resident else []
    story.poll(0, *kept, model("a", 7), new_connection=True)
    story.poll(6.4, *kept, model("a", 7), new_connection=True)
    story.poll(7.8, *kept, new_connection=True)
    story.poll(15, *kept, new_connection=True)
    assert story.reasons() == [("a", Reason.EXPIRED, None)]
    assert restarts(story) == 0


def test_the_very_first_expiry_behind_a_proxy_is_one() -> None:
    story = Story()
    story.poll(0, new_connection=True)
    story.poll(1, model("a", 8), new_connection=True)
    story.poll(7.4, model("a", 8), new_connection=True)
    story.poll(8.8, new_connection=True)
    story.poll(16, new_connection=True)
    assert story.reasons() == [("a", Reason.EXPIRED, None)]
    assert restarts(story) == 0


def test_an_eviction_behind_a_proxy_is_one() -> None:
    story = behind_a_proxy(resident=False)
    story.poll(0, model("a", 900), new_connection=True)
    story.poll(15, model("b", 315), new_connection=True)
    story.poll(20, model("b", 320), new_connection=True)
    assert story.reasons() == [("a", Reason.EVICTED, "b:latest")]
    assert restarts(story) == 0


def test_a_model_in_use_behind_a_proxy_goes_on() -> None:
    story = behind_a_proxy(resident=False)
    for number in range(10):
        story.poll(number * 15, model("a", number * 15 + 300), new_connection=True)
    assert story.unloads == []
    assert restarts(story) == 0


@pytest.mark.parametrize("sign", ["refused", "log", "process"])
def test_behind_a_proxy_a_restart_needs_another_sign(sign: str) -> None:
    story = behind_a_proxy(resident=False)
    if sign == "process":
        story.server(-1, 9, born=-500)
    story.poll(0, model("a", 900), new_connection=True)
    if sign == "refused":
        story.fail(14, FailureReason.REFUSED)
    elif sign == "log":
        story.log(10, LogKind.SERVER_STARTED)
    else:
        story.death(10, 9)
        story.server(11, 10, born=10.9)
    story.poll(15, new_connection=True)
    story.poll(20, new_connection=True)
    assert story.reasons() == [("a", Reason.SERVER_RESTARTED, None)]
    assert restarts(story) == 1


def test_a_reset_between_polls_is_closed_by_habit_too() -> None:
    story = behind_a_proxy(resident=True)
    story.poll(0, model("z", 9000), model("a", 900), new_connection=True)
    story.fail(14, FailureReason.RESET)
    story.poll(15, model("z", 9000), model("a", 900), new_connection=True)
    assert story.unloads == []
    assert restarts(story) == 0


def test_on_a_direct_path_an_idle_server_that_refuses_was_restarted() -> None:
    story = Story()
    story.poll(0)
    story.fail(15, FailureReason.REFUSED)
    story.poll(17, new_connection=True)
    assert [event for event in story.said if isinstance(event, Restarted)] == [
        Restarted(START, START + 15)
    ]


@pytest.mark.parametrize("hangs", [False, True])
def test_a_network_that_fails_is_no_restart_of_an_idle_server(*, hangs: bool) -> None:
    """A laptop wakes before its network does; a name server has a hiccup."""
    story = Story()
    story.poll(0)
    if hangs:
        story.fail(15, FailureReason.TIMEOUT)
    for moment in (26, 28, 32):
        story.fail(moment, FailureReason.UNREACHABLE)
    story.poll(40, new_connection=True)
    story.poll(55)
    assert restarts(story) == 0


@pytest.mark.parametrize("hangs", [False, True])
def test_of_a_host_that_cannot_be_found_deadlines_tell_whether_it_was_restarted(
    *, hangs: bool
) -> None:
    """The name of a container is not known while it is restarted: its connection ends at once."""
    story = Story()
    story.poll(0, model("a", 300), model("b", 310))
    if hangs:
        story.fail(15, FailureReason.TIMEOUT)
    story.fail(26, FailureReason.UNREACHABLE)
    story.poll(28, new_connection=True)
    story.poll(29)
    story.poll(200)
    assert restarts(story) == (not hangs)


def test_on_a_direct_path_a_connection_that_ends_with_every_deadline_is_a_restart() -> None:
    story = Story()
    story.poll(0, model("a", 300), model("b", 310))
    story.poll(15, new_connection=True)
    assert story.unloads == []  # one listing may come from another server
    assert story.tracker.poll_wanted_at == START + 16
    story.poll(16)
    assert {reason for _, reason, _ in story.reasons()} == {Reason.SERVER_RESTARTED}
    assert restarts(story) == 1


def test_nginx_that_closes_every_hundredth_connection_is_no_restart_while_deadlines_stay() -> None:
    story = Story()
    for number in range(400):
        story.poll(number * 15, model("a", 99_999), new_connection=number % 100 == 0)
    assert restarts(story) == 0
    assert story.unloads == []
