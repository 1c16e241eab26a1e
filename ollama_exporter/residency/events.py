# SPDX-License-Identifier: Apache-2.0
"""What the tracker reports: loads and unloads, and the state of every model it knows.

Moments are on the timeline of `facts.py` unless a field says otherwise.
"""

from enum import StrEnum

from msgspec import Struct

from ollama_exporter.protocol.wire import RunningModel


class Reason(StrEnum):
    """Why a model left memory. The one vocabulary of labels, logs and docs."""

    EXPIRED = "expired"
    STOPPED = "stopped"
    EVICTED = "evicted"
    OPTIONS_CHANGED = "options_changed"
    REPLACED = "replaced"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    SERVER_RESTARTED = "server_restarted"
    UNKNOWN = "unknown"


class Evidence(StrEnum):
    """What a reason rests on. The value is the sentence that logs, events and `replay` print.

    Each sentence continues "because …". No rule may depend on its wording.
    """

    # the deadline
    DEADLINE_BETWEEN_POLLS = "its keep-alive ran out between the two polls"
    EXITED_AT_DEADLINE = "its process ended when its keep-alive ran out"
    EXITED_AFTER_DEADLINE = "its process ended soon after its keep-alive ran out"
    DEADLINE_BEHIND_ANOTHER = "its keep-alive ran out while another model was being unloaded"
    DEADLINE_SET_BACK = "its deadline was set back to the present, which only a stop does"
    # requests
    STOP_CALL = "a request told the server to stop it"
    STOP_OR_VICTIM = "it was stopped as a load ended, while another model waited for memory"
    KEEP_ALIVE_ZERO = "its last request ended with keep_alive 0"
    REQUEST_CRASHED = "a request to it failed with a crash message"
    REQUEST_OUT_OF_MEMORY = "a request failed with an out-of-memory message"
    OTHER_MODEL_WAITED = "a request for another model was waiting for a load"
    OTHER_OPTIONS_WAITED = "a request with other options was waiting for the same weights"
    NEW_WEIGHTS_WAITED = "a request was waiting for other weights of its name"
    OTHER_MODEL_SERVED = "a request for another model was served between the two polls"
    # due to unload before it was ever idle: its deadline was always the present
    DUE_WITH_ZERO = "it was never idle, and its last request had keep_alive 0"
    DUE_BUT_NOT_NEEDED = "it was never idle, and no other model needed its memory"
    DUE_ZERO_OR_VICTIM = "it was never idle: keep_alive 0, or evicted while busy"
    DUE_WITH_OTHERS = "it was never idle, and others were unloaded with it"
    # what the polls showed next
    NEWCOMER = "another model appeared next"
    NEWCOMER_AND_RELOAD = "another model appeared, and it was loaded again between two polls"
    NEWCOMER_WOULD_FIT = "the next model to appear would have fitted beside it"
    NEWCOMER_NOT_NEW = "the next model to appear was listed before and after its unload"
    BACK_WITH_OTHER_CONTEXT = "the same model came back with another context or size"
    BACK_BESIDE_NEWCOMER = "it came back with another context, together with another model"
    BACK_UNCHANGED = "the same model came back unchanged"
    BACK_SOON = "the same model came back"
    CONTEXT_KEEPS_CHANGING = "its context changed at least twice within ten minutes"
    OTHER_DIGEST = "its name came back with another digest"
    OTHER_DIGEST_LATE = "its name came back with another digest, but late"
    # processes
    LISTED_AFTER_EXIT = "its process ended while the server still listed it"
    OTHERS_LEFT_WITH_IT = "its process ended by itself, and others were unloaded at that moment"
    ANOTHER_ENDED_BY_ITSELF = "the process of another model ended by itself at that moment"
    ANOTHER_OUT_OF_MEMORY = "another model had just run out of memory"
    OTHERS_DUE_WITH_IT = "as its process ended, other busy models were told to unload"
    LEFT_TOGETHER = "its process ended together with another one, which no unload does"
    BUSY_AT_OUT_OF_MEMORY = "it was busy when another model ran out of memory"
    OTHER_MODEL_STARTED = "another model was loaded as soon as its memory was free"
    SAME_WEIGHTS_STARTED = "the same weights were loaded again as soon as their memory was free"
    NEW_WEIGHTS_STARTED = "other weights of its name were loaded as soon as its memory was free"
    SAME_WEIGHTS_OTHER_CONTEXT = "the same weights were loaded again with another context"
    SAME_WEIGHTS_UNCHANGED = "the same weights were loaded again, with the same context"
    SAME_WEIGHTS_UNUSUAL = "the same weights were loaded again, but not at the usual moment"
    STARTED_UNUSUAL = "another model was loaded soon after, but not at the usual moment"
    FIRST_OF_SEVERAL = "it was the first of several models that made room for one"
    CONDEMNED_WHILE_BUSY = "it was told to unload while busy, as another load ended"
    AT_LOAD_END = "its process ended just as another load finished, like the next victim"
    NOTHING_STARTED = "its process ended before its deadline, and nothing was loaded in its place"
    STOP_OR_OUTRUN = "it ended as a load began that others had made room for, or it was stopped"
    # the server
    SERVER_EXITED = "the server's process ended"
    SERVER_EXITED_NEXT = "the server ended before anything could take its memory"
    NO_DEADLINE_KEPT = "the connection was lost, and no model kept its deadline"
    # the log
    LOG_EVICTED = "the log says that it had to make room"
    LOG_ROOM_WANTED = "the log says that a load needed room"
    LOG_LOAD_BETWEEN_POLLS = "the log says that a load began between the two polls"
    LOG_OPTIONS = "the log says that it was to be loaded with other options"
    LOG_EXPIRED = "the log says that its timer expired"
    LOG_STOPPED = "the log says that it was unloaded, neither for room nor by its timer"
    LOG_OUT_OF_MEMORY = "the log says that a runner ran out of memory"
    LOG_CRASHED = "the log says that its process was dead before it was unloaded"
    LOG_RUNNER_DIED = "the log says that a runner ended by itself"
    # no evidence
    NOT_WATCHED = "no poll was answered for a long time around its unload"
    NOTHING_DECISIVE = "nothing decisive was seen in time"


