# SPDX-License-Identifier: Apache-2.0
"""Replays the scheduler's queue over the requests seen: what it told to leave, and for whom.

Where (nearly) all requests are seen, the scheduler's own rules say what it did (sched.go:221-360):

- it serves its queue in the order of arrival, and one load at a time: after a load comes the oldest
  request that waits for one;
- a request for other options of a loaded model condemns that very runner (sched.go:255-258);
- a request that finds no room condemns an idle runner, which leaves at once. If none is idle, it
  condemns the one with the shortest keep-alive, ties by the name of the weights, and waits until
  its requests have ended (sched.go:1663-1693). After each unload the scheduler looks again;
- a condemned runner has a keep-alive of 0. It goes on only if a later request names another
  (sched.go:483-485).

So what left a while after the oldest request began to wait was busy and condemned then, whatever
its own requests brought about later.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from ollama_exporter.residency import timings
from ollama_exporter.residency.evidence.exit_requests import ExitRequests
from ollama_exporter.residency.evidence.process_exits import ProcessExit
from ollama_exporter.residency.evidence.requests import SeenRequest, precedes
from ollama_exporter.residency.evidence.runner_processes import RunnerProcess

MOST_LOADS: Final = 16  # since the runner was loaded, latest first: older ones are not replayed
MOST_DECISIONS: Final = 8  # between two loads


@dataclass(frozen=True, slots=True)
class Queue:
    """What the scheduler had before it when a runner left, oldest first."""

    exited: ProcessExit
    exits: Sequence[ProcessExit]
    runners: Sequence[RunnerProcess]  # those that lived lately
    requests: ExitRequests
    wait: float  # between two unloads of one queue, as it usually is here
    out_of_memory: Collection[float]  # when runners ran out of memory
    loads: int = MOST_LOADS  # that are replayed


def condemned(case: Queue) -> SeenRequest | None:
    """Return the request for which this runner was told to leave while it was busy, if any."""
    for start, end in _between_loads(case):
        for moment, head in _decisions(case, start, end):
            if _is_victim(case, head, moment) and not _is_spared(case, moment):
                return head
    return None


def _between_loads(case: Queue) -> Iterator[tuple[float, float]]:
    """Return when the scheduler loaded nothing while this runner was loaded."""
    own, at = case.exited.runner, case.exited.at
    loads = [r for r in case.runners if own.born <= r.born < at][-case.loads :]
    for runner, following in pairwise([*loads, None]):
        listed = runner is not None and (runner.died is None or runner.listed is not None)
        ended = _load_end(case, runner) if runner is not None and listed else None
        end = at if following is None else following.born
        if ended is not None and end - ended > timings.MEMORY_WAIT_LEAST:
            yield ended, end


def _load_end(case: Queue, runner: RunnerProcess) -> float | None:
    """Return when a load was over, as polls, the first byte of an answer, and an exit show it."""
    names = case.requests.runners.names(runner.weights)
    answers = (
        r.answered
        for r in case.requests.seen.history_of(*names)
        if r.answered is not None and r.answered > runner.born and not r.fact.stop
    )
    listed = None if runner.unlisted is None else runner.listed  # before 0.30 it is while it loads
    known = [m for m in (listed, runner.died, min(answers, default=None)) if m is not None]
    latest = min(known, default=None)
    if latest is None or runner.unlisted is None:
        return latest
    # What left between the two polls left for the next in the queue: within milliseconds.
    victim = _next_exit(case, runner.unlisted, latest)
    return latest if victim is None or victim.runner is runner else victim.at


def _decisions(case: Queue, start: float, end: float) -> Iterator[tuple[float, SeenRequest]]:
    """Return when the scheduler chose what to unload, and for which request."""
    moment = start
    for _ in range(MOST_DECISIONS):
        head = case.requests.head(case.exited, moment, end)
        if head is None or moment >= end:
            return
        moment = max(moment, head.fact.at)
        if end - moment <= timings.PROMPT and not case.requests.is_reload(head, case.exited):
            return
        yield moment, head
        left = _next_exit(case, moment, end)
        gave_up = [m for m in (head.answered, head.ended) if m is not None]  # or it was served
        moment = min([*gave_up, math.inf if left is None else left.at + case.wait])


def _next_exit(case: Queue, moment: float, end: float) -> ProcessExit | None:
    """Return what was unloaded next."""
    same = timings.SAME_MOMENT
    return next(
        (
            x
            for x in case.exits
            if moment - same <= x.high
            and x.low < end
            and x is not case.exited
            and not x.listed_dead
        ),
        None,
    )


def _is_victim(case: Queue, head: SeenRequest, moment: float) -> bool:
    """Return whether the scheduler chose this runner for that request."""
    exited = case.exited
    if case.requests.is_reload(head, exited):
        return True
    alive = [r for r in case.runners if r.lived(moment)]
    names = {name for r in alive for name in case.requests.runners.names(r.weights)[:1]}
    if head.model in names or not _stalled(case, head, moment, names):
        return False  # another is to be loaded again, or an idle one left at once
    if not case.requests.busy(exited.runner, moment):
        return False
    return all(_comes_first(case, r, moment) for r in alive if r is not exited.runner)


def _stalled(case: Queue, head: SeenRequest, moment: float, names: Collection[str]) -> bool:
    """Return whether nothing left at once when the scheduler chose: then nothing was idle."""
    exited = case.exited
    if any(_may_leave_unseen(x, moment) for x in case.exits if x is not exited):
        return False
    first = _next_exit(case, moment, exited.at) or exited
    answered = any(m is not None and m < first.at for m in (head.answered, head.ended))
    unseen = case.requests.served_another(names, moment, first.at)  # it came, and has left
    queued = any(
        x.at <= moment and timings.SAME_MOMENT < first.at - x.at <= timings.MEMORY_WAIT
        for x in case.exits
        if not x.listed_dead
    )
    return first.low - moment > timings.PROMPT and not (queued or answered or unseen)


def _may_leave_unseen(exited: ProcessExit, moment: float) -> bool:
    """Return whether a dead runner was listed then: the scheduler takes it for an idle one."""
    gone = exited.removed is not None and exited.removed < moment
    return exited.listed_dead and exited.at < moment + timings.PROMPT and not gone


def _comes_first(case: Queue, runner: RunnerProcess, moment: float) -> bool:
    """Return whether both are busy, and the scheduler takes this runner before that other one."""
    if not case.requests.busy(runner, moment):
        return False
    own, default = case.exited.runner, case.requests.seen.default_keep_alive
    mine, others = (case.requests.keep_alives(r, moment) for r in (own, runner))
    first = own.weights < runner.weights
    if mine == {0.0}:  # it left first, so the other hardly was the one that was waited for
        return any(precedes(0.0, y, default, tie=first) for y in others)
    return all(precedes(x, y, default, tie=first) for x in mine for y in others)


def _is_spared(case: Queue, moment: float) -> bool:
    """Return whether it was to go anyway, or a later request let it go on."""
    loaded = case.exited.runner.loaded_after
    ran_out = any(loaded < m < moment for m in case.out_of_memory)
    forgotten = case.exited.at - moment > timings.REQUESTS_KEPT
    return ran_out or forgotten or case.requests.renewed(case.exited, moment)
