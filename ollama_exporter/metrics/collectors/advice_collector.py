# SPDX-License-Identifier: Apache-2.0
"""Section Policy: the advice, and what it rests on."""

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from ollama_exporter.metrics.from_catalog import Families, constant

ADVISED: Final = "ollama_model_advised_keep_alive_seconds"
SAMPLES: Final = "ollama_model_advice_samples"
LOAD: Final = "ollama_model_advice_load_seconds"
IN_FORCE: Final = "ollama_model_last_keep_alive_seconds"
MEMORY: Final = "ollama_model_advice_memory_bytes"
LOADS: Final = "ollama_model_advice_loads"
SINCE: Final = "ollama_model_advice_since_timestamp_seconds"


class AdviceRow(Struct, frozen=True):
    """The advice for one label, in seconds and bytes."""

    label: str
    keep_alive: float  # inf: never unload
    samples: float  # number of idle gaps
    load_seconds: float
    memory_bytes: float
    in_force: float | None  # the last known keep-alive
    loads: int  # measured loads; 0: the load time is estimated
    since: float | None  # Unix time at which counting began


class AdviceCollector:
    """The families of the section that show the advice."""

    name = "advice"

    def __init__(self, rows: Callable[[], Iterable[AdviceRow]]) -> None:
        self._rows = rows

    def collect(self) -> Families:
        """Yield the families."""
        rows = list(self._rows())
        yield constant(ADVISED, [((row.label,), row.keep_alive) for row in rows])
        yield constant(SAMPLES, [((row.label,), row.samples) for row in rows])
        yield constant(LOAD, [((row.label,), row.load_seconds) for row in rows])
        yield constant(MEMORY, [((row.label,), row.memory_bytes) for row in rows])
        yield constant(LOADS, [((row.label,), float(row.loads)) for row in rows])
        begun = [(row.label, row.since) for row in rows]
        yield constant(SINCE, [((label,), x) for label, x in begun if x is not None])
        known = [(row.label, row.in_force) for row in rows]
        yield constant(IN_FORCE, [((label,), x) for label, x in known if x is not None])
