# SPDX-License-Identifier: Apache-2.0
"""Makes families and instruments of client_python from entries of the catalog."""

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import Counter
from prometheus_client.metrics_core import Metric

from ollama_exporter.metrics.catalog.all_families import FAMILIES
from ollama_exporter.metrics.catalog_metric import CatalogMetric, LabelledValue

Samples = Iterable[LabelledValue]
Families = Iterator[Metric]
_BASES: Final = {name: family.base for name, family in FAMILIES.items()}


def constant(name: str, samples: Samples) -> Metric:
    """Return a family with these samples."""
    return CatalogMetric(FAMILIES[name], _BASES[name], list(samples))


def empty(name: str) -> Metric:
    """Return a family without samples."""
    family = FAMILIES[name]
    return Metric(family.base, family.help, family.kind)


def counter(name: str) -> Counter:
    """Return an instrument that is not registered: a collector of ours collects it."""
    family = FAMILIES[name]
    return Counter(family.base, family.help, family.labels, registry=None)


def collected(*instruments: Counter) -> Families:
    """Yield the families of instruments without the `_created` series of each child.

    The library can switch them off as well, but only for the whole process, which may not be ours.
    """
    for instrument in instruments:
        for metric in instrument.collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric
