# SPDX-License-Identifier: Apache-2.0
"""What the state file keeps of the use of each model."""

from msgspec import Struct

from ollama_exporter.advice.idle_histogram import IdleHistogram
from ollama_exporter.moments import Moment


class SavedUsage(Struct, frozen=True):
    """What the advice on one model rests on. A field that an older file lacks has its default."""

    gaps: IdleHistogram
    inferred: float = 0.0  # gaps among them that polls alone showed
    load_seconds: float = 0.0  # of all measured loads
    loads: int = 0  # measured loads
    memory: int = 0  # bytes when the model was last resident
    keep_alive: tuple[float, float] | None = None  # bounds of the last one, inf: never expires
    since: Moment | None = None  # Unix time at which counting began
