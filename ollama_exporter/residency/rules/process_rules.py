# SPDX-License-Identifier: Apache-2.0
"""Why a model left memory, where the exit of its process was seen: the rules, in their order.

The first rule that answers decides; docs/unload-reasons.md explains each for operators. They rest
on what `poll_rules.py` rests on, and besides, with T the moment of the exit:

- the server kills the process and removes the entry in one step: what is listed after T crashed;
- an out-of-memory ends one runner and drops all others at that very moment;
- what wanted the room waits from the eviction to the end of the wait for memory, and is started
  then: a birth at another moment follows from another exit, or from none;
- a load keeps the scheduler busy: what exits meanwhile was not evicted.
"""

from collections.abc import Callable
from typing import Final

from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Evidence, Reason
from ollama_exporter.residency.evidence.exit_evidence import ExitEvidence
from ollama_exporter.residency.evidence.out_of_memory import (
    condemned,
    dropped_with,
    left_together,
    others_due,
)
from ollama_exporter.residency.evidence.requests import SeenRequest
from ollama_exporter.residency.evidence.runner_processes import RunnerProcess
from ollama_exporter.residency.rules.log_rules import (
    room_was_wanted,
    the_log_names_it,
    the_log_tells_of_its_end,
)
from ollama_exporter.residency.rules.verdict import WAIT, Opinion, Verdict, unknown, verdict

TOOK_ROOM: Final = frozenset({Reason.EVICTED, Reason.REPLACED})


def decide(case: ExitEvidence) -> Verdict | None:
    """Return the reason, or None while it cannot be known yet."""
    for rule in RULES:
        opinion = rule(case)
        if isinstance(opinion, Verdict):
            return opinion
        if opinion is WAIT:
            return None
    return verdict(Reason.STOPPED, Evidence.NOTHING_STARTED)


def await_the_listing(case: ExitEvidence) -> Opinion:
    """No poll that began clearly after the exit has shown yet whether it is listed still."""
    exited = case.exited
    looked_once = exited.seen_dead is not None and not exited.listed_dead
    looking = exited.polled is None or (looked_once and exited.removed is None)
    return WAIT if looking and case.now < exited.at + timings.POLL_HANGS else None


# -- crashed, out of memory ------------------------------------------------------------------------


def a_request_ran_out_of_memory(case: ExitEvidence) -> Opinion:
    """A request failed with an out-of-memory message, in the queue of unloads that it caused."""
    return _requested(case, Reason.OUT_OF_MEMORY)


def listed_after_its_exit(case: ExitEvidence) -> Opinion:
    """The server did not end it. Others that left at that moment show an out-of-memory."""
    exited = case.exited
    if not exited.listed_dead:
        return None
    looked = exited.dead_at if case.scans else exited.seen_dead
    known = case.births_known(looked or exited.at)
    if case.log.followed:  # it would have an out-of-memory
        return verdict(Reason.CRASHED, Evidence.LISTED_AFTER_EXIT) if known else WAIT
    queued = case.queue_start < exited.at
    wait = 2 * case.exits.memory_wait.longest if queued else timings.SCAN
    if case.now < exited.at + wait + timings.SAME_MOMENT or not known:
        return WAIT
    if any(dropped_with(case, other, exited) for other in case.exits.recent):
        return verdict(Reason.OUT_OF_MEMORY, Evidence.OTHERS_LEFT_WITH_IT)
    if others_due(case):
        return verdict(Reason.OUT_OF_MEMORY, Evidence.OTHERS_DUE_WITH_IT)
    return verdict(Reason.CRASHED, Evidence.LISTED_AFTER_EXIT)


def condemned_before_it_crashed(case: ExitEvidence) -> Opinion:
    """The server did not end it, but had told it to leave: its room is wanted all the same."""
    due, at = case.exited.life.due_at, case.exited.at
    before = due is not None and due < at - timings.SAME_MOMENT
    return condemned_while_busy(case) if case.exited.listed_dead and before else None


def a_request_crashed(case: ExitEvidence) -> Opinion:
    """An answer of this runner failed with a crash message just then."""
    return _requested(case, Reason.CRASHED)


