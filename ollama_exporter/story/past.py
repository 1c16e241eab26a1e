# SPDX-License-Identifier: Apache-2.0
"""What happened: the records of the history, ready to be sent as JSON.

Moments, sizes and names are as in `status.py`. Each record keeps its number while it changes.
"""

from typing import Final

from msgspec import Struct

from ollama_exporter.moments import Moment

DAY: Final = 86_400.0


class PastEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A load, an unload or a restart, with the facts behind it."""

    id: int
    kind: str  # found, loaded, unloaded, restarted
    at: Moment  # its latest moment
    low: Moment  # it happened between `low` and `at`
    text: str  # in a few words: "evicted by mistral:latest"
    model: str = ""  # empty: it concerns the server
    reason: str = ""  # of an unload, as in the metrics
    by: str = ""  # the model that took the room, where it is known
    evidence: tuple[str, ...] = ()  # sentences that continue "because …"
    since: Moment | None = None  # of an unload: in memory since
    early: float | None = None  # seconds before its deadline, at least; -1: it had none
    load_seconds: float | None = None
    settled: Moment | None = None  # when the reason was known
    sure: float | None = None  # how likely the reason is right; None: not estimated


class Stay(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model in memory from its load to its end: a stretch of its bar."""

    id: int
    model: str
    start: Moment
    end: Moment | None = None  # None: it goes on
    loading: Moment | None = None  # when its load began; None: not known
    low: Moment | None = None  # its load was not seen: it appeared between `low` and `start`
    end_low: Moment | None = None  # it left between `end_low` and `end`; None: at `end`
    dead: bool = False  # it was listed, but its process was dead
    why: str = ""  # a word for its end; empty: not known yet
    event: int | None = None  # the number of the event that ended it


class PastRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A finished request: which model, when, and what its time was made of. No prompt, no client.

    `parts`: names and seconds in order of time; together they make the whole.
    """

    id: int
    model: str
    at: Moment  # when it arrived
    took: float
    start: str  # cold, warm, unknown
    outcome: str  # answered, client_gone, …
    failed: bool = False
    parts: tuple[tuple[str, float], ...] = ()


class RequestMinute(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The requests of one model that arrived in one minute."""

    id: int
    model: str
    at: Moment  # the minute's beginning
    cold: int = 0
    warm: int = 0
    failed: int = 0


class Outage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A time for which nothing is known."""

    id: int
    start: Moment
    end: Moment | None = None  # None: it goes on
    text: str = ""


PastRecord = PastEvent | Stay | PastRequest | RequestMinute | Outage


class Past(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Records, each kind from the oldest to the newest."""

    events: tuple[PastEvent, ...] = ()
    stays: tuple[Stay, ...] = ()
    requests: tuple[PastRequest, ...] = ()
    minutes: tuple[RequestMinute, ...] = ()
    outages: tuple[Outage, ...] = ()


class SavedPast(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a later process continues from."""

    at: Moment = 0.0
    past: Past = Past()
    most: int = 0  # bytes
