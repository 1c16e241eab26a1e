# SPDX-License-Identifier: Apache-2.0
"""Whether a runner ran out of memory, and which others that made the server drop.

A runner that runs out of memory ends; the server then drops all others: the idle ones leave in
turn, each with its wait for memory, the busy ones become due at that moment and leave when their
requests end (sched.go:1632-1661). Else it condemns one runner at a time, idle ones first, to make
room for a load (sched.go:1663-1693): a busy one becomes due as the load before it ends.
"""

from dataclasses import replace
from typing import Final

from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Evidence, Reason
from ollama_exporter.residency.evidence.case import Case
from ollama_exporter.residency.evidence.exit_evidence import ExitEvidence
from ollama_exporter.residency.evidence.process_exits import ProcessExit
from ollama_exporter.residency.evidence.room_taken import answers
from ollama_exporter.residency.incarnation import Incarnation
from ollama_exporter.residency.rules.verdict import WAIT, Opinion, requested, verdict

MOST_DROPPED: Final = 4  # that leave one after the other


def a_request_ran_out_of_memory(case: Case) -> Opinion:
    """A request failed with an out-of-memory message, in the queue of unloads that it caused."""
    return requested(case, Reason.OUT_OF_MEMORY)


def another_ran_out_of_memory(case: ExitEvidence) -> Opinion:
    """It follows a known out-of-memory in the queue of unloads."""
    exited = case.exited
    for moment in case.exits.out_of_memory:
        latest = exited.at + timings.ANOTHERS_REQUEST_ERROR
        loaded = exited.runner.loaded_after < moment <= latest
        if loaded and case.queue_start <= moment + timings.PROMPT * 2:
            return verdict(Reason.OUT_OF_MEMORY, Evidence.ANOTHER_OUT_OF_MEMORY)
    return None


def left_as_at_out_of_memory(case: ExitEvidence) -> Opinion:
    """Others left or became due as only an out-of-memory makes them. The log would have it."""
    if case.log.followed:
        return None
    if left_together(case):
        return verdict(Reason.OUT_OF_MEMORY, Evidence.LEFT_TOGETHER)
    if others_due(case):
        return verdict(Reason.OUT_OF_MEMORY, Evidence.OTHERS_DUE_WITH_IT)
    for other in case.exits.recent:
        if other.listed_dead and other is not case.exited:
            dropped = dropped_with(case, case.exited, other)
            if dropped is None:
                return WAIT
            if dropped:
                return verdict(Reason.OUT_OF_MEMORY, Evidence.ANOTHER_ENDED_BY_ITSELF)
    return None


def busy_at_out_of_memory(case: ExitEvidence) -> Opinion:
    """It lived at an out-of-memory, and no request has ended since: it was busy all the time."""
    life, at = case.exited.life, case.exited.at
    for moment in case.exits.out_of_memory:
        untouched = life.spared_at is None or life.spared_at < moment
        recent = at - moment < timings.BUSY_AT_OUT_OF_MEMORY
        loaded = case.exited.runner.loaded_after < moment
        if loaded and moment < at and untouched and recent:
            return verdict(Reason.OUT_OF_MEMORY, Evidence.BUSY_AT_OUT_OF_MEMORY)
    return None


def others_due(case: ExitEvidence) -> bool:
    """Return whether busy ones became due as it exited: an out-of-memory does that to all of them.

    The scheduler condemns one at a time, and none while it loads or waits for memory.
    """
    at, others = case.exited.at, [*case.lives.values(), *(x.life for x in case.exits.recent)]
    due = {
        id(life): life
        for life in others
        if life is not case.exited.life and life.slid and _became_due(life, at)
    }
    if len(due) > 1:
        return True
    if case.exited.listed_dead:
        return any(not case.became_due_at_load_end(life) for life in due.values())
    return any(
        case.runners.loading_through(life.due_after or 0.0, life.due_at or 0.0)
        for life in due.values()
    )


def left_together(case: ExitEvidence) -> bool:
    """Return whether another exited at that moment: a server that waits ends one at a time."""
    at, error = case.exited.at, timings.SAME_DECISION
    return not case.exits.memory_wait.none and any(
        x is not case.exited and abs(x.at - at) <= error and not x.listed_dead
        for x in case.exits.recent
    )


def dropped_with(case: ExitEvidence, exited: ProcessExit, crash: ProcessExit) -> bool | None:
    """Return whether an out-of-memory of that other runner can have dropped this one.

    All that were loaded leave then, one after the other without a pause, each with its wait for
    memory, and none has a reason of its own. None: it is not known yet.
    """
    if exited.listed_dead or exited.polled is None:
        return False
    gap, longest = exited.at - crash.at, case.exits.memory_wait.longest
    start, same = case.queue_start_of(exited), timings.SAME_MOMENT
    in_turn = gap > same and _in_turn(case, exited, crash)
    loaded = exited.runner.loaded_after < crash.at
    followed = gap >= -timings.SAME_DECISION and (gap <= longest or in_turn)
    if not (loaded and followed) or _has_own_reason(exited, start) or _crashed(case, crash):
        return False
    if gap <= timings.DROPPED_TOGETHER and start > crash.at - same:
        return not _answered(case, exited, -same, same)
    between = any(
        crash.at + same < x.at < exited.at - same
        and not x.listed_dead
        and x.reason is not Reason.OUT_OF_MEMORY
        for x in case.exits.recent
    )
    if between or (start > crash.at + same and not in_turn):
        return False
    if not case.births_known(exited.at + timings.MEMORY_WAIT):
        return None
    return not _answered(case, exited, same, timings.MEMORY_WAIT, but=crash)


def _in_turn(case: ExitEvidence, exited: ProcessExit, crash: ProcessExit) -> bool:
    """Return whether it exited whole waits for memory after that crash, or after the queue."""
    wait = case.exits.memory_wait.typical
    before = (x.at for x in case.exits.recent if not x.listed_dead and 0 < crash.at - x.at < wait)
    start = max(before, default=None)
    passed = exited.at - (crash.at if start is None else start)
    turns = round(passed / wait) if wait else 0
    return 0 < turns <= MOST_DROPPED and abs(passed - turns * wait) <= timings.SAME_MOMENT


def _has_own_reason(exited: ProcessExit, start: float) -> bool:
    """Return whether its deadline came, or a stop was seen. `start`: of the queue."""
    life = exited.life
    earliest, latest = start - timings.PROMPT, exited.at + timings.DEADLINE_ERROR
    due = earliest <= life.expires <= latest and not life.at_now
    zero = life.at_now and not life.slid  # E was now from the first poll on: keep_alive 0
    return due or zero or life.stopped_at is not None


def _crashed(case: ExitEvidence, exited: ProcessExit) -> bool:
    """Return whether a request says that this was a crash, not an out-of-memory."""
    cause = case.requests.cause(exited, queue_start=case.queue_start_of(exited))
    return cause is not None and cause.reason is Reason.CRASHED


def _answered(
    case: ExitEvidence,
    exited: ProcessExit,
    low: float,
    high: float,
    *,
    but: ProcessExit | None = None,
) -> bool:
    """Return whether something was started for its room. `but`: a runner loaded again."""
    other = replace(case, exited=exited)
    return any(
        answers(other, r)
        for r in other.births(exited.at + low, exited.at + high)
        if but is None or r.weights != but.runner.weights
    )


def _became_due(life: Incarnation, moment: float) -> bool:
    """Return whether it became due between the polls around that moment."""
    low, high = life.due_after, life.due_at
    near = timings.LOAD_POLLS
    return low is not None and high is not None and low <= moment <= high <= low + near
