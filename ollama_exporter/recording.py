# SPDX-License-Identifier: Apache-2.0
"""Recordings: what the sources saw, one JSON object a line, and their replay.

The format is described in docs/recordings.md. Kinds and fields that a reader does not know are
skipped, so that recordings of later versions stay readable.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import msgspec

from ollama_exporter.errors import ConfigError, FailureReason, RecordingError, TargetError
from ollama_exporter.protocol import keepalive
from ollama_exporter.protocol.failures import classify
from ollama_exporter.protocol.names import normalise
from ollama_exporter.protocol.wire import models_from
from ollama_exporter.residency.events import Event
from ollama_exporter.residency.facts import (
    Fact,
    PollFailed,
    ProcessExited,
    ProcessStarted,
    RequestAnswered,
    RequestEnded,
    RequestStarted,
    Snapshot,
    WeightsNamed,
)
from ollama_exporter.residency.schedule import Cadence, next_poll
from ollama_exporter.residency.tracker import LOST, Tracker

WINDOW: Final = 60.0  # evidence for a reason is waited for at least this long, seconds
WINDOW_POLLS: Final = 3  # and at least this many base intervals
LONGEST_LINE: Final = 64 * 2**20  # a poll's body is bounded to 16 MiB when it is recorded
# What recordings of other tools call the failures of a poll: names of httpx's exceptions.
FAILURES: Final = {
    "ConnectError": FailureReason.REFUSED,
    "ConnectTimeout": FailureReason.TIMEOUT,
    "ReadTimeout": FailureReason.TIMEOUT,
    "WriteTimeout": FailureReason.TIMEOUT,
    "PoolTimeout": FailureReason.TIMEOUT,
    **{reason.value: reason for reason in FailureReason},
}
Record = Mapping[str, Any]
Poll = Snapshot | PollFailed


@dataclass(frozen=True, slots=True)
class Recording:
    """What a recording holds, each part in order of time."""

    polls: tuple[Poll, ...]
    requests: tuple[Fact, ...]
    processes: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class PollUsed:
    """A recorded poll that the schedule asked for."""

    t: float


def window_of(interval: float) -> float:
    """Return how long evidence for a reason is waited for, seconds."""
    return max(WINDOW, WINDOW_POLLS * interval)


# -- reading ---------------------------------------------------------------------------------------


def read(path: Path) -> Recording:
    """Read a recording, gzip or plain.

    Raises RecordingError with the number of the line that cannot be read.
    """
    polls: list[Poll] = []
    requests: list[Fact] = []
    processes: list[Fact] = []
    number = 0
    try:
        with _open(path) as file:
            while line := file.readline(LONGEST_LINE):
                number += 1
                for fact in _facts(number, line):
                    if isinstance(fact, Snapshot | PollFailed):
                        polls.append(fact)
                    elif isinstance(fact, RequestStarted | RequestAnswered | RequestEnded):
                        requests.append(fact)
                    else:
                        processes.append(fact)
    except (OSError, EOFError) as err:  # gzip's own errors are OSErrors; EOFError: cut short
        raise RecordingError(number, f"cannot be read: {err}") from err
    except zlib.error as err:
        raise RecordingError(number, f"damaged gzip data: {err}") from err
    if not polls:
        raise RecordingError(0, "no poll in it: not a recording of this exporter")
    return Recording(
        tuple(sorted(polls, key=lambda poll: poll.started)),
        tuple(sorted(requests, key=_moment)),
        tuple(sorted(processes, key=_moment)),
    )


def _open(path: Path) -> BinaryIO:
    file = path.open("rb")
    magic = file.peek(2)[:2]
    return cast("BinaryIO", gzip.GzipFile(fileobj=file)) if magic == b"\x1f\x8b" else file


def _facts(number: int, line: bytes) -> tuple[Fact, ...]:
    if not line.strip():
        return ()
    try:
        record = msgspec.json.decode(line)
        reader = READERS.get(record["kind"]) if isinstance(record, dict) else None
        if reader is None:
            if not isinstance(record, dict):
                raise RecordingError(number, "not a JSON object")
            return ()
        return reader(record)
    except msgspec.DecodeError as err:
        raise RecordingError(number, f"not JSON: {err}") from err
    except KeyError as err:
        raise RecordingError(number, f"the field {err} is missing") from err
    except TargetError as err:
        raise RecordingError(number, f"the body of a poll is not a listing: {err.detail}") from err
    except (TypeError, ValueError, AttributeError) as err:
        raise RecordingError(number, f"a field is not what it should be: {err}") from err


def _read_poll(record: Record) -> tuple[Fact, ...]:
    started = float(record["t"])
    ended = started + float(record["took"])
    if "body" not in record:
        reason = FAILURES.get(record.get("error", "status"), FailureReason.RESET)
        return (PollFailed(started, ended, reason),)
    date = record.get("date")
    moment = None
    with suppress(ValueError, TypeError):  # a header that is no date is no evidence
        moment = parsedate_to_datetime(date).timestamp()
    return (
        Snapshot(
            started,
            ended,
            models_from(record["body"]),
            date=moment,
            new_connection=bool(record.get("new_connection")),
        ),
    )


def _read_request_start(record: Record) -> tuple[Fact, ...]:
    native = not str(record["path"]).startswith("/v1")  # /v1 cannot carry either
    seconds = None
    if native and record.get("has_keep_alive"):
        with suppress(keepalive.KeepAliveError):  # the server refuses it: 400, no runner is asked
            seconds = keepalive.parse(record["keep_alive"])
    return (
        RequestStarted(
            float(record["t"]),
            record["id"],
            normalise(str(record["model"])),
            keep_alive=seconds,
            num_ctx=record.get("num_ctx") if native else None,
            stop=bool(record.get("empty")) and seconds == 0,
        ),
    )


def _read_request_end(record: Record) -> tuple[Fact, ...]:
    error, ttft = record.get("error"), record.get("ttft")
    ended = RequestEnded(
        float(record["t"]), record["id"], failure=classify(str(error)) if error else None
    )
    if ttft is None:
        return (ended,)
    return (RequestAnswered(float(record["start"]) + float(ttft), record["id"]), ended)


def _read_process(record: Record) -> tuple[Fact, ...]:
    at, pid = float(record["t"]), int(record["pid"])
    if record["event"] == "exited":
        return (ProcessExited(at, pid),)
    weights = record.get("blob") if record["role"] == "runner" else None
    return (ProcessStarted(at, float(record["started_at"]), pid, weights),)


def _read_show(record: Record) -> tuple[Fact, ...]:
    if not record.get("blob"):
        return ()
    return (WeightsNamed(float(record["t"]), normalise(record["model"]), record["blob"]),)


READERS: Final[dict[str, Callable[[Record], tuple[Fact, ...]]]] = {
    "poll": _read_poll,
    "request_start": _read_request_start,
    "request_end": _read_request_end,
    "process": _read_process,
    "show": _read_show,
}


def _moment(fact: Fact) -> float:
    return fact.ended if isinstance(fact, Snapshot | PollFailed) else fact.at


# -- replaying -------------------------------------------------------------------------------------


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
        return replace(poll, new_connection=self.lost or poll.new_connection and not self.closed)


def replay(
    recording: Recording, cadence: Cadence, *, requests: bool = True, processes: bool = True
) -> Iterator[Event | PollUsed]:
    """Run a recording through the schedule and the tracker.

    Each moment that the schedule asks for takes the next recorded poll at or after it.
    """
    tracker = Tracker(window=window_of(cadence.interval))
    facts = sorted(
        [*(recording.requests if requests else ()), *(recording.processes if processes else ())],
        key=_moment,
    )
    polls, given, failures = recording.polls, 0, 0
    last: float | None = None
    skipped = Skipped()
    due = polls[0].started
    for poll in polls:
        while given < len(facts) and _moment(facts[given]) <= min(due, poll.started):
            yield from tracker.observe(facts[given])
            given += 1
            if last is not None:
                due = next_poll(cadence, tracker.view(), last_started=last, failures=failures)
        if poll.started < due:
            skipped.note(poll)
            continue
        while given < len(facts) and _moment(facts[given]) <= poll.ended:
            yield from tracker.observe(facts[given])
            given += 1
        yield PollUsed(poll.started)
        yield from tracker.observe(skipped.carry(poll))
        failures = failures + 1 if isinstance(poll, PollFailed) else 0
        last, skipped = poll.started, Skipped()
        due = next_poll(cadence, tracker.view(), last_started=last, failures=failures)
    yield from tracker.finish(polls[-1].ended)
