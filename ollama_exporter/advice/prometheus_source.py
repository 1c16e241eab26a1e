# SPDX-License-Identifier: Apache-2.0
"""Reads the use of models from Prometheus, or from anything with its HTTP API (Thanos, Mimir)."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from ollama_exporter.advice.model_usage import (
    COUNTERS,
    GAUGES,
    KEEP_ALIVES,
    UsageHistory,
    UsageSample,
    records,
)
from ollama_exporter.bounded_client import BoundedClient, printable, reason
from ollama_exporter.errors import ConfigError, SourceError

STEPS: Final = 300  # resolution of the search for the oldest sample
LEAST_WINDOW: Final = 60.0
LONGEST_WINDOW: Final = 366 * 86400.0
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604_800, "y": 31_536_000}
PART: Final = re.compile(r"(\d{1,12})([smhdwy])")
LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
LONGEST_SETTING: Final = 64  # characters of a window or of a label's name
MOST_WARNINGS: Final = 10
HINT: Final = ". Is Prometheus running there?"


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """What to ask for. `window`: seconds; `by`: a label that keeps hosts apart, if not empty."""

    window: float
    by: str = ""


def window(text: str) -> float:
    """Return the seconds of a duration in the syntax of Prometheus. Raises ConfigError."""
    parts = PART.findall(text[:LONGEST_SETTING])
    seconds = float(sum(int(number) * UNITS[unit] for number, unit in parts))
    whole = "".join(number + unit for number, unit in parts) == text
    if not whole or not LEAST_WINDOW <= seconds <= LONGEST_WINDOW:
        accepted = "accepted: a duration from 1m to 1y such as 14d, 36h, 2w"
        raise ConfigError("window", text[:LONGEST_SETTING], accepted)
    return seconds


def label(text: str) -> str:
    """Return the name of a label. Raises ConfigError."""
    if len(text) > LONGEST_SETTING or not LABEL.fullmatch(text) or text in ("model", "le"):
        accepted = "accepted: a label that keeps hosts apart, such as instance"
        raise ConfigError("by", text[:LONGEST_SETTING], accepted)
    return text


class _Series(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _Data(msgspec.Struct):
    result: list[_Series]


class _Answer(msgspec.Struct):
    status: str
    data: _Data | None = None
    error: str = ""
    warnings: list[str] = []


def from_prometheus(client: BoundedClient, url: str, query: HistoryQuery) -> UsageHistory:
    """Return the increases over the window. Raises SourceError."""
    source = Prometheus(client, url.rstrip("/"))
    samples = list(_samples(source, query))
    step = max(query.window / STEPS, 1.0)
    every = f"[{query.window:.0f}s:{step:.0f}s]"
    oldest = source.number(f"min(min_over_time(timestamp(ollama_up){every}))")
    moment = source.number("vector(time())")
    hosts = source.number(f"count(count_over_time(ollama_up{every}))")
    points = source.number(f"max(count_over_time(ollama_up{every}))")
    shown = printable(url)
    if oldest is None or moment is None:
        raise SourceError(
            f"{shown} has no samples of ollama_exporter in the last {query.window / 3600:g} h. "
            "Does it scrape an exporter? The query was: ollama_up"
        )
    span = max(0.0, moment - oldest)
    return UsageHistory(
        records(samples, by=query.by),
        f"{shown}, the last {_days(query.window)}",
        span,
        hosts=max(1, round(hosts or 1)),
        covered=max(0.0, min(1.0, (points or 0.0) * step / max(span, step))),
        warnings=tuple(source.warnings),
    )


def _samples(source: "Prometheus", query: HistoryQuery) -> Iterator[UsageSample]:
    more = (query.by,) if query.by else ()
    over = f"[{query.window:.0f}s]"
    for name, labels in COUNTERS.items():
        by = ", ".join((*labels, *more))
        for series, value in source.vector(f"sum by ({by}) (increase({name}{over}))"):
            yield UsageSample(name, series, value)
    for name, labels in GAUGES.items():
        by = ", ".join((*labels, *more))
        if name in KEEP_ALIVES:  # the median: one client's own keep_alive is not the usual one
            latest = f"quantile_over_time(0.5, {name}{over})"
        elif name == "ollama_model_disk_bytes":
            latest = name
        else:
            latest = f"last_over_time({name}{over})"
        for series, value in source.vector(f"max by ({by}) ({latest})"):
            yield UsageSample(name, series, value)


class Prometheus:
    """Runs instant queries and collects the warnings in the answers."""

    def __init__(self, client: BoundedClient, url: str) -> None:
        self._client, self._url = client, url
        self.warnings: list[str] = []

    def vector(self, query: str) -> list[tuple[Mapping[str, str], float]]:
        """Return labels and value of each series. Raises SourceError."""
        form = {"query": query}
        body = self._client.fetch("POST", f"{self._url}/api/v1/query", form=form, hint=HINT)
        shown = printable(self._url)
        try:
            answer = msgspec.json.decode(body, type=_Answer)
            found: list[tuple[Mapping[str, str], float]] = [
                (series.metric, float(series.value[1]))
                for series in (answer.data.result if answer.data else [])
            ]
        except (msgspec.DecodeError, ValueError, RecursionError) as err:
            raise SourceError(
                f"{shown} does not look like a Prometheus server: {reason(err)}"
            ) from err
        if answer.status != "success":
            raise SourceError(f"{shown} rejects a query: {printable(answer.error)}")
        for warning in map(printable, answer.warnings[:MOST_WARNINGS]):
            if warning not in self.warnings and len(self.warnings) < MOST_WARNINGS:
                self.warnings.append(warning)
        return found

    def number(self, query: str) -> float | None:
        """Return the value of the only series; None: there is none, or it is no finite number."""
        found = self.vector(query)
        return found[0][1] if found and math.isfinite(found[0][1]) else None


def _days(seconds: float) -> str:
    return f"{seconds / 86400:g} days" if seconds >= 2 * 86400 else f"{seconds / 3600:g} hours"
