# SPDX-License-Identifier: Apache-2.0
"""What the tracker is told: polls, requests and processes, each a fact with its moment.

Every moment is in seconds on one timeline: Unix time when the exporter started plus monotonic time
since, so that a stepped wall clock moves nothing. Only `Snapshot.date` and
`RunningModel.expires_at` are on the server's clock.
"""

from collections.abc import Hashable
from dataclasses import dataclass

from ollama_exporter.errors import FailureReason
from ollama_exporter.protocol.failures import Failure
from ollama_exporter.protocol.wire import RunningModel


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An answered poll of `/api/ps`."""

    started: float
    ended: float
    models: tuple[RunningModel, ...]
    date: float | None = None  # the answer's Date header: whole Unix seconds, server's clock
    new_connection: bool = False  # this poll had to open a connection (also the very first one)


@dataclass(frozen=True, slots=True)
class PollFailed:
    """A poll without a usable answer. Never an unload."""

    started: float
    ended: float
    reason: FailureReason


@dataclass(frozen=True, slots=True)
class RequestStarted:
    """A request that will need a runner reached the server (or our shim)."""

    at: float
    id: Hashable
    model: str  # normalised name
    keep_alive: float | None = None  # seconds, inf for never, None: the request carries none
    num_ctx: int | None = None
    stop: bool = False  # empty prompt and keep_alive 0: `ollama stop`


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """The first byte of its body came: its runner is loaded."""

    at: float
    id: Hashable


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """A request ended: answered in full, failed, or left by its client."""

    at: float
    id: Hashable
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class ProcessStarted:
    """A process of the server's was born. `at` is when it was noticed, `born` its birth."""

    at: float
    born: float
    pid: int
    weights: str | None  # `sha256-HEX` of its command line; None: the server itself


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """That process died."""

    at: float
    pid: int


@dataclass(frozen=True, slots=True)
class WeightsNamed:
    """`/api/show` said which weights a name stands for now."""

    at: float
    model: str
    weights: str


RequestFact = RequestStarted | RequestAnswered | RequestEnded
ProcessFact = ProcessStarted | ProcessExited | WeightsNamed
Fact = Snapshot | PollFailed | RequestFact | ProcessFact
