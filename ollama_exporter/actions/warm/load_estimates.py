# SPDX-License-Identifier: Apache-2.0
"""How long loads took, as an exporter has counted it: the estimate of a progress bar."""

import http.client
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.state_file import StateFile

SUM: Final = "ollama_model_load_seconds_sum"
COUNT: Final = "ollama_model_load_seconds_count"
TIMEOUT: Final = 1.0
LARGEST: Final = 16 << 20


def earlier_loads(url: str, names: Sequence[str]) -> dict[str, float]:
    """Return the mean seconds of a load for each of these names that is known. Never raises."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        return {}
    with suppress(OSError, http.client.HTTPException, ValueError):
        connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=TIMEOUT)
        try:
            query = "&".join(f"name[]={name}" for name in (SUM, COUNT))
            connection.request("GET", f"{parts.path or '/metrics'}?{query}")
            answer = connection.getresponse()
            if answer.status == HTTPStatus.OK:
                return _means(answer.read(LARGEST).decode(), names)
        finally:
            connection.close()
    return {}


def saved_loads(file: StateFile, names: Sequence[str]) -> dict[str, float]:
    """Return the same from the state file of an exporter of that server. Never raises."""
    saved = file.peek()
    if saved is None:
        return {}
    habits = {name: saved.habits.get(normalise(name)) for name in names}
    return {
        name: habit.load_seconds / habit.loads
        for name, habit in habits.items()
        if habit is not None and habit.loads
    }


def _means(text: str, names: Sequence[str]) -> dict[str, float]:
    sums: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in (SUM, COUNT):
                sums[sample.name, sample.labels.get("model", "")] = sample.value
    found = {}
    for name in names:
        model = normalise(name)
        count = sums.get((COUNT, model), 0.0)
        if count > 0:
            found[name] = sums.get((SUM, model), 0.0) / count
    return found
