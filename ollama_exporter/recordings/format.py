# SPDX-License-Identifier: Apache-2.0
"""Recordings: what the sources saw, one JSON object a line.

The format is described in docs/recordings.md. Kinds and fields that a reader does not know are
skipped, so that recordings of later versions stay readable.
"""

import gzip
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import msgspec

from ollama_exporter.errors import FailureReason, RecordingError, TargetError
from ollama_exporter.protocol import keepalive
from ollama_exporter.protocol.error_text import Failure, classify
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.protocol.wire import models_from
from ollama_exporter.recordings.format_lines import LOCAL_READERS, line_of
from ollama_exporter.residency.facts import (
    Fact,
    LogSaid,
    PollFailed,
    ProcessFact,
    ProcessStarted,
    RequestAnswered,
    RequestEnded,
    RequestStarted,
    Snapshot,
)

GZIP: Final = b"\x1f\x8b"
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
OK: Final = 200
Record = Mapping[str, Any]
Poll = Snapshot | PollFailed


@dataclass(frozen=True, slots=True)
class Recording:
    """What a recording holds, each part in order of time."""

    polls: tuple[Poll, ...]
    requests: tuple[Fact, ...]
    processes: tuple[Fact, ...]
    log: tuple[Fact, ...] = ()

    @property
    def processes_seen(self) -> bool:
        """Births of processes are in it."""
        return any(isinstance(fact, ProcessStarted) for fact in self.processes)

    def since(self, seconds: float) -> "Recording":
        """Return it with the polls of its first seconds left out."""
        begin = self.polls[0].started + seconds
        return replace(self, polls=tuple(poll for poll in self.polls if poll.started >= begin))


# -- reading ---------------------------------------------------------------------------------------


def read(path: Path) -> Recording:
    """Read a recording, gzip or plain.

    Raises RecordingError with the number of the line that cannot be read.
    """
    polls: list[Poll] = []
    requests: list[Fact] = []
    processes: list[Fact] = []
    log: list[Fact] = []
    number = 0
    try:
        with path.open("rb") as raw, _unpacked(raw) as file:
            while line := file.readline(LONGEST_LINE):
                number += 1
                for fact in _facts(number, line):
                    if isinstance(fact, Snapshot | PollFailed):
                        polls.append(fact)
                    elif isinstance(fact, RequestStarted | RequestAnswered | RequestEnded):
                        requests.append(fact)
                    elif isinstance(fact, LogSaid):
                        log.append(fact)
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
        tuple(sorted(requests, key=moment_of)),
        tuple(sorted(processes, key=moment_of)),
        tuple(sorted(log, key=moment_of)),
    )


def _unpacked(raw: BufferedReader) -> BinaryIO:
    packed = raw.peek(2)[:2] == GZIP
    return cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if packed else raw


def _facts(number: int, line: bytes) -> tuple[Fact, ...]:
    if not line.strip():
        return ()
    try:
        record = msgspec.json.decode(line, type=dict[str, Any])
        reader = READERS.get(record["kind"])
        return () if reader is None else reader(record)
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
    moment = None
    with suppress(ValueError, TypeError):  # a header that is no date is no evidence
        moment = parsedate_to_datetime(str(record.get("date"))).timestamp()
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
    error, ttft, outcome = record.get("error"), record.get("ttft"), record.get("outcome", "ok")
    broken = outcome != "client_gone" and (outcome != "ok" or record.get("done") is False)
    failure = Failure.OTHER if broken else None  # it broke off without a word
    if error:
        failure = classify(str(error))
    ended = RequestEnded(float(record["t"]), record["id"], failure=failure)
    if ttft is None or record.get("status", OK) != OK:  # an error's body says nothing of a runner
        return (ended,)
    return (RequestAnswered(float(record["start"]) + float(ttft), record["id"]), ended)


READERS: Final[dict[str, Callable[[Record], tuple[Fact, ...]]]] = {
    "poll": _read_poll,
    "request_start": _read_request_start,
    "request_end": _read_request_end,
    **LOCAL_READERS,
}


def moment_of(fact: Fact) -> float:
    """Return when a fact is known."""
    return fact.ended if isinstance(fact, Snapshot | PollFailed) else fact.at


# -- writing ---------------------------------------------------------------------------------------


class Writer:
    """Writes a recording, gzip when the file's name ends so. Each line is complete at once.

    Raises OSError when the disk does.
    """

    def __init__(self, path: Path) -> None:
        raw = path.open("wb")
        self._file = (
            cast("BinaryIO", gzip.GzipFile(fileobj=raw, mode="wb")) if path.suffix == ".gz" else raw
        )
        self._raw = raw

    def poll(
        self,
        *,
        started: float,
        ended: float,
        body: bytes,
        status: int,
        date: str | None,
        new_connection: bool,
    ) -> None:
        """Write an answered poll; `body` as it came, `date` its Date header."""
        self._write(
            {
                "t": started,
                "kind": "poll",
                "took": round(ended - started, 6),
                "status": status,
                "date": date,
                "new_connection": new_connection,
                "body": msgspec.Raw(body.strip()),
            }
        )

    def failed_poll(self, *, started: float, ended: float, reason: FailureReason) -> None:
        """Write a poll without a usable answer."""
        took = round(ended - started, 6)
        self._write({"t": started, "kind": "poll", "took": took, "error": reason.value})

    def fact(self, fact: ProcessFact | LogSaid) -> None:
        """Write what was seen on the server's machine."""
        self._write(line_of(fact))

    def close(self) -> None:
        """End the file."""
        self._file.close()
        self._raw.close()

    def _write(self, record: Record) -> None:
        self._file.write(msgspec.json.encode(record) + b"\n")
        self._file.flush()
