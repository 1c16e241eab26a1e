# SPDX-License-Identifier: Apache-2.0
"""How long earlier loads took, from an exporter's metrics or state file: scales progress bars."""

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
MAX_BYTES: Final = 16 << 20


def earlier_loads(url: str, names: Sequence[str]) -> dict[str, float]:
    """Return the mean load time, in seconds, of each name that the exporter knows. Never raises."""
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
                return _means(answer.read(MAX_BYTES).decode(), names)
        finally:
            connection.close()
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
