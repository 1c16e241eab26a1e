# SPDX-License-Identifier: Apache-2.0
"""The lines of a recording that come from the server's machine, to and from facts.

Of the log only what was understood is recorded: a line's text may hold anything.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.residency.facts import (
    Fact,
    LogKind,
    LogSaid,
    ProcessesSeen,
    ProcessExited,
    ProcessFact,
    ProcessStarted,
    WeightsNamed,
)

Record = Mapping[str, Any]
SEEN: Final = {"visible": True, "hidden": False}
FOR_EVER: Final = -1  # JSON has no infinity; so does the server write it


def _read_process(record: Record) -> tuple[Fact, ...]:
    at = float(record["t"])
    if record["event"] in SEEN:
        return (ProcessesSeen(at, seen=SEEN[record["event"]]),)
    pid = int(record["pid"])
    if record["event"] == "exited":
        return (ProcessExited(at, pid, _number(record, "alive")),)
    weights = _weights(record) if record["role"] == "runner" else None
    return (ProcessStarted(at, float(record["started_at"]), pid, weights),)


def _read_show(record: Record) -> tuple[Fact, ...]:
    weights = _weights(record)
    if not weights:
        return ()
    return (WeightsNamed(float(record["t"]), normalise(record["model"]), weights),)


def _read_log(record: Record) -> tuple[Fact, ...]:
    at, said, model = float(record["t"]), str(record["said"]), record.get("model")
    if said not in set(LogKind):
        return ()  # of a later version
    seconds, written = _number(record, "seconds"), _number(record, "written")
    return (
        LogSaid(
            at,
            LogKind(said),
            at if written is None else written,
            model=None if model is None else normalise(str(model)),
            weights=_weights(record) or None,
            pid=None if record.get("pid") is None else int(record["pid"]),
            num_ctx=None if record.get("num_ctx") is None else int(record["num_ctx"]),
            seconds=math.inf if seconds == FOR_EVER else seconds,
        ),
    )


def _weights(record: Record) -> str:
    """Return the weights as the command line of a runner names them, `sha256-HEX`."""
    return str(record.get("blob") or "").replace(":", "-", 1)


def _number(record: Record, field: str) -> float | None:
    value = record.get(field)
    return None if value is None else float(value)


LOCAL_READERS: Final[dict[str, Callable[[Record], tuple[Fact, ...]]]] = {
    "process": _read_process,
    "show": _read_show,
    "log": _read_log,
}


def line_of(fact: ProcessFact | LogSaid) -> dict[str, Any]:
    """Return the line that is recorded of a fact."""
    line: dict[str, Any] = {"t": fact.at}
    match fact:
        case ProcessesSeen():
            return line | {"kind": "process", "event": "visible" if fact.seen else "hidden"}
        case ProcessStarted():
            role = "server" if fact.weights is None else "runner"
            line |= {"kind": "process", "event": "started", "role": role, "pid": fact.pid}
            return line | {"blob": fact.weights, "started_at": fact.born}
        case ProcessExited():
            line |= {"kind": "process", "event": "exited", "pid": fact.pid}
            return line if fact.alive is None else line | {"alive": fact.alive}
        case WeightsNamed():
            return line | {"kind": "show", "model": fact.model, "blob": fact.weights}
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
