# SPDX-License-Identifier: Apache-2.0
"""One collector around all others: a raising one costs only itself, each is timed."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from prometheus_client.metrics_core import Metric

from ollama_exporter.metrics.catalog.all_families import FAMILIES
from ollama_exporter.metrics.from_catalog import constant, empty

logger = logging.getLogger(__name__)


class Collector(Protocol):
    """Yields families; `name` is the label of its own success."""

    name: str

    def collect(self) -> Iterable[Metric]:
        """Yield families."""


class CollectAll:
    """What the registry knows: collects each collector on its own.

    `besides`: the families that its collectors yield and the catalogue does not hold.
    """

    def __init__(
        self,
        collectors: Sequence[Collector],
        *,
        clock: Callable[[], float],
        besides: Sequence[Metric] = (),
    ) -> None:
        self._collectors = tuple(collectors)
        self._besides = tuple(besides)
        self._clock = clock
        self._failing: set[str] = set()

    def describe(self) -> Iterator[Metric]:
        """Yield the names, so that a filter by name finds them and a clash is noticed."""
        yield from (empty(name) for name in FAMILIES)
        yield from self._besides

    def collect(self) -> Iterator[Metric]:
        """Yield all families and how the collecting went."""
        begin = self._clock()
        took: list[tuple[tuple[str, ...], float]] = []
        success: list[tuple[tuple[str, ...], float]] = []
        for collector in self._collectors:
            started = self._clock()
            families = self._try(collector)
            took.append(((collector.name,), self._clock() - started))
            success.append(((collector.name,), float(families is not None)))
            yield from families or ()
        yield constant("ollama_scrape_collector_duration_seconds", took)
        yield constant("ollama_scrape_collector_success", success)
        yield constant("ollama_scrape_duration_seconds", [((), self._clock() - begin)])

    def _try(self, collector: Collector) -> list[Metric] | None:
        """Collect; log the transitions only."""
        try:
            families = list(collector.collect())
        except Exception:
            if collector.name not in self._failing:
                self._failing.add(collector.name)
                logger.exception("Collector failed", extra={"collector": collector.name})
            return None
        if collector.name in self._failing:
            self._failing.discard(collector.name)
            logger.info("Collector succeeds again", extra={"collector": collector.name})
        return families
