# SPDX-License-Identifier: Apache-2.0
"""Reads lines of the server's log. Pure: a line of text in, a fact out.

The wording of the log is not a contract. It is data here, with the versions that use it. An unknown
or unexpected line is never an error.
"""

import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ollama_exporter.protocol.keepalive import KeepAliveError, parse_duration
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.residency.facts import LogKind, LogSaid

LONGEST_LINE: Final = (
    16 * 1024
)  # characters; known messages stand at the beginning, and a prompt can be megabytes
FOR_EVER: Final = 9e9  # seconds; Go writes keep-alive -1 as its longest duration


@dataclass(frozen=True, slots=True)
class Pattern:
    """The beginning of a message, and what it means."""

    message: str
    kind: LogKind
    seen: tuple[str, ...]  # versions; "source": read in the server's source, not seen in a log


PATTERNS: Final = (
    Pattern("Listening on ", LogKind.SERVER_STARTED, ("0.24", "0.33")),
    Pattern("starting llama-server", LogKind.LOAD_STARTED, ("0.33",)),
    Pattern("starting runner", LogKind.LOAD_STARTED, ("0.24",)),
    Pattern("llama-server started in ", LogKind.LOAD_DONE, ("0.33",)),
    Pattern("llama runner started in ", LogKind.LOAD_DONE, ("0.24",)),
    Pattern("Load failed", LogKind.LOAD_FAILED, ("0.33",)),
    Pattern("client connection closed before llama-server", LogKind.LOAD_FAILED, ("0.33",)),
    Pattern("llama-server model predicted to exceed", LogKind.ROOM_WANTED, ("0.33",)),
    Pattern("evicting all other ", LogKind.ROOM_WANTED, ("0.33 source",)),
    Pattern("model requires more gpu memory than is", LogKind.ROOM_WANTED, ("0.24 source",)),
    Pattern("runtime OOM detected", LogKind.OUT_OF_MEMORY, ("0.33",)),
    Pattern("llama-server terminated", LogKind.RUNNER_DIED, ("0.33",)),
    Pattern("llama runner process no longer running", LogKind.RUNNER_DIED, ("0.24",)),
    Pattern("finished setting up", LogKind.SET_UP, ("0.24", "0.33")),
    Pattern("runner with non-zero duration has gone idle", LogKind.IDLE, ("0.24", "0.33")),
    Pattern("runner with zero duration has gone idle", LogKind.IDLE_AT_ZERO, ("0.24", "0.33")),
    Pattern("timer expired, expiring to unload", LogKind.TIMER_EXPIRED, ("0.24", "0.33")),
    Pattern("resetting model to expire immediately", LogKind.EVICTING, ("0.24", "0.33")),
    Pattern("reloading", LogKind.RELOADING, ("0.24", "0.33")),
    Pattern("runner expired event received", LogKind.EXPIRING, ("0.24", "0.33")),
    Pattern("waiting for llama-server to exit", LogKind.KILLED, ("0.33",)),
    Pattern("stopping llama server", LogKind.CLOSED, ("0.24",)),
    Pattern("runner terminated and removed from list", LogKind.REMOVED, ("0.24", "0.33")),
    Pattern("shutting down runner", LogKind.SHUT_DOWN, ("0.24", "0.33")),
)
# What a container or a journal puts before a line. Nothing else may stand there: the output of a
# runner may contain anything, and must not be taken for a line of the server.
PREFIX: Final = (
    r"(?:[\w.-]{1,64} +\| )?"  # the container, by docker compose
    r"(?:\d{4}-\d\d-\d\dT[\d:.]{8,18}(?:Z|[+-][\d:]{4,5}) )?"
    r"(?:[A-Z][a-z]{2} [ \d]\d [\d:]{8} )?"
    r"(?:[\w.-]{1,64} [\w.-]{1,64}\[\d+\]: )?"  # host, program and pid
)
SLOG: Final = re.compile(
    rf'{PREFIX}time=(\S+) level=([A-Z]+)\S* (?:source=\S+ )?msg=("(?:[^"\\]|\\.)*"|\S+)'
)
BY_THE_SERVER: Final = 'error="signal: killed"'
WEIGHTS: Final = re.compile(r"\bsha256[-:]([0-9a-f]{64})\b")
SECONDS: Final = re.compile(r"started in (\d+(?:\.\d+)?) seconds")


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that the server itself wrote. `written`: Unix seconds on the server's clock."""

    level: str  # lower case: debug, info, warn, error
    written: float | None
    kind: LogKind | None = None  # None: not a known message
    model: str | None = None
    weights: str | None = None
    pid: int | None = None
    num_ctx: int | None = None
    seconds: float | None = None

    def fact(self, at: float, ours: Callable[[float], float]) -> LogSaid | None:
        """Return the fact for the tracker; None: the message is not a known one.

        `at`: when the line was read; `ours` converts Unix seconds to the timeline of the facts.
        """
        if self.kind is None:
            return None
        written = at if self.written is None else min(at, ours(self.written))
        return LogSaid(
            at,
            self.kind,
            written,
            model=self.model,
            weights=self.weights,
            pid=self.pid,
            num_ctx=self.num_ctx,
            seconds=self.seconds,
        )


def read(text: str) -> LogLine | None:
    """Read one line; None: the server itself did not write it, but a runner or the access log."""
    found = SLOG.match(text, 0, LONGEST_LINE)
    if found is None:
        return None
    moment, level, message = found.groups()
    line = LogLine(level.lower(), _moment(moment))
    message = message.strip('"')
    pattern = next((known for known in PATTERNS if message.startswith(known.message)), None)
    if pattern is None:
        return line
    rest = text[found.end() : LONGEST_LINE]
    weights = WEIGHTS.search(rest)
    if pattern.kind is LogKind.LOAD_STARTED and weights is None:
        return line  # the discovery of GPUs starts a runner without a model
    if pattern.kind is LogKind.RUNNER_DIED and BY_THE_SERVER in rest and "sys=" not in rest:
        return line  # the server's own kill may be logged like this
    name, pid = _value(rest, "runner.name"), _value(rest, "runner.pid") or _value(rest, "pid")
    return LogLine(
        line.level,
        line.written,
        pattern.kind,
        model=None if name is None else normalise(name),
        weights=None if weights is None else f"sha256-{weights[1]}",
        pid=_whole(pid),
        num_ctx=_context(rest, pattern.kind),
        seconds=_seconds(message, rest),
    )


def _moment(text: str) -> float | None:
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        return moment.timestamp() if moment.tzinfo is not None else None
    return None


def _value(rest: str, key: str) -> str | None:
    found = re.search(rf' {re.escape(key)}=("(?:[^"\\]|\\.)*"|\S+)', rest)
    return None if found is None else found[1].strip('"')


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _context(rest: str, kind: LogKind) -> int | None:
    """Return the context of one slot. A command line has the sum over all slots."""
    if kind is not LogKind.LOAD_STARTED:
        return _whole(_value(rest, "runner.num_ctx"))
    total, slots = re.search(r" -c (\d{1,12}) ", rest), re.search(r" -np (\d{1,6}) ", rest)
    if total is None:
        return None
    return int(total[1]) // max(1, int(slots[1]) if slots is not None else 1)


def _seconds(message: str, rest: str) -> float | None:
    if (took := SECONDS.search(message)) is not None:
        return float(took[1])
    duration = _value(rest, "duration")
    if duration is None:
        return None
    with suppress(KeepAliveError):
        seconds = parse_duration(duration)
        return math.inf if seconds > FOR_EVER or seconds < 0 else seconds
    return None
