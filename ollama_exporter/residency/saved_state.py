# SPDX-License-Identifier: Apache-2.0
"""What of the tracker outlives its process: the incarnations and when they were last seen."""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ollama_exporter.residency.facts import Snapshot
from ollama_exporter.residency.incarnation import Incarnation


class Saved(Struct, frozen=True):
    """The incarnations. `last` has no models, because the incarnations have them."""

    last: Snapshot | None
    lives: tuple[Incarnation, ...]
    known: tuple[str, ...]


def save(last: Snapshot | None, lives: Iterable[Incarnation], known: Iterable[str]) -> Saved:
    """Return a copy: the incarnations go on."""
    # The server's clock is learned anew, and its first epoch is 0.
    copies = tuple(replace(life, epoch=0) for life in lives)
    return Saved(None if last is None else replace(last, models=()), copies, tuple(known))


def to_builtins(saved: Saved) -> dict[str, Any]:
    """Return it as JSON can hold it, except for infinities."""
    return dict(msgspec.to_builtins(saved))


def from_builtins(loaded: object) -> Saved:
    """Return what was saved. Raises msgspec.ValidationError."""
    return msgspec.convert(loaded, Saved)
