# SPDX-License-Identifier: Apache-2.0
"""What the tracker says: loads and unloads, and the state of every model it knows.

Moments are on the timeline of `facts.py` unless a field says otherwise.
"""

from dataclasses import dataclass
from enum import StrEnum

from ollama_exporter.protocol.wire import RunningModel


class Reason(StrEnum):
    """Why a model left memory; the one vocabulary of labels, logs and docs."""

    EXPIRED = "expired"
    STOPPED = "stopped"
    EVICTED = "evicted"
    OPTIONS_CHANGED = "options_changed"
    REPLACED = "replaced"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    SERVER_RESTARTED = "server_restarted"
    UNKNOWN = "unknown"


class Source(StrEnum):
    """What else than a poll saw a load."""

    REQUEST = "request"
    PROCESS = "process"


class Measured(StrEnum):
    """By what a load's duration was measured."""

    PROCESS = "process"  # from the birth of its process to the first poll that listed it
    LOG = "log"  # the server's own figure


@dataclass(frozen=True, slots=True)
class Found:
    """A model was resident at the first poll: not a load, but it may unload."""

    model: RunningModel
    at: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """Absent -> resident, somewhere in [not_before, not_after]."""

    model: RunningModel
    not_before: float
    not_after: float
    settled_at: float
    witnessed: frozenset[Source] = frozenset()
    load_seconds: float | None = None  # how long the load took; None: not measured
    measured: Measured | None = None


@dataclass(frozen=True, slots=True)
class Unloaded:
    """Resident -> absent in [not_before, not_after]. Said once, when its reason is settled."""

    model: RunningModel  # as last listed
    reason: Reason
    evidence: tuple[str, ...]  # short constant strings
    not_before: float
    not_after: float
    settled_at: float
    resident_since: float  # first poll that listed this incarnation
    by: str | None = None  # evicted: the model that took the room, where it is known
    early: float | None = None  # seconds before its deadline, at least; inf: pinned for ever


@dataclass(frozen=True, slots=True)
class Restarted:
    """The server was restarted in [not_before, not_after]."""

    not_before: float
    not_after: float


Event = Found | Loaded | Unloaded | Restarted


@dataclass(frozen=True, slots=True)
class ModelState:
    """What is known of one model name now."""

    name: str
    resident: tuple[RunningModel, ...]  # as last listed; two entries of one name are possible
    since: float | None  # first poll that listed the (youngest) incarnation
    keep_alive: float | None  # seconds in effect, inf for never, None: not known
    last_use: float | None  # end of the last known request
    runner_up: bool | None = None  # False: listed, its process is dead; None: not listed, not seen
    loading_since: float | None = None  # birth of a process that is not listed yet
    pids: tuple[int, ...] = ()  # of its living runners
    deadline: float | None = None  # as last announced, on our timeline, inf for never


@dataclass(frozen=True, slots=True)
class View:
    """Everything `/metrics` needs from the tracker, immutable."""

    models: tuple[ModelState, ...]  # every name seen since the start, sorted
    pending: int  # unloads whose reason is not settled yet
    deadlines: tuple[float, ...]  # known expiries of resident models, on our timeline
    last_early: float | None  # when the last early unload was settled: polls are denser after it
    last_seen: float | None  # end of the last answered poll; None: none yet
    asked: float | None = None  # a fact newer than the last poll says that something changed
    complete: bool = False  # the requests seen cover (nearly) all loads
    urgent: float | None = None  # a birth, a death or a load under way wants a poll then
    server_started: float | None = None  # birth of the server's process; None: not seen
    contradictions: int = 0  # lines of the log that the polls contradict, since the start
