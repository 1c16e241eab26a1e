# SPDX-License-Identifier: Apache-2.0
"""The state of one server now, as people see it. Frozen, and ready to be sent as JSON.

Moments are Unix seconds on the exporter's timeline; `Status.skew` is what to add if the wall clock
was set since. Sizes are bytes, durations seconds, and -1 seconds means forever. Names are safe to
print.
"""

from msgspec import Struct


class ServerNow(Struct, frozen=True, kw_only=True):
    """The server that is watched."""

    url: str  # without user info
    up: bool
    version: str | None = None
    started: float | None = None  # None: its process is not seen
    polled: bool = False  # a poll has ended, answered or not
    seen: float | None = None  # end of the last answered poll
    pending: int = 0  # unloads whose reason is not settled yet
    shared: bool = False  # several servers seem to answer: unloads are not counted


class ModelNow(Struct, frozen=True, kw_only=True):
    """A model that is in memory, or on its way there."""

    name: str
    resident: bool  # listed by the server
    dead: bool = False  # its process is dead although it is listed
    loading_since: float | None = None  # None: no process of it is loading
    since: float | None = None  # the first poll that listed it
    deadline: float | None = None  # corrected by the server's clock; None: not announced
    keep_alive: float | None = None  # in effect; None: not known
    pinned: bool = False  # it never expires
    busy: bool = False  # a request runs, as far as is seen
    requests: int = 0  # in flight through the proxy
    size: int = 0
    size_vram: int | None = None
    context: int | None = None  # tokens of one slot
    context_used: int | None = None  # the fullest busy slot; None: slots are not seen
    slots: int | None = None  # None: not seen
    slots_busy: int = 0
    rank: int | None = None  # 1: the first to go if another model needs the room
    rank_known: bool = False  # the rank rests on a known keep-alive
    last_use: float | None = None
    tokens_per_second: float | None = None  # of its last answer
    parameter_size: str = ""
    quantization: str = ""


class MemoryNow(Struct, frozen=True, kw_only=True):
    """How full memory is. What fits is known only from what was held at one time."""

    used: int = 0
    most: int = 0  # the most that was seen in memory at one time


class WaitingNow(Struct, frozen=True, kw_only=True):
    """A request that waits for a load."""

    model: str
    since: float


class AdviceNow(Struct, frozen=True, kw_only=True):
    """The advice on one model."""

    model: str
    advised: float  # keep-alive
    in_force: float | None  # None: not known
    samples: int  # idle gaps that it rests on
    basis: str  # how much data it rests on, in words
    saves: str = ""  # empty: no change is advised
    line: str = ""  # to paste into a shell; empty: no change is advised


class SourceNow(Struct, frozen=True, kw_only=True):
    """A source of what is known."""

    name: str
    on: bool
    detail: str
    line: str = ""  # the flag that turns it on


class Status(Struct, frozen=True, kw_only=True):
    """All that is known of one server now."""

    server: ServerNow
    memory: MemoryNow
    models: tuple[ModelNow, ...] = ()  # by name
    waiting: tuple[WaitingNow, ...] = ()  # the longest first
    advice: tuple[AdviceNow, ...] = ()
    sources: tuple[SourceNow, ...] = ()
    skew: float = 0.0
