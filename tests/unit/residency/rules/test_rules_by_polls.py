# SPDX-License-Identifier: Apache-2.0
"""What the polls settle together with a log: see docs/unload-reasons.md."""

import pytest

from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.facts import LogKind
from ollama_exporter.residency.poll_unloads import PollUnloads
from ollama_exporter.residency.tolerances import Tolerances
from ollama_exporter.residency.unload import PendingUnloads
from tests.support.story import Story, model


def evicted_by_the_log() -> Story:
    """Polls list a; then the debug log says that it leaves to make room, and that b is loaded."""
    story = Story()
    story.poll(0, model("a", 300))
    story.poll(10, model("a", 300))
    for at, kind in (
        (10.5, LogKind.EVICTING),
        (10.6, LogKind.EXPIRING),
        (10.7, LogKind.KILLED),
        (10.8, LogKind.REMOVED),
    ):
        story.log(at, kind, "a", 1)
    story.log(10.9, LogKind.LOAD_STARTED, "b")
    return story


def test_a_sure_eviction_waits_for_the_name_of_what_took_the_room() -> None:
    story = evicted_by_the_log()
    story.poll(12)
    assert story.reasons() == []
    story.poll(14, model("b", 310))
    story.poll(16, model("b", 310))
    assert story.reasons() == [("a", Reason.EVICTED, "b:latest")]


def test_a_line_that_names_the_new_model_settles_it_before_a_listing_does() -> None:
    story = evicted_by_the_log()
    story.poll(12)
    story.log(12.5, LogKind.SET_UP, "b", 2)
    assert story.reasons() == [("a", Reason.EVICTED, "b:latest")]


def test_a_connection_that_is_lost_does_not_hide_what_took_the_room() -> None:
    story = evicted_by_the_log()
    story.poll(12, new_connection=True)
    story.poll(13)
    assert story.reasons() == []
    story.log(13.5, LogKind.SET_UP, "b", 2)
    assert story.reasons() == [("a", Reason.EVICTED, "b:latest")]


@pytest.mark.parametrize("late", [False, True], ids=["read before the poll", "read after it"])
def test_what_a_new_server_loads_took_no_room(*, late: bool) -> None:
    story = evicted_by_the_log()
    if late:
        story.poll(12, new_connection=True)
    story.log(11.5, LogKind.SERVER_STARTED)
    story.log(11.6, LogKind.LOAD_STARTED, "c")
    story.log(11.7, LogKind.SET_UP, "c", 3)
    if not late:
        story.poll(12, new_connection=True)
    assert story.reasons() == [("a", Reason.EVICTED, None)]


def test_an_eviction_for_a_load_that_fails_is_settled_without_a_name() -> None:
    story = evicted_by_the_log()
    story.poll(12)
    story.poll(73)
    assert story.reasons() == [("a", Reason.EVICTED, None)]


@pytest.mark.parametrize(
    ("version", "swift"),
    [("0.24.0", True), ("0.33.0-rc2", False), ("1.0.0", False), ("0.0.0", False), ("dev", False)],
)
def test_the_version_tells_whether_a_model_is_listed_while_it_loads(
    version: str, *, swift: bool
) -> None:
    unloads = PollUnloads(PendingUnloads(), Tolerances())
    unloads.on_version(version)
    assert unloads.swift is swift