def another_ran_out_of_memory(case: ExitEvidence) -> Opinion:
    """It follows an out-of-memory in the queue of unloads, or that is not known yet."""
    exited = case.exited
    for moment in case.exits.out_of_memory:
        latest = exited.at + timings.ANOTHERS_REQUEST_ERROR
        if case.born < moment <= latest and case.queue_start <= moment + timings.PROMPT * 2:
            return verdict(Reason.OUT_OF_MEMORY, Evidence.ANOTHER_OUT_OF_MEMORY)
    if left_together(case) and not case.log.followed:
        return verdict(Reason.OUT_OF_MEMORY, Evidence.LEFT_TOGETHER)
    if others_due(case) and not case.log.followed:
        return verdict(Reason.OUT_OF_MEMORY, Evidence.OTHERS_DUE_WITH_IT)
    for other in () if case.log.followed else case.exits.recent:
        if other.listed_dead and other is not exited:
            dropped = dropped_with(case, exited, other)
            if dropped is None:
                return WAIT
            if dropped:
                return verdict(Reason.OUT_OF_MEMORY, Evidence.ANOTHER_ENDED_BY_ITSELF)
    return None


def busy_at_out_of_memory(case: ExitEvidence) -> Opinion:
    """It lived at an out-of-memory, and no request has ended since: it was busy all the time."""
    life, at = case.exited.life, case.exited.at
    for moment in case.exits.out_of_memory:
        untouched = life.changed_at is None or life.changed_at < moment
        recent = at - moment < timings.BUSY_AT_OUT_OF_MEMORY
        loaded = case.born < moment and (case.exited.runner.unlisted or 0.0) < moment
        if loaded and moment < at and untouched and recent:
            return verdict(Reason.OUT_OF_MEMORY, Evidence.BUSY_AT_OUT_OF_MEMORY)
    return None


# -- its deadline ----------------------------------------------------------------------------------


def deadline_reached(case: ExitEvidence) -> Opinion:
    """E was T, or passed while another unload was under way.

    A request seen may have set an E that no poll has shown, and an earlier one, too.
    """
    life, at, expires = case.exited.life, case.exited.at, case.exited.life.expires
    if life.at_now or life.stopped_at is not None:
        return None
    error = timings.DEADLINE_ERROR
    deadlines = [expires] if life.promised is None else [expires, life.promised]
    if any(at - timings.PROMPT <= each <= at + error for each in deadlines):
        return verdict(Reason.EXPIRED, Evidence.EXITED_AT_DEADLINE)
    if any(case.queue_start - error <= each <= at for each in deadlines):
        return verdict(Reason.EXPIRED, Evidence.DEADLINE_BEHIND_ANOTHER)
    unseen = life.seen < expires + timings.CLOCK_ERROR
    if at - timings.SLOW_KILL <= expires < at and unseen and case.request_cause is None:
        return verdict(Reason.EXPIRED, Evidence.EXITED_AFTER_DEADLINE)
    return None


def deadline_set_back(case: ExitEvidence) -> Opinion:
    """Only a stop sets E to the present, and it was set between two polls."""
    if case.exited.life.stopped_at is not None:
        return verdict(Reason.STOPPED, Evidence.DEADLINE_SET_BACK)
    return None


# -- requests --------------------------------------------------------------------------------------


def the_oldest_request_waited_for_it(case: ExitEvidence) -> Opinion:
    """All requests are seen, and the oldest was waiting long before this runner's last one ended.

    The scheduler was free meanwhile, so it was waiting for a busy victim. Runners with a keep-alive
    of 0 are taken first, and a request for other options waits for this very runner. A victim that
    was idle since has been used again, and goes on.
    """
    demand, changed = case.first_in_line, case.exited.life.changed_at
    if demand is None or not case.requests.complete or not case.waited_in_vain(demand.fact.at):
        return None
    if changed is not None and changed > demand.fact.at:
        return None
    if demand.model == case.exited.name:
        return verdict(Reason.OPTIONS_CHANGED, Evidence.OTHER_OPTIONS_WAITED)
    cause = case.request_cause
    if cause is not None and cause[1] is Evidence.KEEP_ALIVE_ZERO:
        return verdict(Reason.EVICTED, Evidence.OTHER_MODEL_WAITED, by=demand.model)
    return None


