# SPDX-License-Identifier: Apache-2.0
"""Reads recordings, also those of other people: each line is checked before it becomes a fact.

Unknown kinds and fields are skipped, so that recordings of later versions stay readable.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from ollama_exporter.errors import FailureReason, RecordingError, TargetError, plain
from ollama_exporter.foreign_text import clean
from ollama_exporter.host.runner.slots import decode_slots
from ollama_exporter.protocol import keepalive
from ollama_exporter.protocol.error_text import Failure, classify
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.protocol.wire import decode_ps, server_date
from ollama_exporter.recordings.format import (
    FOR_EVER,
    VISIBILITY,
    RecordedLook,
    Recording,
    moment_of,
)
from ollama_exporter.recordings.unpack import numbered_lines
from ollama_exporter.residency.facts import (
    Fact,
    LogKind,
    LogSaid,
    PollFailed,
    ProcessesScanned,
    ProcessesSeen,
    ProcessExited,
    ProcessFact,
    ProcessStarted,
    RequestAnswered,
    RequestEnded,
    RequestFact,
    RequestStarted,
    Snapshot,
    VersionAnswered,
    WeightsNamed,
)

LONGEST_LINE: Final = 64 * 2**20  # `record` writes bodies of at most 16 MiB
LATEST: Final = 7_258_118_400.0  # the year 2200: later moments do not fit every calendar function
LARGEST: Final = 2**63 - 1  # of a pid or a context
LONGEST_VALUE: Final = 40  # characters of a bad value that an error message repeats
# The failures of polls as other recorders name them: exceptions of httpx.
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


class _Kind(msgspec.Struct):
    """The envelope of every line; the rest is decoded only if the kind is known."""

    kind: str


class _PollLine(msgspec.Struct):
    """A poll. `body` stays undecoded: it is read exactly as an answer of the server is."""

    t: float
    took: float
    date: Any = None
    new_connection: Any = False
    error: Any = None
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _SlotsLine(msgspec.Struct):
    """A look at slots. `slots` stays undecoded, likewise."""

    t: float
    took: float
    pid: Any
    blob: Any = None
    slots: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _FieldError(Exception):
    """A field that does not hold what it should."""


def read_recording(path: Path) -> Recording:
    """Read a recording, plain or gzip. Raises RecordingError with the number of the bad line."""
    lines = numbered_lines(path, longest=LONGEST_LINE)
    read = [each for number, line in lines for each in _facts(path, number, line)]
    looks = (each for each in read if isinstance(each, RecordedLook))
    facts = sorted((x for x in read if not isinstance(x, RecordedLook)), key=moment_of)
    polls = (fact for fact in facts if isinstance(fact, Snapshot | PollFailed))
    found = Recording(
        tuple(sorted(polls, key=lambda poll: poll.started)),
        tuple(fact for fact in facts if isinstance(fact, RequestFact)),
        tuple(fact for fact in facts if isinstance(fact, ProcessFact)),
        tuple(fact for fact in facts if isinstance(fact, LogSaid)),
        tuple(sorted(looks, key=lambda look: look.at)),
        tuple(fact for fact in facts if isinstance(fact, VersionAnswered)),
    )
    if not found.polls:
        raise RecordingError(path, 0, "not a recording of `ollama-exporter record`: no poll in it")
    return found


def _facts(path: Path, number: int, line: bytes) -> tuple[Fact | RecordedLook, ...]:
    if not line.strip():
        return ()
    try:
        reader = READERS.get(msgspec.json.decode(line, type=_Kind).kind)
        return () if reader is None else reader(line)
    except TargetError as err:
        why = f"the body of the poll is not an answer of /api/ps: {err.detail}"
        raise RecordingError(path, number, why) from err
    except KeyError as err:
        raise RecordingError(path, number, f"the field {err} is missing") from err
    except msgspec.ValidationError as err:
        raise RecordingError(path, number, f"a field is wrong: {err}") from err
    except _FieldError as err:
        raise RecordingError(path, number, str(err)) from err
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        first = "not a recording of `ollama-exporter record`: " if number == 1 else ""
        raise RecordingError(path, number, f"{first}not JSON: {err}") from err
    except RecursionError as err:
        raise RecordingError(path, number, "nested too deeply") from err


def _read_slots(line: bytes) -> tuple[RecordedLook, ...]:
    record = msgspec.json.decode(line, type=_SlotsLine)
    began, fields = _moment("t", record.t), {"pid": record.pid, "blob": record.blob}
    pid = _whole(fields, "pid")
    if pid is None:
        raise KeyError("pid")
    slots = None if record.slots is msgspec.UNSET else decode_slots(bytes(record.slots))
    at = _moment("took", began + _positive("took", record.took))
    return (RecordedLook(at, began, pid, _weights(fields), slots),)


def _decoded(read: Callable[[Record], tuple[Fact, ...]]) -> Callable[[bytes], tuple[Fact, ...]]:
    return lambda line: read(msgspec.json.decode(line, type=dict[str, Any]))


def _read_poll(line: bytes) -> tuple[Fact, ...]:
    record = msgspec.json.decode(line, type=_PollLine)
    started = _moment("t", record.t)
    ended = _moment("took", started + _positive("took", record.took))
    if record.body is msgspec.UNSET:
        error = record.error if isinstance(record.error, str) else "status"
        return (PollFailed(started, ended, FAILURES.get(error, FailureReason.RESET)),)
    models = decode_ps(bytes(record.body))
    return (
        Snapshot(
            started,
            ended,
            models,
            date=_date(record.date),
            new_connection=bool(record.new_connection),
        ),
    )


def _date(header: object) -> float | None:
    """Return a Date header as Unix seconds; None: it is not one, and so no evidence."""
    date = server_date(header) if isinstance(header, str) else None
    with suppress(_FieldError):
        return None if date is None else _moment("date", date)
    return None


def _read_request_start(record: Record) -> tuple[Fact, ...]:
    native = not str(record["path"]).startswith("/v1")  # /v1 cannot carry either
    seconds = None
    if native and record.get("has_keep_alive"):
        with suppress(keepalive.KeepAliveError, OverflowError):  # Ollama answers 400: no runner
            seconds = keepalive.parse(record["keep_alive"])
    return (
        RequestStarted(
            _moment("t", record["t"]),
            _id(record),
            normalise(str(record["model"])),
            keep_alive=seconds,
            num_ctx=_whole(record, "num_ctx") if native else None,
            stop=bool(record.get("empty")) and seconds == 0,
        ),
    )


def _read_request_end(record: Record) -> tuple[Fact, ...]:
    error, ttft, outcome = record.get("error"), record.get("ttft"), record.get("outcome", "ok")
    at, ident = _moment("t", record["t"]), _id(record)
    broken = outcome != "client_gone" and (outcome != "ok" or record.get("done") is False)
    failure = Failure.OTHER if broken else None  # the answer broke off without an error
    if error:
        failure = classify(str(error))
    ended = RequestEnded(at, ident, failure=failure)
    if ttft is None or record.get("status", OK) != OK:  # an error says nothing of a runner
        return (ended,)
    answered = _moment("ttft", _moment("start", record["start"]) + _positive("ttft", ttft))
    return (RequestAnswered(answered, ident), ended)


def _read_process(record: Record) -> tuple[Fact, ...]:
    at, event = _moment("t", record["t"]), str(record["event"])
    if event in VISIBILITY:
        return (ProcessesSeen(at, seen=VISIBILITY[event]),)
    if event == "scanned":
        return (ProcessesScanned(at, _moment("began", record["began"])),)
    pid = _whole(record, "pid")
    if pid is None:
        raise KeyError("pid")
    if event == "exited":
        return (ProcessExited(at, pid, _moment_if_any(record, "alive")),)
    weights = _weights(record) if record["role"] == "runner" else None
    return (ProcessStarted(at, _moment("started_at", record["started_at"]), pid, weights),)


def _read_show(record: Record) -> tuple[Fact, ...]:
    weights = _weights(record)
    if not weights:
        return ()
    return (WeightsNamed(_moment("t", record["t"]), normalise(str(record["model"])), weights),)


def _read_version(record: Record) -> tuple[Fact, ...]:
    said = record["version"]
    if not isinstance(said, str):
        raise _wrong("version", said, "a string")
    return (VersionAnswered(_moment("t", record["t"]), clean(said)),)


def _read_log(record: Record) -> tuple[Fact, ...]:
    at, said, model = _moment("t", record["t"]), str(record["said"]), record.get("model")
    if said not in set(LogKind):
        return ()  # of a later version
    written, seconds = _moment_if_any(record, "written"), record.get("seconds")
    if seconds is not None:
        seconds = math.inf if seconds == FOR_EVER else _positive("seconds", seconds)
    return (
        LogSaid(
            at,
            LogKind(said),
            at if written is None else written,
            model=None if model is None else normalise(str(model)),
            weights=_weights(record) or None,
            pid=_whole(record, "pid"),
            num_ctx=_whole(record, "num_ctx"),
            seconds=seconds,
        ),
    )


READERS: Final[Mapping[str, Callable[[bytes], tuple[Fact | RecordedLook, ...]]]] = {
    "poll": _read_poll,
    "slots": _read_slots,
    "request_start": _decoded(_read_request_start),
    "request_end": _decoded(_read_request_end),
    "process": _decoded(_read_process),
    "show": _decoded(_read_show),
    "version": _decoded(_read_version),
    "log": _decoded(_read_log),
}


# -- fields ----------------------------------------------------------------------------------------


def _weights(record: Record) -> str:
    """Return the weights as the command line of a runner names them, `sha256-HEX`."""
    return str(record.get("blob") or "").replace(":", "-", 1)


def _id(record: Record) -> str | int:
    value = record["id"]
    if not isinstance(value, str | int):
        raise _wrong("id", value, "a number or a string")
    return value


def _whole(record: Record, field: str) -> int | None:
    value = record.get(field)
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value <= LARGEST or value != int(value):
        raise _wrong(field, value, "a whole number")
    return int(value)


def _moment_if_any(record: Record, field: str) -> float | None:
    value = record.get(field)
    return None if value is None else _moment(field, value)


def _moment(field: str, value: object) -> float:
    """Return a moment that every later calculation can hold. Raises _FieldError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise _wrong(field, value, "a moment in Unix seconds, before the year 2200")
    return float(value)


def _positive(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise _wrong(field, value, "a number of seconds, 0 or more")
    return float(value)


def _wrong(field: str, value: object, wanted: str) -> _FieldError:
    text = plain(value)
    shown = text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
    return _FieldError(f"the field {field} holds {shown}; it must be {wanted}")
