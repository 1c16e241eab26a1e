# SPDX-License-Identifier: Apache-2.0
"""What an exporter beside the server would see of its machine in a rehearsal."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ollama_exporter.host.runner.slot_usage import ModelTotals, RunnerSight
from ollama_exporter.residency.facts import (
    Fact,
    ProcessesSeen,
    ProcessExited,
    ProcessStarted,
    WeightsNamed,
)
from ollama_exporter.simulator.model_files import MIB
from ollama_exporter.simulator.offline_run import OfflineRun
from ollama_exporter.simulator.script import Script
from ollama_exporter.simulator.state import Load, ServerStarted, ServerStopped, TrueReason, Unload

NOTICED: Final = 0.01  # seconds until a birth is noticed
OVERHEAD: Final = 700 * MIB  # of main memory that a runner takes beside what lies on the GPU
CORES: Final = {True: 1.0, False: 8.0}  # that a runner keeps busy, with a GPU and without
LINES: Final = {"info": 1 / 20, "warn": 1 / 1800}  # per second that the server is up


def facts(rehearsal: OfflineRun, script: Script) -> Iterator[tuple[float, Fact]]:
    """Yield the births and deaths of the rehearsal's processes, each with its moment."""
    server, servers = 0, iter(range(1, 1000))
    seen = False
    for event in sorted(rehearsal.truth, key=_moment):
        match event:
            case ServerStarted(at=at):
                server = next(servers)
                if not seen:
                    yield at, ProcessesSeen(at, seen=True)
                    for name, manifest in script.catalogue.manifests.items():
                        yield at, WeightsNamed(at, name, manifest.file.weights)
                    seen = True
                yield at, ProcessStarted(at + NOTICED, at, server, None)
            case ServerStopped(at=at):
                yield at, ProcessExited(at, server)
            case Load(started_at=at, pid=pid, weights=weights):
                yield at, ProcessStarted(at + NOTICED, at, pid, weights)
            case Unload(pid=pid):
                at = event.decided if event.reason is TrueReason.CRASHED else event.at
                yield at, ProcessExited(at, pid)


def _moment(event: Load | Unload | ServerStarted | ServerStopped) -> float:
    return event.started_at if isinstance(event, Load) else event.at


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used: bytes, and seconds of CPU."""

    resident: int
    cpu: float


class Machine:
    """Memory and CPU of runners as the rehearsal has them busy, and lines of a log."""

    def __init__(self, rehearsal: OfflineRun, script: Script) -> None:
        self._gpu, self.now = script.host.gpu, 0.0
        self._start = min((seen.at for seen in rehearsal.polls), default=0.0)
        self._runners = {e.pid: e for e in rehearsal.truth if isinstance(e, Load)}
        self._sizes = {
            name: m.file.memory(script.host.automatic_context)
            for name, m in script.catalogue.manifests.items()
        }
        self._busy: dict[str, list[tuple[float, float]]] = {}  # end of an answer, seconds it took
        for answer in sorted(rehearsal.answers, key=lambda each: each.ended):
            if answer.granted is not None:
                name = next(n for n in self._sizes if n.startswith(answer.step.model))
                took = answer.ended - answer.granted
                self._busy.setdefault(name, []).append((answer.ended, took))

    @property
    def log_lines(self) -> Mapping[str, int] | None:
        """Lines of the log by level."""
        return {level: int((self.now - self._start) * each) for level, each in LINES.items()}

    @property
    def log_understood(self) -> bool | None:
        """Whether the lines of the log can be read."""
        return True

    def load_progress(self, model: str, pid: int) -> float | None:  # noqa: ARG002 - the protocol's
        """Return nothing: the rehearsal reads no files."""
        return None

    def runners(self) -> Iterable[RunnerSight]:
        """Return nothing: the rehearsal has no slots."""
        return ()

    def runner_totals(self) -> Iterable[tuple[str, ModelTotals]]:
        """Return nothing, likewise."""
        return ()

    def usage(self, pid: int) -> Usage | None:
        """Return what a runner has used."""
        load = self._runners.get(pid)
        if load is None:
            return None
        busy = self._busy.get(load.name, [])
        first = bisect_right(busy, (load.at, 0.0))
        last = bisect_right(busy, (self.now, float("inf")))
        seconds = sum(took for _, took in busy[first:last])
        resident = OVERHEAD if self._gpu else self._sizes[load.name]
        return Usage(resident, seconds * CORES[self._gpu])
