# SPDX-License-Identifier: Apache-2.0
"""Reads the past use of models: from a running exporter's /metrics, or from Prometheus.

Every request has a bound in time and size and follows no redirect; whatever goes wrong becomes a
HistoryError of one line.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from ollama_exporter.advice.model_usage import (
    COUNTERS,
    GAUGES,
    KEPT,
    UsageHistory,
    UsageReading,
    records,
)
from ollama_exporter.errors import ConfigError, HistoryError
from ollama_exporter.protocol.bearer_token import read_token
from ollama_exporter.version import __version__

TIMEOUT: Final = 30.0  # a fortnight of a fleet takes Prometheus a moment
LARGEST: Final = 64 * 2**20
STEPS: Final = 300  # of the search for the oldest sample
LEAST_WINDOW: Final = 60.0
LONGEST_WINDOW: Final = 366 * 86400.0
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604_800, "y": 31_536_000}
PART: Final = re.compile(r"(\d+)([smhdwy])")
LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
MOST_TEXT: Final = 200  # of a foreign error that is passed on


@dataclass(frozen=True, slots=True)
class Asking:
    """How to ask Prometheus. `window`: seconds; `by`: a label that tells hosts apart, or none."""

    window: float
    by: str = ""


def window(text: str) -> float:
    """Return the seconds of a duration as Prometheus writes it. Raises ConfigError."""
    parts = PART.findall(text)
    seconds = float(sum(int(number) * UNITS[unit] for number, unit in parts))
    whole = "".join(number + unit for number, unit in parts) == text
    if not whole or not LEAST_WINDOW <= seconds <= LONGEST_WINDOW:
        raise ConfigError("window", text, "accepted: a duration from 1m to 1y such as 14d, 36h, 2w")
    return seconds


def label(text: str) -> str:
    """Return the name of a label. Raises ConfigError."""
    if not LABEL.fullmatch(text) or text in ("model", "le"):
        raise ConfigError("by", text, "accepted: a label that tells hosts apart, such as instance")
    return text


def from_exporter(url: str, *, client: httpx.Client | None = None) -> UsageHistory:
    """Read the counts of a running exporter since its start. Raises HistoryError."""
    if urlsplit(url).path in ("", "/"):  # else it is another telemetry path, or a probe
        url = f"{url.rstrip('/')}/metrics"
    return from_text(read_exposition(url, client=client), source=url, now=time.time())


def read_exposition(
    url: str,
    *,
    names: Sequence[str] = (),
    timeout: float = TIMEOUT,
    client: httpx.Client | None = None,
) -> str:
    """Return an exporter's exposition, or the named samples of it. Raises HistoryError."""
    with client or _client(None) as http:
        params = [("name[]", name) for name in names]
        return _ask(http, "GET", url, timeout, params=params).decode(errors="replace")


def from_text(text: str, *, source: str, now: float) -> UsageHistory:
    """Read an exposition. `now`: Unix seconds. Raises HistoryError."""
    readings: list[UsageReading] = []
    started: float | None = None
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                readings.append(UsageReading(sample.name, sample.labels, float(sample.value)))
                if sample.name == "process_start_time_seconds":
                    started = float(sample.value)
    except (ValueError, KeyError, IndexError) as err:
        raise HistoryError(f"{source} does not answer with metrics: {_short(err)}") from err
    if not any(reading.name == "ollama_up" for reading in readings):
        raise HistoryError(f"{source} serves no metrics of ollama_exporter")
    span = None if started is None else max(0.0, now - started)
    return UsageHistory(records(readings), f"{source}, counted since its start", span)


# -- Prometheus ------------------------------------------------------------------------------------


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


def from_prometheus(
    url: str, asking: Asking, *, token_file: Path | None = None, client: httpx.Client | None = None
) -> UsageHistory:
    """Ask for the increases over the window. Raises HistoryError and ConfigError."""
    with client or _client(token_file) as http:
        source = Prometheus(http, url.rstrip("/"))
        readings = list(_readings(source, asking))
        step = max(asking.window / STEPS, 1.0)
        every = f"[{asking.window:.0f}s:{step:.0f}s]"
        oldest = source.number(f"min(min_over_time(timestamp(ollama_up){every}))")
        moment = source.number("vector(time())")
        hosts = source.number(f"count(count_over_time(ollama_up{every}))")
        samples = source.number(f"max(count_over_time(ollama_up{every}))")
    if oldest is None or moment is None:
        raise HistoryError(
            f"{url} has no samples of ollama_exporter in the last {asking.window / 3600:g} h: "
            "does it scrape one? (its query: ollama_up)"
        )
    span = max(0.0, moment - oldest)
    covered = min(1.0, (samples or 0.0) * step / max(span, step))
    return UsageHistory(
        records(readings, by=asking.by),
        f"{url}, the last {_days(asking.window)}",
        span,
        hosts=round(hosts or 1),
        covered=covered,
        remarks=tuple(source.warnings),
    )


