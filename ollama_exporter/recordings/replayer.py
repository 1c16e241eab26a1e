# SPDX-License-Identifier: Apache-2.0
"""Replays a recording through the schedule and the tracker that a live server gets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from msgspec.structs import replace

from ollama_exporter.endpoint.connection_ends import LOST
from ollama_exporter.errors import FailureReason
from ollama_exporter.poller.poll_schedule import Cadence, next_poll, window_for
from ollama_exporter.recordings.format import Poll, Recording, moment_of
from ollama_exporter.residency.events import Event
from ollama_exporter.residency.facts import LogSaid, PollFailed
from ollama_exporter.residency.tracker import Tracker


@dataclass(frozen=True, slots=True)
class PollUsed:
    """A recorded poll that the schedule used; `t` as recorded."""

    t: float


def replay(
    recording: Recording,
    cadence: Cadence,
    *,
    requests: bool = True,
    processes: bool = True,
    log: Sequence[LogSaid] = (),
    jittered: bool = False,
) -> Iterator[Event | PollUsed]:
    """Replay a recording, optionally together with a server's log.

    Whenever the schedule wants a poll, the next recorded poll is used; the others are skipped.
    `jittered`: the recorder polled at this schedule, so that the due poll may have come early.
    """
    tracker = Tracker(window=window_for(cadence.interval), tolerances=cadence.tolerances)
    kinds = (
        recording.requests if requests else (),
        recording.processes if processes else (),
        recording.versions,
        recording.log,
        log,
    )
    facts = sorted((fact for kind in kinds for fact in kind), key=moment_of)
    given, failures, last, skipped = 0, 0, 0.0, SkippedPolls()

    def due_and_earliest() -> tuple[float, float]:
        view = tracker.view()
        exact = next_poll(cadence, view, last_started=last, failures=failures)
        if not jittered:
            return exact, exact
        return exact, next_poll(cadence, view, last_started=last, failures=failures, jitter=1.0)

    due = earliest = recording.polls[0].started
    for poll, following in pairwise((*recording.polls, None)):
        assert poll is not None  # noqa: S101 - only the last one has nothing behind it
        # A fact can bring the next poll forward, so the schedule is consulted after each fact.
        while given < len(facts) and moment_of(facts[given]) <= min(due, poll.started):
            yield from tracker.observe(facts[given])
            given += 1
            if last:
                due, earliest = due_and_earliest()
        # The recorder draws jitter, so the due poll may have come a little early. Where polls are
        # dense, a later one is nearer to the moment.
        follows_soon = following is not None and following.started <= 2 * due - earliest
        if poll.started < (due if follows_soon else earliest):
            skipped.add(poll)
            continue
        while given < len(facts) and moment_of(facts[given]) <= poll.ended:
            yield from tracker.observe(facts[given])
            given += 1
        yield PollUsed(poll.started)
        yield from tracker.observe(skipped.apply_to(poll))
        failures = failures + 1 if isinstance(poll, PollFailed) else 0
        last, skipped = poll.started, SkippedPolls()
        due, earliest = due_and_earliest()
    yield from tracker.finish(recording.polls[-1].ended)


@dataclass(slots=True)
class SkippedPolls:
    """What the skipped polls showed of the connection, which the used polls share."""

    lost: bool = False
    closed: bool = False  # the recorder closed it when it gave up on an answer

    def add(self, poll: Poll) -> None:
        """Add a skipped poll."""
        if isinstance(poll, PollFailed):
            self.lost |= poll.reason in LOST
            self.closed |= poll.reason not in LOST
        else:
            self.lost |= poll.new_connection and not self.closed
            self.closed = False

    def apply_to(self, poll: Poll) -> Poll:
        """Return the poll that is used next as it would look without the skipped ones."""
        if isinstance(poll, PollFailed):
            is_lost = self.lost and poll.reason is not FailureReason.UNREACHABLE
            return replace(poll, reason=FailureReason.REFUSED) if is_lost else poll
        return replace(poll, new_connection=self.lost or (poll.new_connection and not self.closed))
