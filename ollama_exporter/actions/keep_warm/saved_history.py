# SPDX-License-Identifier: Apache-2.0
"""What the state file keeps of keep-warm: stops, back-offs, conflicts and the loads of an hour."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SavedHistory:
    """What happened to one model; see `ModelHistory`. Times are on the timeline."""

    loads: tuple[float, ...] = ()
    failures: int = 0
    not_before: float = 0.0
    waiting: str = ""
    held_until: float = 0.0
    held: str = ""
    was_resident: bool = False  # or its unload had no reason yet


@dataclass(frozen=True, slots=True)
class SavedConflict:
    """Two models that did not fit together."""

    models: tuple[str, str]
    at: float


@dataclass(frozen=True, slots=True)
class SavedKeepWarm:
    """The histories of all models."""

    models: dict[str, SavedHistory] = field(default_factory=dict)
    conflicts: tuple[SavedConflict, ...] = ()
