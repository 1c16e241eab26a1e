# SPDX-License-Identifier: Apache-2.0
"""What the tracker is given: polls, requests, processes, lines of the log, each with its moment.

Every moment is in seconds on one timeline: Unix time when the exporter started plus monotonic time
since, so that a step of the wall clock moves nothing. Only `Snapshot.date` and
`RunningModel.expires_at` are on the server's clock.
"""

from collections.abc import Hashable
from enum import StrEnum

from msgspec import Struct

from ollama_exporter.errors import FailureReason
from ollama_exporter.moments import Moment
from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.protocol.wire import RunningModel


class Snapshot(Struct, frozen=True):
    """An answered poll of `/api/ps`."""

    started: Moment
    ended: Moment
    models: tuple[RunningModel, ...]
    date: float | None = None  # the answer's Date header: whole Unix seconds, server's clock
    new_connection: bool = False  # this poll had to open a connection (also the very first one)


class PollFailed(Struct, frozen=True):
    """A poll without a usable answer. It is never an unload."""

    started: float
    ended: float
    reason: FailureReason


class RequestStarted(Struct, frozen=True):
    """A request that will need a runner reached the server (or our shim)."""

    at: float
    id: Hashable
    model: str  # normalised name
    keep_alive: float | None = None  # seconds, inf for never, None: the request carries none
    num_ctx: int | None = None
    stop: bool = False  # empty prompt and keep_alive 0: `ollama stop`
    announced: bool = False  # by a command of ours: says nothing of how many requests are seen


class RequestAnswered(Struct, frozen=True):
    """The first byte of its answer came, so its runner is loaded."""

    at: float
    id: Hashable


class RequestEnded(Struct, frozen=True):
    """A request ended: it was answered in full, it failed, or its client left."""

    at: float
    id: Hashable
    failure: Failure | None = None


class ProcessesSeen(Struct, frozen=True):
    """Processes can be seen from now on, or no longer. An absence means something only if they can.

    After `seen` the watcher reports every process that exists, with the same `at`.
    """

    at: float
    seen: bool


class ProcessStarted(Struct, frozen=True):
    """A process of the server was born. `at` is when it was noticed, `born` its birth."""

    at: float
    born: float
    pid: int
    weights: str | None  # `sha256-HEX` of its command line; None: the server itself


class ProcessExited(Struct, frozen=True):
    """A process ended. `alive`: when it was last known to live; None: noticed at once."""

    at: float
    pid: int
    alive: float | None = None


class ProcessesScanned(Struct, frozen=True):
    """A complete scan ended at `at`: every process born before `began` has been reported.

    The absence of a birth proves something only up to that moment: a scan may come late.
    """

    at: float
    began: float


class WeightsNamed(Struct, frozen=True):
    """`/api/show` says which weights a name stands for now."""

    at: float
    model: str
    weights: str


class VersionAnswered(Struct, frozen=True):
    """An answer of `/api/version`. One that is not known proves nothing."""

    at: float
    version: str


class LogKind(StrEnum):
    """What a line of the server's log means. `host/log/patterns.py` has the wording."""

    SERVER_STARTED = "server_started"
    LOAD_STARTED = "load_started"  # weights, num_ctx (of one slot)
    LOAD_DONE = "load_done"  # seconds: the only true load time; no name
    LOAD_FAILED = "load_failed"  # or its client left; weights where they are known
    ROOM_WANTED = "room_wanted"  # a load needs memory, so a model is about to be evicted; no name
    OUT_OF_MEMORY = "out_of_memory"  # weights: of the runner that failed
    RUNNER_DIED = "runner_died"  # ended by itself; no name
    # only at debug level; each has the pid of its runner, most have its model and weights
    SET_UP = "set_up"  # loaded, the first request is served
    IDLE = "idle"  # seconds: the keep-alive in effect
    IDLE_AT_ZERO = "idle_at_zero"  # keep-alive 0, or chosen to unload while it was busy
    TIMER_EXPIRED = "timer_expired"
    EVICTING = "evicting"  # chosen to unload, for room or for a reload
    RELOADING = "reloading"  # other options, or it does not answer; EVICTING follows
    EXPIRING = "expiring"  # its unload begins, whatever the cause
    KILLED = "killed"  # its process is killed; from 0.30 on, only if it is not dead yet
    CLOSED = "closed"  # before 0.30: the same, and also when a request found it dead
    REMOVED = "removed"  # its process is dead and it is off the list
    SHUT_DOWN = "shut_down"  # the server shuts down


class LogSaid(Struct, frozen=True):
    """A line of the server's log. `at`: when it was read; `written`: its own moment."""

    at: float
    kind: LogKind
    written: float
    model: str | None = None  # normalised name
    weights: str | None = None  # `sha256-HEX`
    pid: int | None = None
    num_ctx: int | None = None
    seconds: float | None = None  # inf: for ever


RequestFact = RequestStarted | RequestAnswered | RequestEnded
ProcessFact = ProcessesSeen | ProcessesScanned | ProcessStarted | ProcessExited | WeightsNamed
Fact = Snapshot | PollFailed | RequestFact | ProcessFact | VersionAnswered | LogSaid