def a_request_waits_for_its_room(case: ExitEvidence) -> Opinion:
    """All requests are seen, and the oldest was waiting for a load that could begin just then."""
    demand, at = case.first_in_line, case.exited.at
    if demand is None or not case.requests.complete or demand.fact.at > at:
        return None
    if case.exited.listed_dead or case.queue_start < at or case.runners.loading(at):
        return None
    return _wanted(case, demand)


def a_request_stopped_it(case: ExitEvidence) -> Opinion:
    """A stop call, or its last request ended with keep_alive 0."""
    return None if case.request_cause is None else verdict(*case.request_cause)


def _requested(case: ExitEvidence, reason: Reason) -> Opinion:
    cause = case.request_cause
    return verdict(*cause) if cause is not None and cause[0] is reason else None


# -- what wanted the room --------------------------------------------------------------------------


def await_what_follows(case: ExitEvidence) -> Opinion:
    """Nothing was born yet, and there is time left for it. What else exits meanwhile says nothing.

    Unless it is the next victim of the same load: that one's birth is waited for then.
    """
    if case.next_birth is not None or case.follower is not None:
        return None
    wait_over = case.exited.at + case.exits.memory_wait.longest
    if not case.births_known(wait_over):
        return WAIT
    if case.chain:
        return None
    if case.polled < wait_over and case.now < case.exited.at + timings.POLL_HANGS:
        return WAIT
    # A load may be waiting for a busy victim: it needs more room than this one left.
    return WAIT if case.another_is_due and not case.over else None


def condemned_while_busy(case: ExitEvidence) -> Opinion:
    """It became due as a load ended, though busy: the next load wants its room."""
    life = case.exited.life
    if not condemned(case, life):
        return None
    at, same = case.exited.at, timings.SAME_MOMENT
    if case.births((life.due_at or at) + same, at - same):
        return None  # the next load found room without it
    newborn = next(iter(case.births(at - same, case.now)), None)
    if newborn is None:
        return verdict(Reason.EVICTED, Evidence.CONDEMNED_WHILE_BUSY) if case.over else WAIT
    names = case.runners.names(newborn.weights)
    if newborn.weights == case.exited.runner.weights:
        return verdict(Reason.OPTIONS_CHANGED, Evidence.CONDEMNED_WHILE_BUSY)
    if not names and not case.over:
        return WAIT
    by = names[0] if names else None
    return verdict(Reason.EVICTED, Evidence.CONDEMNED_WHILE_BUSY, by=by)


def one_of_several(case: ExitEvidence) -> Opinion:
    """The next unload made room for a model that is not known to fit into this one's room.

    A load that needs several victims takes them one at a time: the next one a wait later, or, if it
    is busy, when its requests end.
    """
    follower = case.follower
    if follower is None:
        return None
    needed = case.needed_more(follower) if follower.reason in TOOK_ROOM else None
    if follower.reason is None or (follower.reason in TOOK_ROOM and needed is None):
        return None if case.over else WAIT
    if needed:
        return verdict(Reason.EVICTED, Evidence.FIRST_OF_SEVERAL, by=follower.by)
    return None


def a_runner_was_started(case: ExitEvidence) -> Opinion:
    """A runner was born at the moment at which what waited for this exit is started."""
    exited, newborn = case.exited, case.next_birth
    if newborn is None or newborn.born - exited.at > timings.BORN_WITHIN:
        return None
    answers, waited = case.answers(newborn), case.requests.waited(newborn, exited.at)
    complete = case.requests.complete
    if complete and case.demand and case.demand.model == exited.name:
        return verdict(Reason.OPTIONS_CHANGED, Evidence.OTHER_OPTIONS_WAITED)
    if waited is False and complete:
        answers = False
    elif waited and (complete or not case.occupied(newborn)):
        answers = True
    if answers:
        return _took_its_room(case, newborn, asked=bool(waited))
    if answers is None and newborn.weights == exited.runner.weights:
        return _loaded_again(case, newborn, usual=False)
    if answers is None and not case.demand:
        return unknown(Evidence.STARTED_UNUSUAL)
    return None


