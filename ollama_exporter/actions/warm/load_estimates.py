# SPDX-License-Identifier: Apache-2.0
"""How long earlier loads took, from an exporter's metrics or state file: scales progress bars."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from ollama_exporter.advice.sources import read_exposition
from ollama_exporter.errors import HistoryError
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.state_file import StateFile

SUM: Final = "ollama_model_load_seconds_sum"
COUNT: Final = "ollama_model_load_seconds_count"
TIMEOUT: Final = 1.0


def earlier_loads(url: str, names: Sequence[str]) -> dict[str, float]:
    """Return the mean load time, in seconds, of each name that the exporter knows. Never raises."""
    with suppress(HistoryError, ValueError, KeyError, IndexError):
        return _means(read_exposition(url, names=(SUM, COUNT), timeout=TIMEOUT), names)
    return {}


def saved_loads(file: StateFile, names: Sequence[str]) -> dict[str, float]:
    """Return the mean load times from an exporter's state file. Never raises."""
    saved = file.peek()
    if saved is None:
        return {}
    usage = {name: saved.usage.get(normalise(name)) for name in names}
    return {
        name: each.load_seconds / each.loads
        for name, each in usage.items()
        if each is not None and each.loads
    }


def _means(text: str, names: Sequence[str]) -> dict[str, float]:
    values: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in (SUM, COUNT):
                values[sample.name, sample.labels.get("model", "")] = sample.value
    found = {}
    for name in names:
        model = normalise(name)
        count = values.get((COUNT, model), 0.0)
        if count > 0:
            found[name] = values.get((SUM, model), 0.0) / count
    return found
