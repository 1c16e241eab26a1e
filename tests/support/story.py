# SPDX-License-Identifier: Apache-2.0
"""A tracker, the facts it is told by hand, and what it said."""

from ollama_exporter.errors import FailureReason
from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.events import Event, ModelState, Reason, Unloaded
from ollama_exporter.residency.facts import (
    Fact,
    LogKind,
    LogSaid,
    PollFailed,
    ProcessExited,
    ProcessStarted,
    RequestAnswered,
    RequestEnded,
    RequestStarted,
    Snapshot,
    WeightsNamed,
)
from ollama_exporter.residency.tracker import Tracker

GIB = 2**30
START = 1_800_000_000.0


def model(
    name: str, expires: float, *, size: int = 5, context: int = 4096, digest: str = ""
) -> RunningModel:
    """An entry that expires so many seconds after the start."""
    return RunningModel(
        f"{name}:latest",
        digest or name * 8,
        START + expires,
        size * GIB,
        size * GIB,
        context,
    )


class Story:
    """A tracker and what it said; moments are seconds after the start."""

    def __init__(self, *, window: float = 60.0) -> None:
        self.tracker = Tracker(window=window)
        self.said: list[Event] = []

    def poll(self, at: float, *models: RunningModel, new_connection: bool = False) -> None:
        snapshot = Snapshot(START + at, START + at, models, new_connection=new_connection)
        self.said += self.tracker.observe(snapshot)

    def tell(self, *facts: Fact) -> None:
        for fact in facts:
            self.said += self.tracker.observe(fact)

    def server(self, at: float, pid: int, *, born: float | None = None) -> None:
        self.tell(ProcessStarted(START + at, START + (at if born is None else born), pid, None))

    def birth(self, at: float, pid: int, name: str, *, noticed: float | None = None) -> None:
        """A runner is born with the weights of that name."""
        seen = at + 0.2 if noticed is None else noticed
        self.tell(ProcessStarted(START + seen, START + at, pid, f"sha256-{name}"))

    def death(self, at: float, pid: int, *, alive: float | None = None) -> None:
        lived = None if alive is None else START + alive
        self.tell(ProcessExited(START + at, pid, lived))

    def names(self, *names: str) -> None:
        """Each name stands for weights of the same letter."""
        self.tell(*(WeightsNamed(START, f"{name}:latest", f"sha256-{name}") for name in names))

    def log(self, at: float, kind: LogKind, name: str = "", pid: int | None = None) -> None:
        model = f"{name}:latest" if name and pid is not None else None
        weights = f"sha256-{name}" if name else None
        self.tell(LogSaid(START + at, kind, START + at, model, weights, pid))

    def state(self, name: str) -> ModelState:
        view = self.tracker.view()
        return next(state for state in view.models if state.name == f"{name}:latest")

    def fail(self, at: float, reason: FailureReason) -> None:
        self.said += self.tracker.observe(PollFailed(START + at, START + at, reason))

    def request(
        self,
        number: int,
        name: str,
        start: float,
        *,
        answered: float | None = None,
        ended: float | None = None,
        keep_alive: float | None = None,
        num_ctx: int | None = None,
        stop: bool = False,
        failure: Failure | None = None,
    ) -> None:
        self.tracker.observe(
            RequestStarted(START + start, number, f"{name}:latest", keep_alive, num_ctx, stop)
        )
        if answered is not None:
            self.tracker.observe(RequestAnswered(START + answered, number))
        if ended is not None:
            self.tracker.observe(RequestEnded(START + ended, number, failure))

    @property
    def unloads(self) -> list[Unloaded]:
        return [event for event in self.said if isinstance(event, Unloaded)]

    def reasons(self) -> list[tuple[str, Reason, str | None]]:
        return [(u.model.name.removesuffix(":latest"), u.reason, u.by) for u in self.unloads]


def renamed(name: str, weights: str, at: float) -> WeightsNamed:
    """A name is given new weights."""
    return WeightsNamed(START + at, f"{name}:latest", weights)


def done(at: float, seconds: float) -> LogSaid:
    """The line that says that a load is done."""
    return LogSaid(START + at, LogKind.LOAD_DONE, START + at, seconds=seconds)
