# SPDX-License-Identifier: Apache-2.0
"""Puts the metrics of one exporter together."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from ollama_exporter.metrics.action_metrics import ActionMetrics
from ollama_exporter.metrics.collect_all import CollectAll, Collector
from ollama_exporter.metrics.collectors.advice_collector import AdviceCollector, AdviceRow
from ollama_exporter.metrics.collectors.exporter_collector import (
    ExporterCollector,
    LogCounter,
    RuntimeCollector,
    UnfilledCollector,
)
from ollama_exporter.metrics.collectors.idle_gap_collector import IdleCollector
from ollama_exporter.metrics.collectors.machine_collector import Blind, MachineCollector, Sight
from ollama_exporter.metrics.collectors.residency_collector import ResidencyCollector
from ollama_exporter.metrics.collectors.server_collector import ServerCollector, ServerState
from ollama_exporter.metrics.labels import ModelLabels
from ollama_exporter.metrics.load_times import LoadTimes
from ollama_exporter.metrics.load_unload import LoadUnloadMetrics
from ollama_exporter.residency.events import View


@dataclass(frozen=True, slots=True)
class Metrics:
    """What `/metrics` renders, and where events go."""

    registry: CollectorRegistry
    lifecycle: LoadUnloadMetrics
    exporter: ExporterCollector
    acts: ActionMetrics
    idle: IdleCollector
    labels: ModelLabels
    loads: LoadTimes


def build(
    *,
    view: Callable[[], View],
    server: Callable[[], ServerState],
    wall: Callable[[float], float],
    log_lines: LogCounter,
    expected: Callable[[], Sequence[str]] = tuple,
    max_models: int = 100,
    runtime: bool = True,
    shim: Callable[[ModelLabels, LoadTimes, IdleCollector], Collector] | None = None,
    advice: Callable[[], Iterable[AdviceRow]] = tuple,
    sight: Sight | None = None,
) -> Metrics:
    """Build the registry of one target and of the exporter itself.

    `wall` turns a moment of the tracker's timeline into wall-clock Unix seconds. `runtime`: with
    the families of process and interpreter. `expected`: normalised names, as of now. `shim`: makes
    what fills the families that polls do not. `advice`: what is advised as of the scrape. `sight`:
    what this machine shows.
    """
    labels = ModelLabels(max_models)
    loads = LoadTimes()
    lifecycle = LoadUnloadMetrics(wall, labels, loads)
    for name in expected():
        lifecycle.meet(name)
    acts = ActionMetrics(labels)
    idle = IdleCollector()
    exporter = ExporterCollector(targets=1, log_lines=log_lines)
    collectors: list[Collector] = [
        # Labels of its own: a large library on disk must not take those of resident models.
        ServerCollector(server, ModelLabels(max_models)),
        ResidencyCollector(view, lambda: server().up, wall, labels, expected),
        lifecycle,
        UnfilledCollector() if shim is None else shim(labels, loads, idle),
        MachineCollector(sight or Blind(), view, lambda: server().up, wall, labels),
        idle,
        AdviceCollector(advice),
        acts,
        exporter,
    ]
    library = RuntimeCollector() if runtime else None
    if library is not None:
        collectors.append(library)
    besides = () if library is None else tuple(library.collect())
    registry = CollectorRegistry()
    registry.register(CollectAll(collectors, clock=time.perf_counter, besides=besides))
    return Metrics(registry, lifecycle, exporter, acts, idle, labels, loads)
