# SPDX-License-Identifier: Apache-2.0
"""Histories of use as an exporter would serve them: one model or several, any gaps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from ollama_exporter.advice.gap_counts import ModelGaps
from ollama_exporter.advice.idle_histogram import IdleHistogram
from ollama_exporter.metrics.rendering import Renderer
from tests.support.metering import metered
from tests.support.whole_scrape import render


@dataclass(frozen=True, slots=True)
class Use:
    """How a model was used."""

    gaps: Sequence[float] = ()
    inferred: bool = False
    load: float | None = 5.0  # seconds of one load; None: not measured
    keep_alive: float | None = 300.0
    memory: float = 6e9
    installed: bool = True
    requests: int = 0
    own: Mapping[str, int] = field(default_factory=dict)  # class of keep_alive -> requests
    unloads: Mapping[str, int] = field(default_factory=dict)
    evicted_by: Mapping[str, int] = field(default_factory=dict)


def exposition(uses: Mapping[str, Use], *, extra: str = "") -> str:
    """Return what `/metrics` would say: the families of gaps are the product's own."""
    built = metered()
    for model, use in uses.items():
        inferred = float(len(use.gaps) * use.inferred)
        gaps = ModelGaps(IdleHistogram.of(use.gaps), inferred)
        built.instruments.gaps.restore(model, gaps)
    text = rendered(built.registry)
    lines = [line for model, use in uses.items() for line in _lines(model, use)]
    return text + "\n".join([*lines, extra, ""])


def rendered(registry: CollectorRegistry) -> str:
    """Return the text format."""
    return render(registry, Renderer())[1].decode()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _lines(model: str, use: Use) -> list[str]:
    def line(name: str, value: float, **labels: str) -> str:
        pairs = ",".join(
            f'{key}="{_escaped(text)}"' for key, text in {"model": model, **labels}.items()
        )
        return f"ollama_{name}{{{pairs}}} {value}"

    lines = [line("model_memory_bytes", use.memory), line("model_vram_bytes", use.memory)]
    if use.keep_alive is not None:
        lines.append(line("model_keep_alive_seconds", use.keep_alive))
    if use.load is not None:
        loads = max(1, len(use.gaps))
        lines += [
            line("model_load_seconds_sum", loads * use.load),
            line("model_load_seconds_count", loads),
        ]
    if use.installed:
        lines.append(line("model_disk_bytes", use.memory))
    if use.requests:
        lines.append(line("requests_total", use.requests, route="/api/chat", code="200"))
    more: Sequence[tuple[str, str, Mapping[str, int]]] = (
        ("request_keep_alive_total", "class", use.own),
        ("model_unloads_total", "reason", use.unloads),
        ("model_evictions_total", "by", use.evicted_by),
    )
    for name, label, counts in more:
        lines += [line(name, count, **{label: key}) for key, count in counts.items()]
    return lines
