# SPDX-License-Identifier: Apache-2.0
"""Reads the use of models from the /metrics of a running exporter."""

import re
import time
from collections.abc import Collection, Iterator
from typing import Final
from urllib.parse import urlsplit

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from ollama_exporter.advice.model_usage import (
    COUNTERS,
    GAUGES,
    UsageHistory,
    UsageSample,
    records,
)
from ollama_exporter.bounded_client import BoundedClient, printable, reason
from ollama_exporter.errors import SourceError
from ollama_exporter.foreign_text import query

STARTED: Final = "process_start_time_seconds"
UP: Final = "ollama_up"
HINT: Final = ". Start `ollama-exporter`, or give the URL of a running one."
SINCE: Final = "ollama_model_advice_since_timestamp_seconds"
WANTED: Final = frozenset({*COUNTERS, *GAUGES, STARTED, SINCE, UP})
# The library's parser takes quadratic time for a line with many labels. Ours have at most three,
# with names of at most 256 characters, each of which an escape may double.
LONGEST_LINE: Final = 4096
INSTANCE: Final = "instance"
NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


class _Group(msgspec.Struct):
    labels: dict[str, str] = {}


def from_exporter(client: BoundedClient, url: str) -> UsageHistory:
    """Return what an exporter has counted since its start. Raises SourceError."""
    text = client.fetch("GET", metrics_url(url), hint=HINT).decode(errors="replace")
    return from_text(text, source=printable(metrics_url(url)), now=time.time())


def from_target(client: BoundedClient, url: str, name: str) -> UsageHistory:
    """Return what an exporter of several servers has counted of one. Raises SourceError."""
    probe = probe_url(url, name)
    text = client.fetch("GET", probe, hint=HINT).decode(errors="replace")
    return from_text(text, source=f"{printable(probe)}", now=time.time())


def from_all_targets(client: BoundedClient, url: str) -> UsageHistory:
    """Return the same of all its servers, kept apart by their names. Raises SourceError."""
    discovered = client.fetch("GET", f"{_base(url)}/sd", hint=HINT)
    try:
        groups = msgspec.json.decode(discovered, type=list[_Group])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise SourceError(f"{printable(url)} serves no list of targets") from err
    names = [name for group in groups if (name := group.labels.get("__param_target"))]
    if not names:
        raise SourceError(f"{printable(url)} watches no targets; ask without --target")
    samples: list[UsageSample] = []
    for name in names:
        probe = probe_url(url, name)
        text = client.fetch("GET", probe).decode(errors="replace")
        samples += [
            UsageSample(each.name, {**each.labels, INSTANCE: name}, each.value)
            for each in samples_of(text, WANTED, source=printable(probe))
        ]
    begun = [x.value for x in samples if x.name == SINCE and x.value > 0]
    span = time.time() - min(begun) if begun else None
    source = f"{printable(url)}, counted since its start"
    return UsageHistory(records(samples, by=INSTANCE), source, span, hosts=len(names))


def probe_url(url: str, name: str) -> str:
    """Return the URL of the metrics of one target."""
    return f"{_base(url)}/probe?{query({'target': name})}"


def _base(url: str) -> str:
    return url.rstrip("/").removesuffix("/metrics")


def from_text(text: str, *, source: str, now: float) -> UsageHistory:
    """Return the same from the text of an exposition; `now`: Unix seconds. Raises SourceError."""
    samples = list(samples_of(text, WANTED, source=source))
    if not any(sample.name == UP for sample in samples):
        raise SourceError(f"{source} serves no metrics of ollama_exporter")
    begun = [x.value for x in samples if x.name in (STARTED, SINCE) and 0 < x.value <= now]
    span = now - min(begun) if begun else None
    return UsageHistory(records(samples), f"{source}, counted since its start", span)


def read_samples(client: BoundedClient, url: str, names: Collection[str]) -> list[UsageSample]:
    """Return the samples with these names from an exporter. Raises SourceError."""
    query = "&".join(f"name[]={name}" for name in sorted(names))
    body = client.fetch("GET", f"{metrics_url(url)}?{query}")
    return list(samples_of(body.decode(errors="replace"), names, source=printable(url)))


def metrics_url(url: str) -> str:
    """Return the URL of the metrics: without a path, that of the default telemetry path."""
    try:
        path = urlsplit(url).path
    except ValueError:  # `http://[`: the request will say what is wrong with it
        return url
    return f"{url.rstrip('/')}/metrics" if path in ("", "/") else url


def samples_of(text: str, names: Collection[str], *, source: str) -> Iterator[UsageSample]:
    """Yield the samples with these names from an exposition. Raises SourceError."""
    lines = [line for line in text.split("\n") if _is_wanted(line, names)]
    try:
        for family in text_string_to_metric_families("\n".join([*lines, ""])):
            for sample in family.samples:
                yield UsageSample(sample.name, sample.labels, float(sample.value))
    except (ValueError, KeyError, IndexError) as err:
        raise SourceError(f"{source} does not answer with metrics: {reason(err)}") from err


def _is_wanted(line: str, names: Collection[str]) -> bool:
    name = NAME.match(line) if len(line) <= LONGEST_LINE else None
    return name is not None and name.group() in names
