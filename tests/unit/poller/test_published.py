# SPDX-License-Identifier: Apache-2.0
"""What is published is one moment, for each scrape as well."""

from collections.abc import Iterator

from msgspec.structs import replace

from ollama_exporter.errors import FailureReason
from ollama_exporter.metrics.collectors.exporter_collector import ExporterCollector, LogCounter
from ollama_exporter.metrics.registry import Instruments, build
from ollama_exporter.metrics.rendering import Renderer
from ollama_exporter.poller.published import Published, ServerState
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.facts import PollFailed, Snapshot
from ollama_exporter.residency.tracker import Tracker
from tests.support.exporting import parsed
from tests.support.metering import NOTHING
from tests.support.timelines import GivenTimeline
from tests.support.whole_scrape import render

MODEL = RunningModel("a:latest", "d", 900.0, 7, 7, 4096)
LOADED = "ollama_model_loaded", "model=a:latest"


def test_a_scrape_shows_one_moment_though_the_server_goes_down_meanwhile() -> None:
    tracker = Tracker(window=60.0)
    tracker.observe(Snapshot(1.0, 1.1, (MODEL,)))
    up = Published(ServerState(up=True), tracker.view())
    down = replace(up, server=replace(up.server, up=False))

    def alternating() -> Iterator[Published]:
        while True:
            yield from (up, down)

    moments = alternating()
    timeline = GivenTimeline()
    instruments = Instruments.new(timeline, ExporterCollector(log_lines=LogCounter()))
    registry = build(instruments, timeline, lambda: next(moments), runtime=False)
    for expected in (1.0, 0.0) * 3:
        samples = parsed(render(registry, Renderer())[1].decode())
        assert samples["ollama_up", ""] == expected
        assert samples.get(LOADED, 0.0) == expected


def test_a_failed_poll_keeps_what_the_last_answered_one_showed() -> None:
    answered = ServerState().after(Snapshot(1.0, 1.5, ()), at=101.5)
    failed = answered.after(PollFailed(2.0, 4.0, FailureReason.TIMEOUT), at=104.0)
    assert (answered.up, answered.last_success, answered.last_duration) == (True, 101.5, 0.5)
    assert (failed.up, failed.last_success, failed.last_duration) == (False, 101.5, 2.0)
    assert failed.failures == {FailureReason.TIMEOUT: 1}
    assert (failed.polls, answered.failures) == (2, {})


def test_nothing_is_listed_before_the_first_answer_or_in_an_outage() -> None:
    seen = replace(NOTHING, last_seen=1.0)
    assert Published(ServerState(up=True), seen).is_listed
    assert not Published(ServerState(up=True), NOTHING).is_listed
    assert not Published(ServerState(), seen).is_listed
