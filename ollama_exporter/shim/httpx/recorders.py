# SPDX-License-Identifier: Apache-2.0
"""The recorders of this process, one for each registry.

A registry accepts a family once, so all clients that are instrumented for it share a recorder.
`RECORDERS` is therefore the one object of this package that belongs to the process.
"""

import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

from prometheus_client import REGISTRY, CollectorRegistry

from ollama_exporter.advice.idle_gaps import IdleGapDetector
from ollama_exporter.clock import Timeline
from ollama_exporter.metrics.collectors.idle_gap_collector import IdleGapCollector
from ollama_exporter.metrics.fast_instruments import FastCounter
from ollama_exporter.metrics.from_catalog import Families, empty
from ollama_exporter.metrics.labels import MOST_MODELS, ModelLabels
from ollama_exporter.reporter import Reporter
from ollama_exporter.shim.in_flight import InFlight, Unpolled
from ollama_exporter.shim.observation import Observation
from ollama_exporter.shim.recorder import Recorder, RequestInstruments

ERRORS: Final = "ollama_exporter_recorder_errors_total"


class StandaloneCollector:
    """Collects a recorder that is not part of an exporter, and counts its internal errors."""

    def __init__(
        self,
        *,
        max_models: int = MOST_MODELS,
        on_request: Callable[[Observation], None] | None = None,
    ) -> None:
        instruments = RequestInstruments(ModelLabels(max_models))
        # Not the library's counter: its lock may be held by another thread when a process forks.
        self._errors = FastCounter(ERRORS)
        self._errors.create()
        self.recorder = Recorder(
            instruments,
            InFlight(Unpolled(), IdleGapDetector()),
            Reporter(error=self._errors.add),
            Timeline(),
            on_request=on_request,
        )
        self._parts = (self.recorder, instruments.loads, IdleGapCollector(instruments.gaps))

    def collect(self) -> Families:
        """Yield the families as counted so far."""
        for part in self._parts:
            yield from part.collect()
        yield self._errors.collect()

    def describe(self) -> Families:
        """Yield the families' names."""
        for part in self._parts:
            yield from part.describe()
        yield empty(ERRORS)


class Recorders:
    """Makes and keeps the recorders. Survives a fork while other threads use them."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._recorders: WeakKeyDictionary[CollectorRegistry, Recorder] = WeakKeyDictionary()
        self._in_use: WeakSet[Recorder] = WeakSet()  # a client may outlive its registry
        self._forking: list[Recorder] = []

    def of(self, registry: CollectorRegistry | None) -> Recorder:
        """Return the recorder of a registry (default: prometheus_client's)."""
        registry = REGISTRY if registry is None else registry
        survive_forks()
        with self.lock:
            recorder = self._recorders.get(registry)
            if recorder is None:
                alone = StandaloneCollector()
                registry.register(alone)
                recorder = self._recorders[registry] = alone.recorder
                self._in_use.add(recorder)
        return recorder

    def before_fork(self) -> None:
        """Wait until no other thread is in the middle of recording."""
        self.lock.acquire()
        self._forking = list(self._in_use)
        for recorder in self._forking:
            recorder.before_fork()

    def after_fork_in_parent(self) -> None:
        """Let the other threads continue."""
        for recorder in self._forking:
            recorder.after_fork_in_parent()
        self.lock.release()

    def after_fork_in_child(self) -> None:
        """Make new locks: the threads that waited for the old ones do not exist here."""
        for recorder in self._forking:
            recorder.after_fork_in_child()
        self.lock = threading.RLock()


RECORDERS: Final = Recorders()


@cache
def survive_forks() -> None:
    """Have every fork of this process call RECORDERS. Windows has no fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=RECORDERS.before_fork,
            after_in_parent=RECORDERS.after_fork_in_parent,
            after_in_child=RECORDERS.after_fork_in_child,
        )
