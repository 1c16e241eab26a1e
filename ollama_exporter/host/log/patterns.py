# SPDX-License-Identifier: Apache-2.0
"""Reads lines of the server's log. Pure: a line of text in, a fact out.

The wording of the log is not a contract. It is data here, with the versions that use it. An unknown
or unexpected line is never an error.
"""

import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Final

from msgspec import Struct

from ollama_exporter.host.log.decorations import skip_decorations
from ollama_exporter.host.log.key_order import in_order
from ollama_exporter.protocol.keepalive import KeepAliveError, parse_duration
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.residency.facts import LogKind, LogSaid

# Characters. Known messages stand at the beginning, and a prompt can be megabytes.
LONGEST_LINE: Final = 16 * 1024
FOR_EVER: Final = 9e9  # seconds; Go writes keep-alive -1 as its longest duration


class Pattern(Struct, frozen=True):
    """The beginning of a message, and what it means."""

    message: str
    kind: LogKind
    seen: tuple[str, ...]  # versions; "source": read in the server's source, not seen in a log


PATTERNS: Final = (
    Pattern("Listening on ", LogKind.SERVER_STARTED, ("0.1.30-0.33 source", "0.24", "0.33")),
    Pattern("starting llama-server", LogKind.LOAD_STARTED, ("0.30-0.33 source", "0.33")),
    Pattern("starting runner", LogKind.LOAD_STARTED, ("0.11.5-0.24 source", "0.24")),
    Pattern("starting llama server", LogKind.LOAD_STARTED, ("0.1.32-0.11.4 source",)),
    Pattern("llama-server started in ", LogKind.LOAD_DONE, ("0.30-0.33 source", "0.33")),
    Pattern("llama runner started in ", LogKind.LOAD_DONE, ("0.1.35-0.24 source", "0.24")),
    Pattern("Load failed", LogKind.LOAD_FAILED, ("0.11.5-0.33 source", "0.33")),
    Pattern("error loading llama server", LogKind.LOAD_FAILED, ("0.1.32-0.33 source",)),
    Pattern("client connection closed before llama-server", LogKind.LOAD_FAILED, ("0.33",)),
    Pattern("client connection closed before server", LogKind.LOAD_FAILED, ("0.1.39-0.24 source",)),
    Pattern("llama-server model predicted to exceed", LogKind.ROOM_WANTED, ("0.33",)),
    Pattern("evicting all other ", LogKind.ROOM_WANTED, ("0.30-0.33 source",)),
    Pattern("llama-server load failed; evicting all", LogKind.ROOM_WANTED, ("0.30-0.33 source",)),
    Pattern("model requires more gpu memory than", LogKind.ROOM_WANTED, ("0.13.1-0.24 source",)),
    Pattern("model requires more system memory", LogKind.ROOM_WANTED, ("0.12.11-0.24 source",)),
    Pattern("model requires more memory than", LogKind.ROOM_WANTED, ("0.11.7-0.13.0 source",)),
    Pattern("runtime OOM detected", LogKind.OUT_OF_MEMORY, ("0.30-0.33 source", "0.33")),
    Pattern("llama-server terminated", LogKind.RUNNER_DIED, ("0.30-0.33 source", "0.33")),
    Pattern("llama-server process no longer running", LogKind.RUNNER_DIED, ("0.30-0.33 source",)),
    Pattern("llama runner process no longer running", LogKind.RUNNER_DIED, ("0.24",)),
    Pattern("llama runner terminated", LogKind.RUNNER_DIED, ("0.2.8-0.24 source",)),
    Pattern("finished setting up", LogKind.SET_UP, ("0.1.33-0.33 source", "0.24", "0.33")),
    Pattern("runner with non-zero duration has gone idle", LogKind.IDLE, ("0.24", "0.33")),
    Pattern("runner with zero duration has gone idle", LogKind.IDLE_AT_ZERO, ("0.24", "0.33")),
    Pattern("timer expired, expiring to unload", LogKind.TIMER_EXPIRED, ("0.24", "0.33")),
    Pattern("resetting model to expire immediately", LogKind.EVICTING, ("0.24", "0.33")),
    Pattern("reloading", LogKind.RELOADING, ("0.6.8-0.33 source", "0.24", "0.33")),
    Pattern("runner expired event received", LogKind.EXPIRING, ("0.24", "0.33")),
    Pattern("waiting for llama-server to exit", LogKind.KILLED, ("0.30-0.33 source", "0.33")),
    Pattern("stopping llama server", LogKind.CLOSED, ("0.1.33-0.24 source", "0.24")),
    Pattern("runner terminated and removed from list", LogKind.REMOVED, ("0.24", "0.33")),
    Pattern("runner released", LogKind.REMOVED, ("0.1.33-0.6.8 source",)),
    Pattern("shutting down runner", LogKind.SHUT_DOWN, ("0.24", "0.33")),
)
# An answer that broke off because its runner died, whatever message quotes it: 0.1.30-0.24 return
# `POST predict: Post "http://127.0.0.1:PORT/completion": EOF` (llm/server.go), 0.12-0.24 log
# `post predict`, 0.30-0.33 log `llama-server completion error`; the last is of 0.1.30-0.5.
BROKEN_ANSWER: Final = re.compile(
    r"(?:post predict|do embedding request|llama-server (?:completion|chat) error)[^\n]{0,512}?"
    r"(?:\bEOF\b|connection re(?:set|fused)|forcibly closed)"
    r"|an unknown error was encountered while running the model",
    re.IGNORECASE,
)
SLOG: Final = re.compile(
    r"(?:time|ts)=(\S{1,64}) level=([A-Za-z]{1,16})\S{0,16} (?:source=\S{1,128} )?"
    r'msg=("(?:[^"\\]|\\.)*"|\S+)'
)
PAIR: Final = re.compile(r'([^\s="]{1,64})=("(?:[^"\\]|\\.)*"?|\S*)')
BY_THE_SERVER: Final = 'error="signal: killed"'
WEIGHTS: Final = re.compile(r"\bsha256[-:]([0-9a-f]{64})\b")
SECONDS: Final = re.compile(r"started in (\d{1,9}(?:\.\d{1,9})?) seconds")
LEVELS: Final = {"warning": "warn", "err": "error"}  # as collectors write them
MOST_DIGITS: Final = 12  # of a number; a longer one says nothing
LONGEST_DURATION: Final = 64  # characters


