# SPDX-License-Identifier: Apache-2.0
"""The use of each model, from samples of an exporter's metrics, whatever their source. Pure."""

import math
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct, field

from ollama_exporter.advice.idle_histogram import BOUNDS, IdleHistogram
from ollama_exporter.advice.keep_alive_advice import CostInputs, assumed_load, is_mostly_observed
from ollama_exporter.errors import SourceError
from ollama_exporter.foreign_text import clean

GAP: Final = "ollama_model_idle_gap_seconds"
TRUNCATED: Final = "ollama_model_idle_gap_truncated_seconds_total"
# The samples that are read: of counters the increase, of gauges the latest value.
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
    "ollama_model_busy_seconds_total": ("model",),
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
    "ollama_model_advice_loads": ("model",),
    "ollama_model_advice_memory_bytes": ("model",),
}
KEEP_ALIVES: Final = ("ollama_model_keep_alive_seconds", "ollama_model_last_keep_alive_seconds")
LONGEST_NAME: Final = 256  # characters of a label that others wrote
LARGEST: Final = 1e15  # a petabyte, thirty million years
OTHER: Final = "other"  # the label that several models share
Values = dict[str, float]


class UsageSample(Struct, frozen=True):
    """A sample: the increase of a counter, or the latest value of a gauge."""

    name: str
    labels: Mapping[str, str]
    value: float


class UsageRecord(Struct):
    """The use of one model, on one host or summed over several."""

    model: str
    group: str  # value of the label that keeps hosts apart; empty: there is none
    gaps: IdleHistogram = field(default_factory=IdleHistogram)
    # By sample name, of samples without further labels.
    values: Values = field(default_factory=dict)
    # By sample name, then by its further label.
    split: dict[str, Values] = field(default_factory=dict)

    @property
    def unloads(self) -> Values:
        """Number of unloads by reason."""
        return self.split.get("ollama_model_unloads_total", {})

    @property
    def evicted_by(self) -> Values:
        """Number of evictions by the model that took the memory."""
        return self.split.get("ollama_model_evictions_total", {})

    @property
    def keep_alives(self) -> Values:
        """Number of requests by the class of their keep_alive."""
        return self.split.get("ollama_request_keep_alive_total", {})

    @property
    def memory(self) -> float:
        """Memory of the resident model in bytes; 0: not known."""
        names = ("advice_memory_bytes", "vram_bytes", "memory_bytes", "disk_bytes")
        found = (self.values.get(f"ollama_model_{name}", 0.0) for name in names)
        return next((value for value in found if value > 0), 0.0)

    @property
    def measured_load(self) -> float | None:
        """Mean of all measured loads in seconds; None: no load was measured."""
        count = self.values.get("ollama_model_load_seconds_count", 0.0)
        total = self.values.get("ollama_model_load_seconds_sum", 0.0)
        return total / count if count > 0 else None

    @property
    def load_is_measured(self) -> bool:
        """Whether a load was measured, by this process of the exporter or by an earlier one."""
        earlier = self.values.get("ollama_model_advice_loads", 0.0) > 0
        return earlier or self.measured_load is not None

    @property
    def load(self) -> float:
        """Load time in seconds: measured, assumed by the exporter, or estimated from the size."""
        reckoned = self.values.get("ollama_model_advice_load_seconds")
        return self.measured_load or reckoned or assumed_load(self.memory)

    @property
    def keep_alive(self) -> float | None:
        """Keep-alive in effect in seconds; None: not known."""
        names = ("ollama_model_last_keep_alive_seconds", "ollama_model_keep_alive_seconds")
        found = (self.values.get(name) for name in names)
        return next((round(value, 1) for value in found if value is not None), None)

    @property
    def installed(self) -> bool:
        """Whether the model is installed."""
        return "ollama_model_disk_bytes" in self.values

    @property
    def used(self) -> bool:
        """Whether the model was ever resident."""
        resident = "ollama_model_advice_memory_bytes", "ollama_model_memory_bytes"
        loads = self.values.get("ollama_model_loads_total", 0.0)
        return bool(self.gaps.samples or loads) or any(name in self.values for name in resident)

    @property
    def seen(self) -> bool:
        """Whether the gaps come from requests, or from looks at slots."""
        inferred = self.values.get("ollama_model_idle_gaps_inferred_total", 0.0)
        return is_mostly_observed(self.gaps.samples, inferred)

    @property
    def by_slots(self) -> bool:
        """Whether the gaps come from the runner's slots alone, and not from requests."""
        busy = self.values.get("ollama_model_busy_seconds_total", 0.0) > 0
        return busy and self.seen and not self.values.get("ollama_requests_total", 0.0)

    def cost_inputs(self) -> CostInputs:
        """Return what advice on the model rests on."""
        return CostInputs(self.gaps, self.load, self.memory, seen=self.seen)


class UsageHistory(Struct, frozen=True):
    """All records of one source, and what is known about the source."""

    records: tuple[UsageRecord, ...]
    source: str  # for people
    span: float | None = None  # seconds since its begin; None: not known
    hosts: int = 1
    covered: float = 1.0  # share of the span with samples
    warnings: tuple[str, ...] = ()  # of the source


def records(samples: Iterable[UsageSample], *, by: str = "") -> tuple[UsageRecord, ...]:
    """Return a record for each model, or for each model and value of the label `by`.

    Raises SourceError if idle gaps have other bounds than ours.
    """
    found: dict[tuple[str, str], UsageRecord] = {}
    for sample in samples:
        model = clean(sample.labels.get("model", ""), limit=LONGEST_NAME)
        group = clean(sample.labels.get(by, ""), limit=LONGEST_NAME) if by else ""
        if model and model != OTHER and (sample.name in COUNTERS or sample.name in GAUGES):
            record = found.setdefault((group, model), UsageRecord(model, group))
            _add(record, sample)
    for record in found.values():
        record.gaps = _gaps(record)
    return tuple(found[key] for key in sorted(found))


def _add(record: UsageRecord, sample: UsageSample) -> None:
    if not 0 <= sample.value <= LARGEST and not (
        sample.name in KEEP_ALIVES and sample.value == math.inf
    ):
        return  # NaN or negative: an exporter never counts so
    if sample.name in GAUGES:
        known = record.values.get(sample.name, -math.inf)
        record.values[sample.name] = max(sample.value, known)
    else:
        values, key = record.values, sample.name
        for further in COUNTERS[sample.name][1:]:
            values = record.split.setdefault(key, {})
            key = clean(sample.labels.get(further, ""), limit=LONGEST_NAME)
            key = _le(key) if further == "le" else key
        values[key] = values.get(key, 0.0) + sample.value


def _gaps(record: UsageRecord) -> IdleHistogram:
    """Return the histogram from cumulative counts and truncated sums by `le`."""
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
    """Return one spelling of a bound: `30`, `30.0` and `3e1` are equal."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def _at(model: str, values: Values, bound: float) -> float:
    try:
        return values[f"{bound:g}"]
    except KeyError:
        raise SourceError(
            f"The idle gaps of {model} have no bound {bound:g}: another version counted them"
        ) from None
