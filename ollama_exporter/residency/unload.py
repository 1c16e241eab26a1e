# SPDX-License-Identifier: Apache-2.0
"""One unload, however it is known, and those whose reasons are not settled yet."""

from collections.abc import Iterator
from typing import TypeVar

from msgspec import Struct

from ollama_exporter.residency.events import Reason, Unloaded
from ollama_exporter.residency.incarnation import Incarnation, Key
from ollama_exporter.residency.rules.sureness import sure
from ollama_exporter.residency.rules.verdict import Verdict


class ModelUnload(Struct, eq=False):
    """An incarnation ended within [low, high]: between two polls, or as its process exited.

    Each source attaches what it knows: `PollUnload`, or `ProcessExit`.
    """

    life: Incarnation
    low: float
    high: float
    reason: Reason | None = None  # once it is settled
    by: str | None = None

    @property
    def key(self) -> Key:
        """Name and digest of the model."""
        return self.life.model.key

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.life.model.name

    @property
    def known_at(self) -> float:
        """When it was known, or when polls last told something of it."""
        return self.high


def unloaded(unload: ModelUnload, found: Verdict, now: float) -> Unloaded:
    """Return that an incarnation ended."""
    life = unload.life
    return Unloaded(
        life.model,
        found.reason,
        found.evidence,
        unload.low,
        unload.high,
        now,
        life.first_seen,
        by=found.by,
        early=life.early(unload.high),
        sure=sure(found),
    )


Kind = TypeVar("Kind", bound=ModelUnload)


class PendingUnloads:
    """The unloads whose reasons are not settled, oldest first."""

    def __init__(self) -> None:
        self._unloads: dict[int, ModelUnload] = {}  # by identity

    def of(self, *kinds: type[Kind]) -> list[Kind]:
        """Return those that these sources show."""
        return [unload for unload in self._unloads.values() if isinstance(unload, kinds)]

    def add(self, unload: ModelUnload) -> None:
        """Add an unload."""
        self._unloads[id(unload)] = unload

    def cancel(self, unload: ModelUnload) -> None:
        """Remove one that was none."""
        del self._unloads[id(unload)]

    def settle(self, unload: ModelUnload, found: Verdict, now: float) -> Unloaded:
        """Note its reason, and return what is to be reported."""
        del self._unloads[id(unload)]
        unload.reason, unload.by = found.reason, found.by
        return unloaded(unload, found, now)

    def __iter__(self) -> Iterator[ModelUnload]:
        return iter(self._unloads.values())

    def __len__(self) -> int:
        return len(self._unloads)