class LogLine(Struct, frozen=True):
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
    text = skip_decorations(text[:LONGEST_LINE])
    found = SLOG.match(text)
    if found is None:
        text = in_order(text)
        found = SLOG.match(text)
    if found is None:
        return None
    moment, level, message = found.groups()
    line = LogLine(LEVELS.get(level.lower(), level.lower()), _moment(moment.strip('"')))
    message = message.strip('"')
    rest = text[found.end() :]
    pattern = next((known for known in PATTERNS if message.startswith(known.message)), None)
    if pattern is None:
        return _read_broken_answer(line, text)
    weights = WEIGHTS.search(rest)
    if pattern.kind is LogKind.LOAD_STARTED and weights is None:
        return line  # the discovery of GPUs starts a runner without a model
    if pattern.kind is LogKind.RUNNER_DIED and BY_THE_SERVER in rest and "sys=" not in rest:
        return line  # the server's own kill may be logged like this
    values = _values(rest)
    name = values.get("runner.name")
    return LogLine(
        line.level,
        line.written,
        pattern.kind,
        model=None if name is None else normalise(name),
        weights=None if weights is None else f"sha256-{weights[1]}",
        pid=_number(values.get("runner.pid") or values.get("pid")),
        num_ctx=_context(rest, values, pattern.kind),
        seconds=_seconds(message, values),
    )


def _read_broken_answer(line: LogLine, text: str) -> LogLine:
    if line.level == "error" and BROKEN_ANSWER.search(text):
        return LogLine(line.level, line.written, LogKind.RUNNER_DIED)
    return line


def _moment(text: str) -> float | None:
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        return moment.timestamp() if moment.tzinfo is not None else None
    return None


def _values(rest: str) -> dict[str, str]:
    """Return the keys and values of a line; the first of two equal keys counts."""
    values: dict[str, str] = {}
    for found in PAIR.finditer(rest):
        values.setdefault(found[1], found[2].strip('"'))
    return values


def _number(text: str | None) -> int | None:
    if text is None or len(text) > MOST_DIGITS or not (text.isascii() and text.isdigit()):
        return None
    return int(text)


def _context(rest: str, values: Mapping[str, str], kind: LogKind) -> int | None:
    """Return the context of one slot. A command line has the sum over all slots."""
    if kind is not LogKind.LOAD_STARTED:
        return _number(values.get("runner.num_ctx"))
    total = re.search(r" (?:-c|--ctx-size) (\d{1,12})\b", rest)
    slots = re.search(r" (?:-np|--parallel) (\d{1,6})\b", rest)
    if total is None:
        return None
    return int(total[1]) // max(1, int(slots[1]) if slots is not None else 1)


def _seconds(message: str, values: Mapping[str, str]) -> float | None:
    if (took := SECONDS.search(message)) is not None:
        return float(took[1])
    duration = values.get("duration", "")
    if not 0 < len(duration) <= LONGEST_DURATION:
        return None
    with suppress(KeepAliveError):
        seconds = parse_duration(duration)
        return math.inf if seconds > FOR_EVER or seconds < 0 else seconds
    return None