class Source(StrEnum):
    """What saw a load, besides a poll."""

    REQUEST = "request"
    PROCESS = "process"


class Measured(StrEnum):
    """How the duration of a load was measured."""

    PROCESS = "process"  # from the birth of its process to the first poll that listed it
    LOG = "log"  # the server's own figure


class Found(Struct, frozen=True):
    """A model was resident at the first poll. That is no load, but it may unload."""

    model: RunningModel
    at: float


class Loaded(Struct, frozen=True):
    """A model became resident at some moment in [not_before, not_after]."""

    model: RunningModel
    not_before: float
    not_after: float
    settled_at: float
    witnessed: frozenset[Source] = frozenset()
    load_seconds: float | None = None  # how long the load took; None: not measured
    measured: Measured | None = None


class Unloaded(Struct, frozen=True):
    """A model left memory in [not_before, not_after]. Reported once, when its reason is settled."""

    model: RunningModel  # as last listed
    reason: Reason
    evidence: tuple[Evidence, ...]
    not_before: float
    not_after: float
    settled_at: float
    resident_since: float  # first poll that listed this incarnation
    by: str | None = None  # evicted: the model that took the room, where it is known
    early: float | None = None  # seconds before its deadline, at least; inf: pinned for ever
    sure: float = 0.0  # how likely the reason is right, 0 to 1: how often its evidence was so far


class Restarted(Struct, frozen=True):
    """The server was restarted in [not_before, not_after]."""

    not_before: float
    not_after: float


Event = Found | Loaded | Unloaded | Restarted


class ModelState(Struct, frozen=True):
    """What is known about one model name now."""

    name: str
    resident: tuple[RunningModel, ...]  # as last listed; one name may have two entries
    since: float | None  # first poll that listed the (youngest) incarnation
    keep_alive: float | None  # seconds in effect, inf for never, None: not known
    last_use: float | None  # end of the last known request
    runner_up: bool | None = None  # False: listed, but its process is dead; None: not known
    loading_since: float | None = None  # birth of a process that is not listed yet
    pids: tuple[int, ...] = ()  # of its living runners
    deadline: float | None = None  # as last announced, on our timeline, inf for never


class View(Struct, frozen=True):
    """Everything that `/metrics` and the schedule of polls need from the tracker. Immutable."""

    models: tuple[ModelState, ...]  # every name seen since the start, sorted
    pending: int  # unloads whose reason is not settled yet
    deadlines: tuple[float, ...]  # known deadlines of resident models, on our timeline
    last_early: float | None  # when the last early unload was settled; polls are denser after it
    last_seen: float | None  # end of the last answered poll; None: none yet
    poll_requested_at: float | None = None  # by a request that waits
    complete: bool = False  # the requests seen cover (nearly) all loads
    urgent: float | None = None  # when a birth, an exit or a load under way wants a poll
    server_started: float | None = None  # birth of the server's process; None: not seen
    shared: bool = False  # several servers seem to answer at this address,
    suspected: bool = False  # or may answer
    inventory_wanted: bool = False  # their versions and installed models would tell
    reconnects: bool = False  # connections end on this path by habit
    contradictions: int = 0  # lines of the log that polls have contradicted, since the start
