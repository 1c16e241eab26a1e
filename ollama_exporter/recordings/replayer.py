# SPDX-License-Identifier: Apache-2.0
"""Replay: a recording through the same schedule and the same tracker as a live server."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ollama_exporter.errors import FailureReason
from ollama_exporter.recordings.format import Poll, Recording, moment_of
from ollama_exporter.residency.events import Event
from ollama_exporter.residency.facts import LogSaid, PollFailed
from ollama_exporter.residency.poll_schedule import Cadence, next_poll
from ollama_exporter.residency.tracker import LOST, Tracker

WINDOW: Final = 60.0  # evidence for a reason is waited for at least this long, seconds
WINDOW_POLLS: Final = 3  # and at least this many base intervals


@dataclass(frozen=True, slots=True)
class PollUsed:
    """A recorded poll that the schedule asked for; `t` as recorded."""

    t: float


def replay(
    recording: Recording,
    cadence: Cadence,
    *,
    requests: bool = True,
    processes: bool = True,
    log: Sequence[LogSaid] = (),
) -> Iterator[Event | PollUsed]:
    """Run a recording through the schedule and the tracker, and a server's log beside it.

    Each moment that the schedule asks for takes the next recorded poll at or after it.
    """
    tracker = Tracker(window=max(WINDOW, WINDOW_POLLS * cadence.interval))
    kinds = (
        recording.requests if requests else (),
        recording.processes if processes else (),
        recording.log,
        log,
    )
    facts = sorted((fact for kind in kinds for fact in kind), key=moment_of)
    given, failures, last, skipped = 0, 0, 0.0, Skipped()
    due = recording.polls[0].started
    for poll in recording.polls:
        # A fact may ask for a poll sooner, so the schedule is asked again after each.
        while given < len(facts) and moment_of(facts[given]) <= min(due, poll.started):
            yield from tracker.observe(facts[given])
            given += 1
            if last:
                due = next_poll(cadence, tracker.view(), last_started=last, failures=failures)
        if poll.started < due:
            skipped.note(poll)
            continue
        while given < len(facts) and moment_of(facts[given]) <= poll.ended:
            yield from tracker.observe(facts[given])
            given += 1
        yield PollUsed(poll.started)
        yield from tracker.observe(skipped.carry(poll))
        failures = failures + 1 if isinstance(poll, PollFailed) else 0
        last, skipped = poll.started, Skipped()
        due = next_poll(cadence, tracker.view(), last_started=last, failures=failures)
    yield from tracker.finish(recording.polls[-1].ended)


@dataclass(slots=True)
class Skipped:
    """What the polls that were left out showed of the connection: ours would have shared it."""

    lost: bool = False
    closed: bool = False  # by the recorder itself, as it gave up on an answer

    def note(self, poll: Poll) -> None:
        """Take a poll that is left out."""
        if isinstance(poll, PollFailed):
            self.lost |= poll.reason in LOST
            self.closed |= poll.reason not in LOST
        else:
            self.lost |= poll.new_connection and not self.closed
            self.closed = False

    def carry(self, poll: Poll) -> Poll:
        """Lay it on the poll that is used next."""
        if isinstance(poll, PollFailed):
            return replace(poll, reason=FailureReason.REFUSED) if self.lost else poll
        return replace(poll, new_connection=self.lost or (poll.new_connection and not self.closed))