def _readings(source: "Prometheus", asking: Asking) -> Iterator[UsageReading]:
    more = (asking.by,) if asking.by else ()
    over = f"[{asking.window:.0f}s]"
    for name, labels in COUNTERS.items():
        by = ", ".join((*labels, *more))
        for series, value in source.vector(f"sum by ({by}) (increase({name}{over}))"):
            yield UsageReading(name, series, value)
    for name, labels in GAUGES.items():
        by = ", ".join((*labels, *more))
        if name in KEPT:
            latest = f"quantile_over_time(0.5, {name}{over})"  # one client's own is no habit
        elif name == "ollama_model_disk_bytes":
            latest = name
        else:
            latest = f"last_over_time({name}{over})"
        for series, value in source.vector(f"max by ({by}) ({latest})"):
            yield UsageReading(name, series, value)


class Prometheus:
    """Asks instant queries, and keeps what it is warned of."""

    def __init__(self, http: httpx.Client, url: str) -> None:
        self._http, self._url = http, url
        self.warnings: list[str] = []

    def vector(self, query: str) -> list[tuple[Mapping[str, str], float]]:
        """Return labels and value of each series. Raises HistoryError."""
        body = _ask(self._http, "POST", f"{self._url}/api/v1/query", data={"query": query})
        try:
            answer = msgspec.json.decode(body, type=_Answer)
            found: list[tuple[Mapping[str, str], float]] = [
                (series.metric, float(series.value[1]))
                for series in (answer.data.result if answer.data else [])
            ]
        except (msgspec.DecodeError, ValueError) as err:
            raise HistoryError(f"{self._url} is no Prometheus: {_short(err)}") from err
        if answer.status != "success":
            raise HistoryError(f"{self._url} refuses a query: {answer.error[:MOST_TEXT]}")
        self.warnings += [each for each in answer.warnings if each not in self.warnings]
        return found

    def number(self, query: str) -> float | None:
        """Return the value of the only series; None: there is none."""
        found = self.vector(query)
        return found[0][1] if found else None


# -- HTTP ------------------------------------------------------------------------------------------


def _client(token_file: Path | None) -> httpx.Client:
    headers = {"user-agent": f"ollama_exporter/{__version__}", "accept-encoding": "identity"}
    if token_file is not None:
        headers["authorization"] = f"Bearer {read_token(token_file, field='token-file')}"
    return httpx.Client(timeout=TIMEOUT, headers=headers, trust_env=False, follow_redirects=False)


def _ask(
    http: httpx.Client,
    method: str,
    url: str,
    timeout: float = TIMEOUT,
    **more: Any,  # noqa: ANN401 - httpx's
) -> bytes:
    """Return the body of an answer; 400 is passed on, Prometheus says there what is wrong."""
    began, body = time.monotonic(), bytearray()
    try:
        with http.stream(method, url, timeout=timeout, **more) as response:
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > LARGEST:
                    raise HistoryError(f"{url} answers with more than {LARGEST // 2**20} MiB")
                if time.monotonic() - began > timeout:  # httpx bounds each read, not the answer
                    raise HistoryError(f"{url} has not answered within {timeout:g} s")
    except httpx.TimeoutException as err:
        raise HistoryError(f"{url} has not answered within {timeout:g} s") from err
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as err:
        raise HistoryError(f"{url} cannot be asked: {_short(err)}") from err
    if response.is_success or response.status_code in (400, 422):
        return bytes(body)
    if response.is_redirect:
        raise HistoryError(f"{url} redirects to {response.headers.get('location', '')}: give that")
    raise HistoryError(f"{url} answers with HTTP status {response.status_code}")


def _short(err: Exception) -> str:
    text = (str(err) or type(err).__name__).split("\n")[0]
    return text[:MOST_TEXT]


def _days(seconds: float) -> str:
    return f"{seconds / 86400:g} days" if seconds >= 2 * 86400 else f"{seconds / 3600:g} hours"
