# SPDX-License-Identifier: Apache-2.0
"""Which runner serves, which has to go, and what fits: decisions without state or time."""

from collections.abc import Iterable
from dataclasses import replace

from ollama_exporter.simulator.state import Host, QueuedRequest, Runner

SERVER_BUSY = "server busy, please try again.  maximum pending requests exceeded"


def needs_reload(runner: Runner, request: QueuedRequest) -> bool:
    """Whether the request cannot be served by this runner as it stands."""
    if runner.crashed_at is not None:  # the health ping fails
        return True
    old, new = runner.options, request.options
    if old.shift != new.shift or old.others != new.others:
        return True
    if new.num_gpu >= 0 and new.num_gpu != old.num_gpu:
        return True
    # forgiven only if both were automatic; an explicit value equal to the effective one is equal
    both_automatic = old.num_ctx_auto and new.num_ctx_auto
    wanted = min(new.num_ctx, runner.file.train_context)
    return not both_automatic and wanted != old.num_ctx


def victim(runners: Iterable[Runner]) -> Runner | None:
    """Shortest configured keep-alive first, ties by weights; an idle one before a busy one.

    Not the least recently used, and whatever its size.
    """
    ordered = sorted(runners, key=lambda runner: (runner.session, runner.file.weights))
    idle = [runner for runner in ordered if runner.refs == 0]
    return next(iter(idle or ordered), None)


def free_memory(host: Host, runners: Iterable[Runner]) -> int:
    """Bytes of the GPU that no runner holds, never negative."""
    return max(0, host.memory - sum(runner.size_vram for runner in runners))


def slots(host: Host, request: QueuedRequest) -> int:
    """Slots of the runner: embedding models get one."""
    return 1 if request.file.embeds else host.parallel


def effective_context(request: QueuedRequest) -> int:
    """Tokens per slot that the runner is started with."""
    return min(request.options.num_ctx, request.file.train_context)


def predicted(host: Host, request: QueuedRequest) -> int:
    """Bytes that the runner is expected to take."""
    return request.file.memory(effective_context(request), slots(host, request))


def fits_beside(host: Host, runners: Iterable[Runner], request: QueuedRequest) -> bool:
    """Check before a load beside others: at most 80 % of what is free.

    Skipped without a GPU and for requests that fix how many layers the GPU gets.
    """
    if not host.gpu or request.options.num_gpu >= 0:
        return True
    return predicted(host, request) <= free_memory(host, runners) * 80 // 100


def split(host: Host, runners: Iterable[Runner], request: QueuedRequest) -> tuple[int, int]:
    """`size` and `size_vram` of the runner: what does not fit the GPU stays in main memory."""
    size = predicted(host, request)
    if not host.gpu or request.options.num_gpu == 0:
        return size, 0
    return size, min(size, free_memory(host, runners))


def new_runner(
    host: Host, runners: Iterable[Runner], request: QueuedRequest, *, pid: int, now: float
) -> Runner:
    """Make the runner that is started for a request."""
    size, size_vram = split(host, runners, request)
    return Runner(
        pid=pid,
        name=request.name,
        digest=request.digest,
        file=request.file,
        options=replace(request.options, num_ctx=effective_context(request)),
        size=size,
        size_vram=size_vram,
        session=host.keep_alive if request.keep_alive is None else request.keep_alive,
        parallel=slots(host, request),
        started_at=now,
    )


def next_lower_context(tokens: int) -> int | None:
    """Find the automatic context after a load ran out of memory; None: there is no lower one."""
    if tokens > 32768:  # noqa: PLR2004 - the server's own steps
        return 32768
    return 4096 if tokens > 4096 else None  # noqa: PLR2004 - the server's own steps
