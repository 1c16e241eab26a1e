# SPDX-License-Identifier: Apache-2.0
"""Writes recordings: polls, and what the server's machine shows, one JSON object per line.

The log is recorded as the facts it states, never as text: a line may contain anything.
"""

import gzip
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import msgspec

from ollama_exporter.errors import FailureReason
from ollama_exporter.host.processes.command_lines import weights_in
from ollama_exporter.host.runner.slot_watcher import SlotLook
from ollama_exporter.host.runner.slots import Slot
from ollama_exporter.recordings.format import FOR_EVER
from ollama_exporter.residency.facts import (
    LogSaid,
    ProcessesScanned,
    ProcessesSeen,
    ProcessExited,
    ProcessFact,
    ProcessStarted,
    VersionAnswered,
    WeightsNamed,
)

UNANSWERED: Final = "unanswered"  # in time, and in the bounds of an answer


class RecordingWriter:
    """Writes one recording, compressed if the file name ends in .gz. Flushes after each line.

    Every method raises OSError if the disk fails.
    """

    def __init__(self, path: Path) -> None:
        raw = path.open("wb")
        self._file = (
            cast("BinaryIO", gzip.GzipFile(fileobj=raw, mode="wb")) if path.suffix == ".gz" else raw
        )
        self._raw = raw

    def write_poll(
        self,
        *,
        started: float,
        ended: float,
        body: bytes,
        status: int,
        date: str | None,
        new_connection: bool,
    ) -> None:
        """Write a successful poll: `body` as received, `date` its Date header."""
        self._write(
            {
                "t": started,
                "kind": "poll",
                "took": round(ended - started, 6),
                "status": status,
                "date": date,
                "new_connection": new_connection,
                "body": msgspec.Raw(_on_one_line(body)),
            }
        )

    def write_failed_poll(self, *, started: float, ended: float, reason: FailureReason) -> None:
        """Write a failed poll."""
        took = round(ended - started, 6)
        self._write({"t": started, "kind": "poll", "took": took, "error": reason.value})

    def write_fact(self, fact: ProcessFact | LogSaid | VersionAnswered) -> None:
        """Write what the server's machine showed, or its version."""
        self._write(line_of(fact))

    def write_look(self, look: SlotLook) -> None:
        """Write a look at the slots of a runner: numbers only."""
        took = round(look.ended - look.began, 6)
        line: dict[str, Any] = {"t": look.began, "kind": "slots", "took": took}
        line |= {"pid": look.process.pid, "blob": weights_in(look.process.command)}
        if look.slots is None:
            self._write(line | {"error": UNANSWERED if look.status is None else "status"})
        else:
            self._write(line | {"status": look.status, "slots": list(map(_slot, look.slots))})

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._raw.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        self._file.write(msgspec.json.encode(record) + b"\n")
        self._file.flush()


def _slot(slot: Slot) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": slot.id,
        "n_ctx": slot.context,
        "is_processing": slot.busy,
    }
    if slot.task is not None:
        found |= {
            "id_task": slot.task,
            "n_prompt_tokens": slot.held,
            "n_decoded": slot.decoded,
        }
    return found


def _on_one_line(body: bytes) -> bytes:
    """Return a JSON document on one line and in UTF-8: gateways pretty-print, and add bytes."""
    text = body.decode("utf-8", "replace").encode()
    try:
        return msgspec.json.format(text, indent=-1)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b" ".join(text.splitlines())


def line_of(  # noqa: PLR0911 - a table of facts, one line each
    fact: ProcessFact | LogSaid | VersionAnswered,
) -> dict[str, Any]:
    """Return the line that records a fact."""
    line: dict[str, Any] = {"t": fact.at}
    match fact:
        case ProcessesSeen():
            return line | {"kind": "process", "event": "visible" if fact.seen else "hidden"}
        case ProcessesScanned():
            return line | {"kind": "process", "event": "scanned", "began": fact.began}
        case ProcessStarted():
            role = "server" if fact.weights is None else "runner"
            line |= {"kind": "process", "event": "started", "role": role, "pid": fact.pid}
            return line | {"blob": fact.weights, "started_at": fact.born}
        case ProcessExited():
            line |= {"kind": "process", "event": "exited", "pid": fact.pid}
            return line if fact.alive is None else line | {"alive": fact.alive}
        case WeightsNamed():
            return line | {"kind": "show", "model": fact.model, "blob": fact.weights}
        case VersionAnswered():
            return line | {"kind": "version", "version": fact.version}
        case _:
            return line | _log_line(fact)


def _log_line(fact: LogSaid) -> dict[str, Any]:
    seconds = FOR_EVER if fact.seconds == math.inf else fact.seconds
    values = {
        "model": fact.model,
        "blob": fact.weights,
        "pid": fact.pid,
        "num_ctx": fact.num_ctx,
        "seconds": seconds,
    }
    known = {field: value for field, value in values.items() if value is not None}
    return {"kind": "log", "said": fact.kind.value, "written": fact.written, **known}
