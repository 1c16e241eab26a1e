# SPDX-License-Identifier: Apache-2.0
"""Narrators and feeds of a server that a test makes up, on the test's own clock."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec.structs import replace

from ollama_exporter.host.runner.slot_usage import RunnerSight
from ollama_exporter.poller.published import Published, ServerState
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.events import Evidence, ModelState, Reason, Unloaded, View
from ollama_exporter.story.history import History
from ollama_exporter.story.narrator import Known, LiveAdvised, Narrator, WaitingRequest
from ollama_exporter.web.page.live_feed import TICK, LiveFeed
from tests.support.timelines import GivenTimeline

UP = ServerState(up=True, version="0.33.0", polls=1)
NOBODY = View((), 0, (), None, 0.0)
GB = 10**9


def resident(
    name: str, since: float, *, deadline: float = 1300.0, keep_alive: float | None = 300.0
) -> ModelState:
    """Return a model that is in memory."""
    model = RunningModel(name, f"digest of {name}", deadline, 4 * GB, 4 * GB, 4096)
    return ModelState(
        name, (model,), since=since, keep_alive=keep_alive, last_use=None, deadline=deadline
    )


def listing(*states: ModelState, up: bool = True) -> Published:
    """Return what a poll showed."""
    return Published(replace(UP, up=up), replace(NOBODY, models=states))


def unloaded(
    name: str,
    *,
    since: float,
    at: float,
    reason: Reason = Reason.EXPIRED,
    by: str | None = None,
) -> Unloaded:
    """Return the end of a stay."""
    model = RunningModel(name, f"digest of {name}", at, 4 * GB, 4 * GB, 4096)
    evidence = (Evidence.DEADLINE_BETWEEN_POLLS,)
    return Unloaded(model, reason, evidence, at - 1.0, at, at + 2.0, since, by=by, early=0.0)


@dataclass(slots=True)
class MadeUp:
    """A server that says what a test wants."""

    published: Published = field(default_factory=listing)
    requests: dict[str, int] = field(default_factory=dict)
    waiting: list[WaitingRequest] = field(default_factory=list)
    runners: list[RunnerSight] = field(default_factory=list)
    advice: list[LiveAdvised] = field(default_factory=list)
    history: History = field(default_factory=History)
    timeline: GivenTimeline = field(default_factory=GivenTimeline)
    asked: int = 0  # how often its status was computed

    def narrator(self) -> Narrator:
        """Return who tells about it."""

        def advised() -> Iterable[LiveAdvised]:
            return self.advice

        def published() -> Published:
            self.asked += 1
            return self.published

        known = Known(
            url="http://user:secret@127.0.0.1:11434",
            published=published,
            weights=lambda digest: digest,
            keep_alive=lambda _name: None,
            in_flight=lambda name: self.requests.get(name, 0),
            waiting=lambda: self.waiting,
            runners=lambda: self.runners,
            advice=advised,
            sources=tuple,
            label=str,
        )
        return Narrator(known, self.history)

    def feed(self, *, tick: float = TICK) -> LiveFeed:
        """Return the feed of its page."""
        return LiveFeed(self.narrator(), self.history, self.timeline, Reporter(), tick=tick)
