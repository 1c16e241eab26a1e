# SPDX-License-Identifier: Apache-2.0
"""The record of an event, as the page and `top` show it."""

from ollama_exporter.protocol.keepalive import as_number
from ollama_exporter.residency.events import Event, Found, Loaded, Restarted, Unloaded
from ollama_exporter.story.past import PastEvent
from ollama_exporter.story.phrases import shown, unload_in_words


def event_record(event: Event, number: int) -> PastEvent:
    """Return the record of an event; `number`: no other record's."""
    match event:
        case Found(model=model, at=at):
            return PastEvent(
                id=number,
                kind="found",
                at=at,
                low=at,
                text="in memory at the start",
                model=shown(model.name),
            )
        case Loaded(model=model):
            return PastEvent(
                id=number,
                kind="loaded",
                at=event.not_after,
                low=event.not_before,
                text="loaded",
                model=shown(model.name),
                load_seconds=event.load_seconds,
                settled=event.settled_at,
            )
        case Restarted():
            return PastEvent(
                id=number,
                kind="restarted",
                at=event.not_after,
                low=event.not_before,
                text="the server restarted",
            )
        case Unloaded():
            return _unload_record(event, number)


def _unload_record(event: Unloaded, number: int) -> PastEvent:
    return PastEvent(
        id=number,
        kind="unloaded",
        at=event.not_after,
        low=event.not_before,
        text=unload_in_words(event),
        model=shown(event.model.name),
        reason=event.reason.value,
        by="" if event.by is None else shown(event.by),
        evidence=tuple(event.evidence),
        since=event.resident_since,
        early=None if event.early is None else as_number(event.early),
        settled=event.settled_at,
        sure=round(event.sure, 3) or None,
    )
