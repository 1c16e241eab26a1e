# SPDX-License-Identifier: Apache-2.0
"""What the poller knows of the server, and its families."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.metrics_core import Metric

from ollama_exporter.errors import FailureReason
from ollama_exporter.metrics.from_catalog import constant
from ollama_exporter.metrics.labels import ModelLabels


@dataclass(frozen=True, slots=True)
class ServerState:
    """The server as of the last poll. Moments are wall-clock Unix seconds."""

    up: bool = False
    version: str | None = None
    last_success: float | None = None
    last_duration: float | None = None
    polls: int = 0
    failures: Mapping[FailureReason, int] = field(default_factory=dict)
    installed: tuple[tuple[str, int], ...] | None = None  # name and bytes on disk; None: unknown


class ServerCollector:
    """Section Server of the catalogue, but for the restarts."""

    name = "server"

    def __init__(self, state: Callable[[], ServerState], labels: ModelLabels) -> None:
        self._state = state
        self._labels = labels

    def collect(self) -> Iterator[Metric]:
        """Yield the families of one state."""
        state = self._state()
        yield constant("ollama_up", [((), float(state.up))])
        version = [((state.version,), 1.0)] if state.version is not None else []
        yield constant("ollama_version_info", version)
        yield constant("ollama_last_poll_success_timestamp_seconds", _known(state.last_success))
        yield constant("ollama_poll_duration_seconds", _known(state.last_duration))
        yield constant("ollama_polls_total", [((), float(state.polls))])
        yield constant(
            "ollama_poll_failures_total",
            [((reason.value,), float(state.failures.get(reason, 0))) for reason in FailureReason],
        )
        installed = state.installed
        yield constant(
            "ollama_models_installed", _known(None if installed is None else len(installed))
        )
        sizes: dict[str, float] = {}
        for name, size in installed or ():
            label = self._labels.label(name)
            sizes[label] = sizes.get(label, 0.0) + size
        yield constant("ollama_model_disk_bytes", [((name,), n) for name, n in sizes.items()])


def _known(value: float | None) -> list[tuple[tuple[str, ...], float]]:
    return [] if value is None else [((), float(value))]
