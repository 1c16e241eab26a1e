# SPDX-License-Identifier: Apache-2.0
"""From the catalogue's entries to client_python's families and instruments."""

from collections.abc import Iterable, Iterator

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from ollama_exporter.metrics.catalog.all_families import FAMILIES

Samples = Iterable[tuple[tuple[str, ...], float]]
Families = Iterator[Metric]


def constant(name: str, samples: Samples) -> Metric:
    """Return a family of the catalogue with these samples: label values and value."""
    family = FAMILIES[name]
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.base, family.help, labels=family.labels)
    for labels, value in samples:
        metric.add_metric(labels, value)
    return metric


def empty(name: str) -> Metric:
    """Return a family of the catalogue without samples."""
    family = FAMILIES[name]
    return Metric(family.base, family.help, family.kind)


def counter(name: str) -> Counter:
    """Return an instrument that no registry knows: its collector collects it."""
    family = FAMILIES[name]
    return Counter(family.base, family.help, family.labels, registry=None)


def gauge(name: str) -> Gauge:
    """Return an instrument that no registry knows."""
    family = FAMILIES[name]
    return Gauge(family.base, family.help, family.labels, registry=None)


def histogram(name: str) -> Histogram:
    """Return an instrument that no registry knows."""
    family = FAMILIES[name]
    return Histogram(family.base, family.help, family.labels, buckets=family.buckets, registry=None)


def collected(*instruments: Counter | Gauge | Histogram) -> Families:
    """Yield the families of instruments without `_created`: one more series for each child.

    The library's own switch for that is global to the process, which may not be ours alone.
    """
    for instrument in instruments:
        for metric in instrument.collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric
