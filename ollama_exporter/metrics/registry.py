# SPDX-License-Identifier: Apache-2.0
"""Builds the metrics of one exporter: first the instruments, then the registry around them."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Self

from msgspec import Struct
from prometheus_client import CollectorRegistry

from ollama_exporter.advice.gap_counts import GapCounts
from ollama_exporter.clock import Timeline
from ollama_exporter.metrics.action_metrics import ActionMetrics
from ollama_exporter.metrics.collect_all import CollectAll, Collector
from ollama_exporter.metrics.collectors.advice_collector import AdviceCollector, AdviceRow
from ollama_exporter.metrics.collectors.exporter_collector import (
    ExporterCollector,
    RuntimeCollector,
    UnfilledCollector,
)
from ollama_exporter.metrics.collectors.idle_gap_collector import IdleGapCollector
from ollama_exporter.metrics.collectors.machine_collector import BLIND, MachineCollector, Sight
from ollama_exporter.metrics.collectors.residency_collector import ResidencyCollector
from ollama_exporter.metrics.collectors.runner_collector import RunnerCollector
from ollama_exporter.metrics.collectors.server_collector import ServerCollector
from ollama_exporter.metrics.hidden_labels import HiddenLabels
from ollama_exporter.metrics.hidden_names import HiddenNames
from ollama_exporter.metrics.labels import MOST_MODELS, ModelLabels
from ollama_exporter.metrics.load_times import LoadTimes
from ollama_exporter.metrics.load_unload import LoadUnloadMetrics
from ollama_exporter.poller.published import Published, ServerState
from ollama_exporter.protocol.malformed_entries import MalformedEntries
from ollama_exporter.residency.events import View

# Of a process that has no server of its own.
NOTHING_PUBLISHED: Final = Published(ServerState(), View((), 0, (), None, None))


class Instruments(Struct, frozen=True):
    """The instruments that events, requests and actions are counted with."""

    labels: ModelLabels
    loads: LoadTimes
    gaps: GapCounts
    lifecycle: LoadUnloadMetrics
    acts: ActionMetrics
    exporter: ExporterCollector
    hidden: HiddenNames | None = None  # what stands for the names of models; None: they are shown

    @classmethod
    def new(
        cls,
        timeline: Timeline,
        exporter: ExporterCollector,
        *,
        max_models: int = MOST_MODELS,
        hidden: HiddenNames | None = None,
    ) -> Self:
        """Return the instruments of one server. `exporter`: those of the process."""
        labels, loads = ModelLabels(max_models), LoadTimes()
        return cls(
            labels,
            loads,
            GapCounts(),
            LoadUnloadMetrics(timeline, labels, loads),
            ActionMetrics(labels),
            exporter,
            hidden,
        )


def build(
    instruments: Instruments,
    timeline: Timeline,
    published: Callable[[], Published],
    *,
    expected: Callable[[], Sequence[str]] = tuple,
    requests: Collector | None = None,
    advice: Callable[[], Iterable[AdviceRow]] = tuple,
    sight: Sight | None = None,
    malformed: MalformedEntries | None = None,
    ranks: Callable[[], Mapping[str, int]] = dict,
    runtime: bool = True,
) -> CollectorRegistry:
    """Return the registry of one target and of the exporter itself.

    `expected`: returns names as the server lists them. `requests`: collects the families that only
    requests fill. `sight`: what this machine shows. `malformed`: what polls could not read.
    `ranks`: returns the resident models by name, 1 for the first to be evicted.
    `runtime`: include the families of process and interpreter.
    """
    labels = instruments.labels
    collectors = [
        *_server_collectors(instruments, timeline, expected, sight or BLIND, malformed, ranks),
        requests or UnfilledCollector(),
        MachineCollector(sight or BLIND, timeline, labels),
        RunnerCollector(sight or BLIND, labels),
        IdleGapCollector(instruments.gaps),
        AdviceCollector(advice),
        instruments.acts,
        instruments.exporter,
    ]
    return _registry(collectors, published, runtime=runtime, hidden=instruments.hidden)


def build_of_target(
    instruments: Instruments,
    timeline: Timeline,
    published: Callable[[], Published],
    *,
    expected: Callable[[], Sequence[str]],
    advice: Callable[[], Iterable[AdviceRow]],
    malformed: MalformedEntries,
    ranks: Callable[[], Mapping[str, int]] = dict,
) -> CollectorRegistry:
    """Return the registry of one target of a fleet, without the families of the exporter itself.

    What only a proxy or the server's own machine shows is left out.
    """
    collectors: list[Collector] = [
        *_server_collectors(instruments, timeline, expected, BLIND, malformed, ranks),
        IdleGapCollector(instruments.gaps),
        AdviceCollector(advice),
        instruments.acts,
    ]
    return _registry(collectors, published, runtime=False, hidden=instruments.hidden)


def build_of_fleet(exporter: ExporterCollector, *, runtime: bool) -> CollectorRegistry:
    """Return the registry of the exporter itself, which watches several targets."""
    return _registry([exporter], lambda: NOTHING_PUBLISHED, runtime=runtime)


def _server_collectors(
    instruments: Instruments,
    timeline: Timeline,
    expected: Callable[[], Sequence[str]],
    sight: Sight,
    malformed: MalformedEntries | None,
    ranks: Callable[[], Mapping[str, int]],
) -> list[Collector]:
    return [
        # With labels of its own: installed models must not use up the labels of resident ones.
        ServerCollector(ModelLabels(instruments.labels.limit), malformed or MalformedEntries()),
        ResidencyCollector(timeline, instruments.labels, expected, sight, ranks),
        instruments.lifecycle,
    ]


def _registry(
    collectors: list[Collector],
    published: Callable[[], Published],
    *,
    runtime: bool,
    hidden: HiddenNames | None = None,
) -> CollectorRegistry:
    library = RuntimeCollector() if runtime else None
    if library is not None:
        collectors = [*collectors, library]
    extra = () if library is None else tuple(library.collect())
    registry = CollectorRegistry()
    hide = None if hidden is None else HiddenLabels(hidden).hide
    everything = CollectAll(collectors, published, clock=time.perf_counter, extra=extra, hide=hide)
    registry.register(everything)
    return registry
