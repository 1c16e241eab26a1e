# SPDX-License-Identifier: Apache-2.0
"""Runs all collectors for a scrape. Each is timed, and one that raises costs only itself."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from prometheus_client.metrics_core import Metric

from ollama_exporter.metrics.catalog.all_families import FAMILIES
from ollama_exporter.metrics.from_catalog import constant, empty
from ollama_exporter.poller.published import Published

logger = logging.getLogger(__name__)


class PlainCollector(Protocol):
    """Yields families that it counts itself. `name` labels its own duration and success."""

    name: str

    def collect(self) -> Iterable[Metric]:
        """Yield the families."""


@runtime_checkable
class PublishedCollector(Protocol):
    """Yields families of what the poller published. `name`: likewise."""

    name: str

    def collect_published(self, published: Published) -> Iterable[Metric]:
        """Yield the families."""


Collector = PlainCollector | PublishedCollector
Collecting = Callable[[Published], Iterable[Metric]]
Hiding = Callable[[Iterable[Metric]], Iterable[Metric]]


class CollectAll:
    """The one collector that the registry knows.

    All families of a scrape are made from one published state. `extra`: families that the
    collectors yield and that are not in the catalog. `hide` takes names of models out of families.
    """

    def __init__(
        self,
        collectors: Sequence[Collector],
        published: Callable[[], Published],
        *,
        clock: Callable[[], float],
        extra: Sequence[Metric] = (),
        hide: Hiding | None = None,
    ) -> None:
        self._collectors = [(each.name, _collecting(each)) for each in collectors]
        self._published = published
        self._besides = tuple(extra)
        self._clock, self._hide = clock, hide
        self._failing: set[str] = set()

    def describe(self) -> Iterator[Metric]:
        """Yield the names, for filters by name and to detect duplicates."""
        yield from (empty(name) for name in FAMILIES)
        yield from self._besides

    def collect(self) -> Iterator[Metric]:
        """Yield all families, and how long collecting took."""
        published = self._published()
        took: dict[tuple[str, ...], float] = {}
        success: dict[tuple[str, ...], float] = {}
        for name, collecting in self._collectors:
            started = self._clock()
            families = self._try(name, collecting, published)
            took[name,] = self._clock() - started
            success[name,] = float(families is not None)
            yield from families or ()
        yield constant("ollama_scrape_collector_duration_seconds", took.items())
        yield constant("ollama_scrape_collector_success", success.items())
        # Not from the first to the last: others have their turn in between.
        yield constant("ollama_scrape_duration_seconds", [((), sum(took.values()))])

    def _try(self, name: str, collecting: Collecting, published: Published) -> list[Metric] | None:
        """Return the families; None: the collector failed. Logs transitions only."""
        try:
            collected = collecting(published)
            families = list(collected if self._hide is None else self._hide(collected))
        except Exception:
            if name not in self._failing:
                self._failing.add(name)
                logger.exception("Collector failed", extra={"collector": name})
            return None
        if name in self._failing:
            self._failing.discard(name)
            logger.info("Collector succeeds again", extra={"collector": name})
        return families


def _collecting(collector: Collector) -> Collecting:
    """Return what collects. Decided once: whether an object follows a protocol takes 10 µs."""
    if isinstance(collector, PublishedCollector):
        return collector.collect_published
    return lambda _published: collector.collect()
