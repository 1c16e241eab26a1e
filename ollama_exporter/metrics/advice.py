# SPDX-License-Identifier: Apache-2.0
"""The advice as families: the value, and what it rests on."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ollama_exporter.metrics.families import Families, constant


@dataclass(frozen=True, slots=True)
class Row:
    """What is advised for one label. Seconds and bytes."""

    label: str
    keep_alive: float  # inf: pin
    samples: float  # idle gaps
    load_seconds: float
    memory_bytes: float


class AdviceCollector:
    """Section Policy of the catalogue."""

    name = "advice"

    def __init__(self, rows: Callable[[], Iterable[Row]]) -> None:
        self._rows = rows

    def collect(self) -> Families:
        """Yield the families."""
        rows = list(self._rows())
        for name, value in (
            ("ollama_model_advised_keep_alive_seconds", lambda row: row.keep_alive),
            ("ollama_model_advice_samples", lambda row: row.samples),
            ("ollama_model_advice_load_seconds", lambda row: row.load_seconds),
            ("ollama_model_advice_memory_bytes", lambda row: row.memory_bytes),
        ):
            yield constant(name, [((row.label,), float(value(row))) for row in rows])
