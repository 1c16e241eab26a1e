# SPDX-License-Identifier: Apache-2.0
"""What the recorded looks at slots show of each model. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from ollama_exporter.host.runner.slot_usage import SlotUsage
from ollama_exporter.recordings.format import Recording
from ollama_exporter.residency.facts import WeightsNamed

HEX_SHOWN = 19  # characters of weights that no name is known of: `sha256-` and twelve


@dataclass(frozen=True, slots=True)
class ModelSlots:
    """What looks at the slots of one model found. `fill`: the largest share of a context."""

    model: str
    looks: int
    busy_seconds: float
    generated_tokens: int
    fill: float


def slot_summary(recording: Recording) -> Iterable[ModelSlots]:
    """Yield what the looks show of each model, by name; by weights where none is recorded."""
    names: dict[str, str] = {}
    for fact in recording.processes:
        if isinstance(fact, WeightsNamed):
            names.setdefault(fact.weights, fact.model)
    usage, looks, fill = SlotUsage(), dict[str, int](), dict[str, float]()
    for look in recording.looks:
        if look.slots is None:
            continue
        model = names.get(look.weights) or look.weights[:HEX_SHOWN] or "unknown"
        usage.look(model, (look.pid, 0.0), look.at, look.slots)
        looks[model] = looks.get(model, 0) + 1
        used = (slot.held / slot.context for slot in look.slots if slot.busy)
        fill[model] = max(fill.get(model, 0.0), *used, 0.0)
    for model, totals in sorted(usage.totals()):
        yield ModelSlots(
            model, looks[model], totals.busy_seconds, totals.generated_tokens, fill[model]
        )
