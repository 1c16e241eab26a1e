# SPDX-License-Identifier: Apache-2.0
"""What the metrics of an exporter say of each model's use, whoever was asked for them. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ollama_exporter.advice.idle_histogram import BOUNDS, IdleHistogram
from ollama_exporter.advice.keep_alive_advice import CostInputs, assumed_load, is_mostly_observed
from ollama_exporter.errors import HistoryError

GAP: Final = "ollama_model_idle_gap_seconds"
TRUNCATED: Final = "ollama_model_idle_gap_truncated_seconds_total"
# Sample names that are read: counters, whose increase counts, and gauges, whose latest value does.
COUNTERS: Final[dict[str, tuple[str, ...]]] = {
    f"{GAP}_bucket": ("model", "le"),
    f"{GAP}_sum": ("model",),
    TRUNCATED: ("model", "le"),
    "ollama_model_idle_gaps_inferred_total": ("model",),
    "ollama_model_load_seconds_sum": ("model",),
    "ollama_model_load_seconds_count": ("model",),
    "ollama_model_loads_total": ("model",),
    "ollama_model_unloads_total": ("model", "reason"),
    "ollama_model_evictions_total": ("model", "by"),
    "ollama_requests_total": ("model",),
    "ollama_cold_starts_total": ("model",),
    "ollama_request_keep_alive_total": ("model", "class"),
}
GAUGES: Final[dict[str, tuple[str, ...]]] = {
    "ollama_model_memory_bytes": ("model",),
    "ollama_model_vram_bytes": ("model",),
    "ollama_model_disk_bytes": ("model",),
    "ollama_model_keep_alive_seconds": ("model",),
    "ollama_model_last_keep_alive_seconds": ("model",),
    "ollama_model_advice_load_seconds": ("model",),
    "ollama_model_advice_memory_bytes": ("model",),
}
KEPT: Final = ("ollama_model_keep_alive_seconds", "ollama_model_last_keep_alive_seconds")
MOST: Final = 1e15  # a petabyte, thirty million years
OTHER: Final = "other"  # models beyond the limit of labels share it: no habits of any
Values = dict[str, float]


@dataclass(frozen=True, slots=True)
class UsageReading:
    """One sample: of a counter its increase over the window, of a gauge its latest value."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(slots=True)
class Record:
    """What is known of one model, on one host or on all that were summed."""

    model: str
    group: str  # value of the label that records are kept apart by; empty: none was asked for
    gaps: IdleHistogram = field(default_factory=IdleHistogram)
    values: Values = field(default_factory=dict)  # by sample name, those without further labels
    split: dict[str, Values] = field(default_factory=dict)  # likewise, by their further label

    @property
    def unloads(self) -> Values:
        """How often it left memory, by reason."""
        return self.split.get("ollama_model_unloads_total", {})

    @property
    def evicted_by(self) -> Values:
        """How often it was evicted, by the model that took the room."""
        return self.split.get("ollama_model_evictions_total", {})

    @property
    def keep_alives(self) -> Values:
        """Requests, by the class of the keep_alive that they carried."""
        return self.split.get("ollama_request_keep_alive_total", {})

    @property
    def memory(self) -> float:
        """Bytes that it takes when it is resident; 0: not known."""
        names = ("advice_memory_bytes", "vram_bytes", "memory_bytes", "disk_bytes")
        found = (self.values.get(f"ollama_model_{name}", 0.0) for name in names)
        return next((value for value in found if value > 0), 0.0)

    @property
    def measured_load(self) -> float | None:
        """Mean of the loads that were measured, seconds; None: none was."""
        count = self.values.get("ollama_model_load_seconds_count", 0.0)
        total = self.values.get("ollama_model_load_seconds_sum", 0.0)
        return total / count if count > 0 else None

    @property
    def load(self) -> float:
        """Seconds of a load: measured, as the exporter reckons, or assumed from the size."""
        reckoned = self.values.get("ollama_model_advice_load_seconds")
        return self.measured_load or reckoned or assumed_load(self.memory)

    @property
    def keep_alive(self) -> float | None:
        """The keep-alive in force, seconds; None: not known."""
        names = ("ollama_model_last_keep_alive_seconds", "ollama_model_keep_alive_seconds")
        found = (self.values.get(name) for name in names)
        return next((round(value, 1) for value in found if value is not None), None)

    @property
    def installed(self) -> bool:
        """It is among the installed models."""
        return "ollama_model_disk_bytes" in self.values

    @property
    def used(self) -> bool:
        """It was resident at some time; the others are only installed."""
        resident = "ollama_model_advice_memory_bytes", "ollama_model_memory_bytes"
        loads = self.values.get("ollama_model_loads_total", 0.0)
        return bool(self.gaps.samples or loads) or any(name in self.values for name in resident)

    @property
    def seen(self) -> bool:
        """Its gaps come from requests."""
        inferred = self.values.get("ollama_model_idle_gaps_inferred_total", 0.0)
        return is_mostly_observed(self.gaps.samples, inferred)

    def habits(self) -> CostInputs:
        """Return what advice rests on."""
        return CostInputs(self.gaps, self.load, self.memory, seen=self.seen)


