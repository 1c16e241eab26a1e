# SPDX-License-Identifier: Apache-2.0
"""Decides which runner serves, which one leaves, and what fits. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from ollama_exporter.simulator.runner_slots import RunnerSlots
from ollama_exporter.simulator.state import Host, QueuedRequest, Runner

SERVER_BUSY = "server busy, please try again.  maximum pending requests exceeded"


def needs_reload(runner: Runner, request: QueuedRequest) -> bool:
    """Return whether this runner must be reloaded to serve the request."""
    if runner.crashed_at is not None:  # the health ping fails
        return True
    old, new = runner.options, request.options
    if old.shift != new.shift or old.others != new.others:
        return True
    if new.num_gpu >= 0 and new.num_gpu != old.num_gpu:
        return True
    # a difference is allowed only if both are automatic
    both_automatic = old.num_ctx_auto and new.num_ctx_auto
    wanted = min(new.num_ctx, runner.file.train_context)
    return not both_automatic and wanted != old.num_ctx


def victim(runners: Iterable[Runner]) -> Runner | None:
    """Return the idle runner with the shortest keep-alive, ties by weights; else a busy one.

    Neither the last use nor the size matters.
    """
    ordered = sorted(runners, key=lambda runner: (runner.session, runner.file.weights))
    idle = [runner for runner in ordered if runner.refs == 0]
    return next(iter(idle or ordered), None)


def free_memory(host: Host, runners: Iterable[Runner]) -> int:
    """Return the free bytes of the GPU, at least 0."""
    return max(0, host.memory - sum(runner.size_vram for runner in runners))


def slots(host: Host, request: QueuedRequest) -> int:
    """Return the slots of the runner. Embedding models get one."""
    return 1 if request.file.embeds else host.parallel


def effective_context(request: QueuedRequest) -> int:
    """Return the tokens per slot with which the runner starts."""
    return min(request.options.num_ctx, request.file.train_context)


def predicted(host: Host, request: QueuedRequest) -> int:
    """Return the bytes that the runner is predicted to need."""
    return request.file.memory(effective_context(request), slots(host, request))


def fits_beside(host: Host, runners: Iterable[Runner], request: QueuedRequest) -> bool:
    """Return whether a load fits beside others: in at most 80 % of what is free.

    Always true without a GPU, and for requests that set num_gpu.
    """
    if not host.gpu or request.options.num_gpu >= 0:
        return True
    return predicted(host, request) <= free_memory(host, runners) * 80 // 100


def split(host: Host, runners: Iterable[Runner], request: QueuedRequest) -> tuple[int, int]:
    """Return `size` and `size_vram`. What does not fit on the GPU stays in main memory."""
    size = predicted(host, request)
    if not host.gpu or request.options.num_gpu == 0:
        return size, 0
    return size, min(size, free_memory(host, runners))


def new_runner(
    host: Host, runners: Iterable[Runner], request: QueuedRequest, *, pid: int, now: float
) -> Runner:
    """Return the runner that starts for a request."""
    size, size_vram = split(host, runners, request)
    context, parallel = effective_context(request), slots(host, request)
    return Runner(
        pid=pid,
        name=request.name,
        digest=request.digest,
        file=request.file,
        options=replace(request.options, num_ctx=context),
        size=size,
        size_vram=size_vram,
        session=host.keep_alive if request.keep_alive is None else request.keep_alive,
        parallel=parallel,
        started_at=now,
        slots=RunnerSlots(parallel, context, shift=request.options.shift),
    )


def next_lower_context(tokens: int) -> int | None:
    """Return the next lower automatic context after an out of memory; None: no lower one."""
    if tokens > 32768:  # noqa: PLR2004 - the server's own steps
        return 32768
    return 4096 if tokens > 4096 else None  # noqa: PLR2004 - the server's own steps
