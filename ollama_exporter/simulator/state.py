# SPDX-License-Identifier: Apache-2.0
"""The values of the scheduler: host, requests, runners, effects and true events.

Moments are Unix seconds on the simulated server's clock, durations seconds, sizes bytes.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from ollama_exporter.simulator.model_files import GIB, ModelFile
from ollama_exporter.simulator.runner_slots import RunnerSlots

# 2^63-1 ns, 292 years: the server replaces every negative keep-alive by it.
NEVER: Final = (2**63 - 1) / 1e9

Generation = Literal["new", "old"]
Signal = Literal["SIGTERM", "SIGKILL"]


class TrueReason(StrEnum):
    """Why a runner left memory; the words of `ollama_unloads_total`'s label `reason`."""

    EXPIRED = "expired"
    STOPPED = "stopped"
    EVICTED = "evicted"
    OPTIONS_CHANGED = "options_changed"
    REPLACED = "replaced"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    SERVER_RESTARTED = "server_restarted"


@dataclass(frozen=True, slots=True)
class Host:
    """The machine and the server's settings."""

    memory: int = 24 * GIB  # bytes of the GPU; without a GPU, of the machine
    gpu: bool = True
    keep_alive: float = 300.0  # seconds, OLLAMA_KEEP_ALIVE; read when a runner is loaded
    max_loaded: int = 3  # OLLAMA_MAX_LOADED_MODELS; 3 is the automatic value of one GPU or none
    max_queue: int = 512  # OLLAMA_MAX_QUEUE: pending loads and reloads
    parallel: int = 1  # OLLAMA_NUM_PARALLEL: slots of a runner
    context: int | None = None  # OLLAMA_CONTEXT_LENGTH
    generation: Generation = "new"  # old: before 0.30, which lists models while they load
    recovery: float = 5.0  # seconds to wait until freed GPU memory is reported
    convergence: float = 0.5  # the same if nothing else is loaded
    endpoint_metrics: bool = False  # LLAMA_ARG_ENDPOINT_METRICS=1: runners serve /metrics
    slots_debug: bool = False  # LLAMA_SERVER_SLOTS_DEBUG=1: /slots shows prompts

    @property
    def automatic_context(self) -> int:
        """num_ctx of requests without one: by GPU memory, unless the operator set it."""
        if self.context is not None:
            return self.context
        gpu = self.memory if self.gpu else 0
        if gpu < 23 * GIB:
            return 4096
        return 32768 if gpu < 47 * GIB else 262_144


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """The options with which a runner starts. A different one causes a reload."""

    num_ctx: int
    num_ctx_auto: bool = True
    others: frozenset[tuple[str, object]] = frozenset()
    num_gpu: int = -1  # layers on the GPU; -1: as many as fit
    shift: bool = True


@dataclass(slots=True)
class QueuedRequest:
    """One request for a runner."""

    id: int
    name: str  # as `/api/ps` would show it
    digest: str
    file: ModelFile
    options: RunnerOptions
    keep_alive: float | None = None  # seconds; None: the request carries none
    oom_retried: bool = False  # its load ran out of memory once

    @property
    def key(self) -> str:
        """The weights, which identify a runner."""
        return self.file.weights


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a runner is to be unloaded."""

    reason: TrueReason
    at: float
    by: str | None = None  # the model whose load needs the memory
    request: int | None = None  # the request for which it is unloaded


@dataclass(slots=True)
class Runner:
    """One process that holds one set of weights."""

    pid: int
    name: str
    digest: str
    file: ModelFile
    options: RunnerOptions
    size: int
    size_vram: int
    session: float  # seconds, the keep-alive in effect
    parallel: int
    started_at: float
    slots: RunnerSlots
    loading: bool = True
    loaded_at: float = 0.0
    refs: int = 0
    expires_at: float | None = None  # None until first idle: then it slides
    timer: float | None = None
    expiring: bool = False  # its expiry has begun; while busy it is retried
    crashed_at: float | None = None
    cause: Cause | None = None
    active: list[int] = field(default_factory=list)  # request ids that hold a slot
    waiting: deque[int] = field(default_factory=deque)  # request ids that wait for one


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of `/api/ps`."""

    name: str
    digest: str
    file: ModelFile
    size: int
    size_vram: int
    context: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class Granted:
    """The request has its runner. `load_duration` ends here."""

    id: int
    at: float


@dataclass(frozen=True, slots=True)
class Started:
    """The request has a slot: its prompt is being processed."""

    id: int
    at: float


@dataclass(frozen=True, slots=True)
class LoadRefused:
    """The request fails with this status and text."""

    id: int
    at: float
    status: int
    error: str


Effect = Granted | Started | LoadRefused


@dataclass(frozen=True, slots=True)
class Load:
    """Truth: the runner became ready."""

    at: float
    name: str
    digest: str
    weights: str
    pid: int
    num_ctx: int
    started_at: float
    request: int | None = None  # the request that it was loaded for


@dataclass(frozen=True, slots=True)
class Unload:
    """Truth: the runner left the list at `at`, for a reason of the moment `decided`."""

    at: float
    name: str
    digest: str
    weights: str
    pid: int
    reason: TrueReason
    decided: float
    loaded_at: float
    by: str | None = None
    request: int | None = None  # the request for which it was unloaded


@dataclass(frozen=True, slots=True)
class ServerStarted:
    """Truth: the server started."""

    at: float


@dataclass(frozen=True, slots=True)
class ServerStopped:
    """Truth: the server stopped."""

    at: float
    signal: Signal


Truth = Load | Unload | ServerStarted | ServerStopped
