# SPDX-License-Identifier: Apache-2.0
"""How long earlier loads took, from an exporter's metrics or state file: scales progress bars."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from ollama_exporter.advice.exporter_source import read_samples
from ollama_exporter.advice.model_usage import records
from ollama_exporter.bounded_client import BoundedClient
from ollama_exporter.errors import SourceError
from ollama_exporter.protocol.model_names import match_key
from ollama_exporter.state_file import StateFile

SUM: Final = "ollama_model_load_seconds_sum"
COUNT: Final = "ollama_model_load_seconds_count"
PROGRESS: Final = "ollama_model_load_progress_ratio"


def earlier_loads(client: BoundedClient, url: str, names: Sequence[str]) -> dict[str, float]:
    """Return the mean load time, in seconds, of each name that the exporter knows. Never raises."""
    found: dict[str, float] = {}
    with suppress(SourceError):
        samples = read_samples(client, url, (SUM, COUNT))
        by_key = {match_key(each.model): each for each in records(samples)}
        for name in names:
            record = by_key.get(match_key(name))
            if record is not None and record.measured_load is not None:
                found[name] = record.measured_load
    return found


def loads_in_progress(
    client: BoundedClient, url: str, names: Sequence[str]
) -> dict[str, float] | None:
    """Return how far the exporter sees loads in progress, by name; None: it does not answer."""
    try:
        samples = read_samples(client, url, (PROGRESS,))
    except SourceError:
        return None
    by_key = {match_key(each.labels.get("model", "")): each.value for each in samples}
    return {name: by_key[match_key(name)] for name in names if match_key(name) in by_key}


def saved_loads(file: StateFile, names: Sequence[str]) -> dict[str, float]:
    """Return the mean load times from an exporter's state file. Never raises."""
    saved = file.peek()
    if saved is None:
        return {}
    by_key = {match_key(label): usage for label, usage in saved.usage.items()}
    usage = {name: by_key.get(match_key(name)) for name in names}
    return {
        name: each.load_seconds / each.loads
        for name, each in usage.items()
        if each is not None and each.loads
    }