@dataclass(frozen=True, slots=True)
class UsageHistory:
    """All records of one source, and what it says of itself."""

    records: tuple[Record, ...]
    source: str  # where it is from, for people
    span: float | None = None  # seconds that it reaches back; None: not known
    hosts: int = 1
    covered: float = 1.0  # share of that time for which there are samples
    remarks: tuple[str, ...] = ()  # what the source had to say


def records(readings: Iterable[UsageReading], *, by: str = "") -> tuple[Record, ...]:
    """Put readings together, by model and, if asked for, by another label.

    Raises HistoryError for idle gaps that were counted on other bounds.
    """
    found: dict[tuple[str, str], Record] = {}
    for reading in readings:
        model, group = reading.labels.get("model", ""), reading.labels.get(by, "") if by else ""
        if model and model != OTHER and (reading.name in COUNTERS or reading.name in GAUGES):
            record = found.setdefault((group, model), Record(model, group))
            _take(record, reading)
    for record in found.values():
        record.gaps = _gaps(record)
    return tuple(found[key] for key in sorted(found))


def _take(record: Record, reading: UsageReading) -> None:
    if not 0 <= reading.value <= MOST and not (reading.name in KEPT and reading.value == math.inf):
        return  # no exporter counts so: NaN, less than nothing
    if reading.name in GAUGES:
        known = record.values.get(reading.name, -math.inf)
        record.values[reading.name] = max(reading.value, known)
    else:
        values, key = record.values, reading.name
        for further in COUNTERS[reading.name][1:]:
            values, key = record.split.setdefault(key, {}), reading.labels.get(further, "")
            key = _le(key) if further == "le" else key
        values[key] = values.get(key, 0.0) + reading.value


def _gaps(record: Record) -> IdleHistogram:
    """Return gaps from cumulative counts and truncated sums by `le`."""
    buckets = record.split.get(f"{GAP}_bucket", {})
    if not any(buckets.values()):
        return IdleHistogram()
    below, counts = 0.0, []
    for bound in (*map(float, BOUNDS), math.inf):
        up_to = _at(record.model, buckets, bound)
        counts.append(max(0.0, up_to - below))
        below = max(below, up_to)
    truncated = record.split.get(TRUNCATED, {})
    sums = [_at(record.model, truncated, float(bound)) for bound in BOUNDS]
    return IdleHistogram(counts, sums, record.values.get(f"{GAP}_sum", 0.0))


def _le(text: str) -> str:
    """Return one spelling of a bound: `30`, `30.0` and `3e1` are the same."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def _at(model: str, values: Values, bound: float) -> float:
    try:
        return values[f"{bound:g}"]
    except KeyError:
        raise HistoryError(
            f"idle gaps of {model} have no bound {bound:g}: another version counted them"
        ) from None
