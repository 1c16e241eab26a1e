# SPDX-License-Identifier: Apache-2.0
"""Section This machine: runner processes, their use of memory and CPU, lines of the log."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol

from prometheus_client.metrics_core import Metric

from ollama_exporter.clock import Timeline
from ollama_exporter.host.runner.slot_usage import ModelTotals, RunnerSight
from ollama_exporter.metrics.from_catalog import Samples, constant
from ollama_exporter.metrics.labels import ModelLabels
from ollama_exporter.poller.published import Published
from ollama_exporter.residency.events import View


class ProcessUsage(Protocol):
    """Resource use of a process."""

    @property
    def resident(self) -> int:
        """Resident memory now, bytes."""

    @property
    def cpu(self) -> float:
        """CPU time since the process started, seconds."""


class Sight(Protocol):
    """What this machine shows besides the facts that the tracker gets."""

    @property
    def log_lines(self) -> Mapping[str, int] | None:
        """Lines of the log by level; None: no log is followed."""

    @property
    def log_understood(self) -> bool | None:
        """Whether the lines of the log can be read; None: not known yet."""

    def usage(self, pid: int) -> ProcessUsage | None:
        """Return what a runner uses; None: it exited or is not visible."""

    def load_progress(self, model: str, pid: int) -> float | None:
        """Return the share of a model that its loading runner has read; None: not visible."""

    def runners(self) -> Iterable[RunnerSight]:
        """Return what each resident runner's own port shows."""

    def runner_totals(self) -> Iterable[tuple[str, ModelTotals]]:
        """Return what was counted at the slots of each model since the start."""


class Blind:
    """This machine is not watched."""

    log_lines: Mapping[str, int] | None = None
    log_understood: bool | None = None

    def usage(self, pid: int) -> ProcessUsage | None:  # noqa: ARG002 - the protocol's
        """Return None."""
        return None

    def load_progress(self, model: str, pid: int) -> float | None:  # noqa: ARG002 - the protocol's
        """Return None."""
        return None

    def runners(self) -> Iterable[RunnerSight]:
        """See nothing."""
        return ()

    def runner_totals(self) -> Iterable[tuple[str, ModelTotals]]:
        """Count nothing."""
        return ()


BLIND: Final = Blind()


class MachineCollector:
    """The families have no samples if processes or log are not visible."""

    name = "machine"

    def __init__(self, sight: Sight, timeline: Timeline, labels: ModelLabels) -> None:
        self._sight, self._timeline, self._labels = sight, timeline, labels
        # Wall-clock times, converted once: a corrected clock must not look like a new process.
        self._births: dict[float, float] = {}

    def collect_published(self, published: Published) -> Iterator[Metric]:
        """Yield the families."""
        view = published.view
        yield constant(
            "ollama_model_runner_up", self._runner_up(view) if published.server.up else []
        )
        started = self._loading(view)
        yield constant("ollama_model_loading", self._is_loading(view, started))
        born = view.server_started
        births = {*started.values(), *(() if born is None else (born,))}
        self._births = {at: self._births.get(at) or self._timeline.wall(at) for at in births}
        since = [((label,), self._births[at]) for label, at in started.items()]
        yield constant("ollama_model_load_started_timestamp_seconds", since)
        yield constant("ollama_model_load_progress_ratio", self._load_progress(view))
        memory, cpu = self._usage(view)
        yield constant("ollama_runner_resident_memory_bytes", memory)
        yield constant("ollama_runner_cpu_seconds_total", cpu)
        server = [] if born is None else [((), self._births[born])]
        yield constant("ollama_server_start_time_seconds", server)
        lines = self._sight.log_lines
        counts = () if lines is None else sorted(lines.items())
        yield constant("ollama_log_lines_total", [((level,), float(n)) for level, n in counts])
        understood = self._sight.log_understood
        known = [] if understood is None else [((), float(understood))]
        yield constant("ollama_log_understood", known)
        contradictions = [] if lines is None else [((), float(view.contradictions))]
        yield constant("ollama_log_contradictions_total", contradictions)

    def _runner_up(self, view: View) -> Samples:
        """Return 0 for a label if the runner of any of its models exited while listed."""
        values: dict[str, float] = {}
        for state in view.models:
            if state.runner_up is not None:
                label = self._labels.label(state.name)
                values[label] = min(values.get(label, 1.0), float(state.runner_up))
        return [((label,), value) for label, value in values.items()]

    def _loading(self, view: View) -> dict[str, float]:
        """Return the oldest load in progress of each label."""
        started: dict[str, float] = {}
        for state in view.models:
            if state.loading_since is not None:
                label = self._labels.label(state.name)
                started[label] = min(started.get(label, state.loading_since), state.loading_since)
        return started

    def _load_progress(self, view: View) -> Samples:
        """Return how far the loads in progress are: of models that share a label, the least."""
        values: dict[str, float] = {}
        for state in view.models:
            if state.loading_since is None or not state.pids:
                continue
            share = self._sight.load_progress(state.name, state.pids[-1])
            if share is not None:
                label = self._labels.label(state.name)
                values[label] = min(values.get(label, 1.0), share)
        return [((label,), value) for label, value in values.items()]

    def _is_loading(self, view: View, started: Mapping[str, float]) -> Samples:
        """Return 1 for each label that is loading; and 0 for others if the server is visible."""
        if view.server_started is None and not started:
            return []
        known = {self._labels.label(state.name) for state in view.models}
        return [((label,), float(label in started)) for label in sorted(known)]

    def _usage(self, view: View) -> tuple[Samples, Samples]:
        memory: dict[str, float] = {}
        cpu: dict[str, float] = {}
        for state in view.models:
            for used in filter(None, map(self._sight.usage, state.pids)):
                label = self._labels.label(state.name)
                memory[label] = memory.get(label, 0.0) + used.resident
                cpu[label] = cpu.get(label, 0.0) + used.cpu
        return (
            [((label,), value) for label, value in memory.items()],
            [((label,), value) for label, value in cpu.items()],
        )