def _took_its_room(case: ExitEvidence, newborn: RunnerProcess, *, asked: bool) -> Opinion:
    """Name the reason by what was started. `asked`: a request for it was waiting."""
    names = case.runners.names(newborn.weights)
    if not names and not case.over:
        return WAIT  # new weights, perhaps of its own name: the server will be asked
    by = names[0] if names else None
    if newborn.weights == case.exited.runner.weights:
        if asked:
            return verdict(Reason.OPTIONS_CHANGED, Evidence.OTHER_OPTIONS_WAITED)
        return _loaded_again(case, newborn, usual=True)
    if case.exited.name in names:
        waited, started = Evidence.NEW_WEIGHTS_WAITED, Evidence.NEW_WEIGHTS_STARTED
        return verdict(Reason.REPLACED, waited if asked else started, by=by)
    waited, started = Evidence.OTHER_MODEL_WAITED, Evidence.OTHER_MODEL_STARTED
    return verdict(Reason.EVICTED, waited if asked else started, by=by)


def _loaded_again(case: ExitEvidence, newborn: RunnerProcess, *, usual: bool) -> Opinion:
    """The same weights were loaded again: other options show as another context, once it is listed.

    With the same context it may as well have crashed, or a load that it made room for has failed.
    """
    if newborn.context is None and newborn.died is None and not case.over:
        return WAIT  # its context shows when it is listed
    same = newborn.context == case.exited.life.model.context
    if newborn.context is not None and same:
        return unknown(Evidence.SAME_WEIGHTS_UNCHANGED) if usual else None
    if usual:
        return verdict(Reason.OPTIONS_CHANGED, Evidence.SAME_WEIGHTS_STARTED)
    if newborn.context is not None:
        return verdict(Reason.OPTIONS_CHANGED, Evidence.SAME_WEIGHTS_OTHER_CONTEXT)
    return unknown(Evidence.SAME_WEIGHTS_UNUSUAL)


def a_request_waited(case: ExitEvidence) -> Opinion:
    """A request was waiting for a load, but nothing was started for it."""
    demand = case.demand
    if demand is None:
        return None
    if not case.requests.complete and demand.fact.at <= case.exited.at - timings.PROMPT:
        return None
    return _wanted(case, demand)


def _wanted(case: ExitEvidence, demand: SeenRequest) -> Verdict:
    """Return what a request that waited for a load wanted of it."""
    if demand.model == case.exited.name:
        return verdict(Reason.OPTIONS_CHANGED, Evidence.OTHER_OPTIONS_WAITED)
    return verdict(Reason.EVICTED, Evidence.OTHER_MODEL_WAITED, by=demand.model)


def a_load_had_just_ended(case: ExitEvidence) -> Opinion:
    """It exited as a load ended: a victim of the next request, whatever became of that request."""
    return verdict(Reason.EVICTED, Evidence.AT_LOAD_END) if case.at_load_end else None


def the_server_exited_next(case: ExitEvidence) -> Opinion:
    """Nothing could take the room, because the server exited."""
    died, at = case.exits.server_died, case.exited.at
    soon = died is not None and at < died < at + timings.BORN_WITHIN
    if soon and case.next_birth is None and not case.chain:
        return unknown(Evidence.SERVER_EXITED_NEXT)
    return None


RULES: Final[tuple[Callable[[ExitEvidence], Opinion], ...]] = (
    await_the_listing,
    the_log_names_it,
    the_log_tells_of_its_end,
    condemned_before_it_crashed,
    a_request_ran_out_of_memory,
    listed_after_its_exit,
    a_request_crashed,
    another_ran_out_of_memory,
    deadline_reached,
    deadline_set_back,
    busy_at_out_of_memory,
    the_oldest_request_waited_for_it,
    a_request_stopped_it,
    a_request_waits_for_its_room,
    room_was_wanted,
    condemned_while_busy,
    await_what_follows,
    one_of_several,
    a_runner_was_started,
    a_request_waited,
    a_load_had_just_ended,
    the_server_exited_next,
)
