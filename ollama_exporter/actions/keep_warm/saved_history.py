# SPDX-License-Identifier: Apache-2.0
"""What the state file keeps of keep-warm: stops, back-offs, conflicts and the loads of an hour."""

from msgspec import Struct, field

from ollama_exporter.moments import Moment, Moments


class SavedHistory(Struct, frozen=True):
    """What happened to one model; see `ModelHistory`. Times are on the timeline."""

    loads: Moments = ()
    failures: int = 0
    not_before: Moment = 0.0
    waiting: str = ""
    held_until: Moment = 0.0
    held: str = ""
    was_resident: bool = False  # or its unload had no reason yet


class SavedConflict(Struct, frozen=True):
    """Two models that did not fit together."""

    models: tuple[str, str]
    at: Moment


class SavedKeepWarm(Struct, frozen=True):
    """The histories of all models."""

    models: dict[str, SavedHistory] = field(default_factory=dict)
    conflicts: tuple[SavedConflict, ...] = ()
