# SPDX-License-Identifier: Apache-2.0
"""The document of `/api/v1/targets`: several servers, in short. Pure.

Moments, sizes and names are as in `status.py`.
"""

import math
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from ollama_exporter.poller.published import Published
from ollama_exporter.residency.events import ModelState
from ollama_exporter.story.document import decoded
from ollama_exporter.story.hidden_story import Hide
from ollama_exporter.story.phrases import shown

TARGETS: Final = "/api/v1/targets"


class TargetModel(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model in the memory of a server."""

    name: str
    size: int = 0
    deadline: float | None = None  # None: not announced, or it never expires
    pinned: bool = False  # it never expires


class TargetNow(Struct, frozen=True, kw_only=True):
    """One of several servers. Its name is as the configuration has it."""

    name: str
    up: bool
    version: str | None = None
    models: tuple[TargetModel, ...] = ()  # in the order in which their keep-alives run out


class FleetDocument(Struct, frozen=True, kw_only=True):
    """All servers of an exporter."""

    now: float  # when it was made, Unix seconds
    skew: float = 0.0
    targets: tuple[TargetNow, ...] = ()  # those that do not answer first, then by name


def fleet_document(
    rows: Iterable[tuple[str, Published]], *, now: float, skew: float = 0.0, hide: Hide | None
) -> FleetDocument:
    """Return it. `rows`: names of targets, with what is known; `hide`: replaces names of models."""
    named = hide or shown
    targets = [
        TargetNow(
            name=name,
            up=published.server.up,
            version=published.server.version,
            models=tuple(sorted(_models(published, named), key=_leaving)),
        )
        for name, published in rows
    ]
    targets.sort(key=lambda target: (target.up, target.name))
    return FleetDocument(now=round(now, 3), skew=round(skew, 1) + 0.0, targets=tuple(targets))


def read_fleet(body: bytes, *, source: str = "") -> FleetDocument:
    """Return a document; fields that it does not know are ignored. Raises SourceError."""
    return decoded(body, FleetDocument, what="list", source=source)


def _models(published: Published, named: Hide) -> Iterable[TargetModel]:
    states = published.view.models if published.is_listed else ()
    return (_model(state, named) for state in states if state.resident)


def _model(state: ModelState, named: Hide) -> TargetModel:
    deadline = state.deadline
    return TargetModel(
        name=named(state.name),
        size=sum(model.size for model in state.resident),
        deadline=None if deadline is None or math.isinf(deadline) or deadline <= 0 else deadline,
        pinned=deadline is not None and math.isinf(deadline),
    )


def _leaving(model: TargetModel) -> tuple[bool, float, str]:
    return model.deadline is None, model.deadline or 0.0, model.name
