# SPDX-License-Identifier: Apache-2.0
"""Metrics of an exporter that does not run: what is counted into, and the registry around it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry

from ollama_exporter.advice.live import LiveAdvice
from ollama_exporter.clock import Timeline
from ollama_exporter.endpoint.server_clock import ServerClock
from ollama_exporter.metrics.collectors.exporter_collector import ExporterCollector, LogCounter
from ollama_exporter.metrics.collectors.machine_collector import Sight
from ollama_exporter.metrics.hidden_names import HiddenNames
from ollama_exporter.metrics.registry import Instruments, build
from ollama_exporter.poller.published import Published, ServerState
from ollama_exporter.residency.events import View
from tests.support.timelines import GivenTimeline

NOTHING: Final = View(models=(), pending=0, deadlines=(), last_early=None, last_seen=None)


@dataclass(frozen=True, slots=True)
class Metered:
    """Built metrics."""

    instruments: Instruments
    registry: CollectorRegistry
    advice: LiveAdvice


def metered(
    *,
    view: View = NOTHING,
    server: ServerState | None = None,
    timeline: Timeline | None = None,
    loads: Callable[[], dict[str, tuple[float, int]]] | None = None,
    expected: Sequence[str] = (),
    sight: Sight | None = None,
    max_models: int = 100,
    hidden: HiddenNames | None = None,
    blind: float = 60.0,
    runtime: bool = False,
) -> Metered:
    """Build them."""
    timeline = timeline or GivenTimeline()
    published = Published(server or ServerState(up=True), view)
    instruments = Instruments.new(
        timeline,
        ExporterCollector(log_lines=LogCounter()),
        max_models=max_models,
        hidden=hidden,
    )
    measured = loads or instruments.loads.totals
    advice = LiveAdvice(instruments.gaps, instruments.labels, measured, ServerClock(), blind=blind)
    for name in expected:
        instruments.lifecycle.expect(name)
    registry = build(
        instruments,
        timeline,
        lambda: published,
        expected=lambda: expected,
        advice=advice.rows,
        sight=sight,
        runtime=runtime,
    )
    return Metered(instruments, registry, advice)
