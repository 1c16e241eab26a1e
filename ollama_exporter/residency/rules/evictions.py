# SPDX-License-Identifier: Apache-2.0
"""Whether it had to make room for a load, and for which.

- One load at a time, first come first served: after an eviction the next model to be loaded is the
  evictor, unless its load fails.
- What was listed before and after an unload cannot have wanted that room.
- The end of one load is followed by the next eviction within milliseconds: what appears in the poll
  in which another model is gone was usually loaded before that.
- What wanted the room waits from the eviction to the end of the wait for memory, and is started
  then: a birth at another moment follows from another exit, or from none.
- A load keeps the scheduler busy: what exits meanwhile was not evicted.
"""

from typing import Final

from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Evidence, Reason
from ollama_exporter.residency.evidence.case import Case
from ollama_exporter.residency.evidence.exit_evidence import ExitEvidence
from ollama_exporter.residency.evidence.poll_evidence import PollEvidence
from ollama_exporter.residency.evidence.requests import SeenRequest
from ollama_exporter.residency.evidence.room_taken import answers, needed_more, needed_no_room
from ollama_exporter.residency.evidence.runner_processes import RunnerProcess
from ollama_exporter.residency.facts import LogKind
from ollama_exporter.residency.poll_unloads import Arrivals
from ollama_exporter.residency.rules.reloads import loaded_again
from ollama_exporter.residency.rules.verdict import LOOK_AGAIN, WAIT, Opinion, unknown, verdict

TOOK_ROOM: Final = frozenset({Reason.EVICTED, Reason.REPLACED})


# -- requests --------------------------------------------------------------------------------------


def condemned_by_the_queue(case: Case) -> Opinion:
    """All requests are seen, and it was told to leave, though busy, for one that waited."""
    found = case.condemned_for if case.complete else None
    return None if found is None else wanted(case, found)


def taken_before_it_was_stopped(case: PollEvidence) -> Opinion:
    """A request found it idle before the stop call came: the scheduler takes an idle one at once.

    It does so as well for the oldest request that waits, as soon as another load has ended.
    """
    unload, cause, demand = case.unload, case.request_cause, case.demand
    if cause is None or cause.evidence is not Evidence.STOP_CALL or demand is None:
        return None
    stopped = cause.request.fact.at
    late = unload.low < stopped
    if not (late and case.complete) or case.unloads.swift or unload.others_lost or unload.busy:
        return None
    used, before = case.life.last_use or 0.0, stopped - timings.PROMPT
    if max(unload.low, used) < demand.fact.at < before:
        return wanted(case, demand)
    loaded = unload.gap.newcomers - {unload.name}  # recorded: 3 evictions, 3 stops
    return unknown(Evidence.STOP_OR_VICTIM) if loaded else None


def a_request_waits_for_its_room(case: ExitEvidence) -> Opinion:
    """All requests are seen, and the oldest was waiting for a load that could begin just then."""
    demand, at = case.first_in_line, case.exited.at
    if demand is None or not case.complete or case.queue_start < at or case.runners.loading(at):
        return None
    return wanted(case, demand)


def a_request_was_served(case: PollEvidence) -> Opinion:
    """All requests are seen, and a load that began within the bounds is over already."""
    unload, demand = case.unload, case.unload.demand
    if not case.complete or not unload.served:
        return None
    if demand is not None and demand.fact.at < unload.served[0].fact.at:
        return None
    if case.wants_reload and unload.others_lost >= len(unload.served):
        return None  # more was lost than those loads needed: one made room for its own reload
    return verdict(Reason.EVICTED, Evidence.OTHER_MODEL_SERVED, by=unload.served[0].model)


def a_request_waited(case: Case) -> Opinion:
    """The oldest request that was waiting for a load wanted its room: the server takes turns."""
    return wanted(case, case.demand) if case.demand and case.demand_counts else None


def a_request_waited_in_vain(case: PollEvidence) -> Opinion:
    """The window is over; some requests are seen, and one of them wanted a load."""
    return wanted(case, case.demand) if case.over and case.demand else None


def wanted(case: Case, demand: SeenRequest) -> Opinion:
    """Return what a request that waited for a load wanted of it."""
    if demand.model != case.life.model.name:
        return verdict(Reason.EVICTED, Evidence.OTHER_MODEL_WAITED, by=demand.model)
    new = case.wants_new_weights(demand)
    if new is None:
        return WAIT
    if new:
        return verdict(Reason.REPLACED, Evidence.NEW_WEIGHTS_WAITED, by=demand.model)
    return verdict(Reason.OPTIONS_CHANGED, Evidence.OTHER_OPTIONS_WAITED)


# -- the log ---------------------------------------------------------------------------------------


def room_was_wanted(case: ExitEvidence) -> Opinion:
    """The log says that a load needed memory at that very moment."""
    wanted_then = case.lines(LogKind.ROOM_WANTED, timings.LOGGED_WITH)
    return made_room(case, Evidence.LOG_ROOM_WANTED) if wanted_then else None


def made_room(case: Case, evidence: Evidence) -> Opinion:
    """Return by what it was evicted: what is loaded next took the room."""
    if case.awaits_next_load:
        return WAIT
    name, took = case.life.model.name, case.next_load
    by = None if took is None else took.name
    replaced = took is not None and took.other_weights and by == name
    return verdict(Reason.REPLACED if replaced else Reason.EVICTED, evidence, by=by)


def a_load_was_logged(case: PollEvidence) -> Opinion:
    """On a swift server a load begins in the instant in which its room is made: each took one."""
    unload = case.unload
    others = unload.gap.newcomers - {unload.name}
    if case.complete or not case.unloads.swift or not others:
        return None
    if len(case.log.moments(LogKind.LOAD_STARTED, unload.low, unload.high)) <= unload.others_lost:
        return None
    return verdict(Reason.EVICTED, Evidence.LOG_LOAD_BETWEEN_POLLS, by=min(others))


# -- what was loaded next, by processes ------------------------------------------------------------


def condemned_while_busy(case: ExitEvidence) -> Opinion:
    """It became due as a load ended, though busy: the next load wants its room.

    The scheduler condemns one runner at a time, and none while it loads.
    """
    life = case.life
    if not (life.slid and life.at_now and case.became_due_at_load_end(life)):
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
    reason = Reason.REPLACED if case.exited.name in names else Reason.EVICTED
    return verdict(reason, Evidence.CONDEMNED_WHILE_BUSY, by=by)


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


def one_of_several(case: ExitEvidence) -> Opinion:
    """The next unload made room for a model that is not known to fit into this one's room.

    A load that needs several victims takes them one at a time: the next one a wait later, or, if it
    is busy, when its requests end.
    """
    follower = case.follower
    if follower is None:
        return None
    needed = needed_more(case, follower) if follower.reason in TOOK_ROOM else None
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
    took, waited = answers(case, newborn), case.requests.waited(newborn, exited.at)
    complete = case.complete
    if complete and case.demand and case.demand.model == exited.name:
        return verdict(Reason.OPTIONS_CHANGED, Evidence.OTHER_OPTIONS_WAITED)
    if waited is False and complete:
        took = False
    elif waited and (complete or not case.occupied(newborn)):
        took = True
    if took:
        return _took_its_room(case, newborn, asked=bool(waited))
    if took is None and newborn.weights == exited.runner.weights:
        return loaded_again(case, newborn, usual=False)
    if took is None and not case.demand:
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
        return loaded_again(case, newborn, usual=True)
    if case.exited.name in names:
        waited, started = Evidence.NEW_WEIGHTS_WAITED, Evidence.NEW_WEIGHTS_STARTED
        return verdict(Reason.REPLACED, waited if asked else started, by=by)
    waited, started = Evidence.OTHER_MODEL_WAITED, Evidence.OTHER_MODEL_STARTED
    return verdict(Reason.EVICTED, waited if asked else started, by=by)


def a_load_had_just_ended(case: ExitEvidence) -> Opinion:
    """It exited as a load ended: a victim of the next request, whatever became of that request."""
    victim = case.was_at_load_end(case.exited) and not case.runners.loading(case.exited.at)
    victim = victim and not needed_no_room(case, case.next_birth)
    return verdict(Reason.EVICTED, Evidence.AT_LOAD_END) if victim else None


# -- what appeared next, by polls ------------------------------------------------------------------


def a_model_appeared(case: PollEvidence) -> Opinion:
    """The next model to be loaded took the room."""
    unload = case.unload
    if unload.arrivals is None:
        return None
    if unload.back is None:
        return appeared(case, unload.arrivals)
    if unload.arrivals.strangers:  # recorded: 4 evictions, 3 others
        return unknown(Evidence.NEWCOMER_AND_RELOAD)
    if (case.flips and not case.complete) or case.wants_reload:
        return verdict(Reason.OPTIONS_CHANGED, Evidence.BACK_SOON, Evidence.CONTEXT_KEEPS_CHANGING)
    return unknown(Evidence.BACK_UNCHANGED)


def appeared(case: PollEvidence, arrivals: Arrivals) -> Opinion:
    """Judge by the models that appeared next; the one that left is not among them."""
    unload = case.unload
    if not case.confirmed:
        return LOOK_AGAIN  # one listing may come from another server at the same address
    if unload.name in arrivals.names:
        if arrivals.after > unload.high + case.tolerances.replaced_within:
            return unknown(Evidence.OTHER_DIGEST_LATE)
        return verdict(Reason.REPLACED, Evidence.OTHER_DIGEST, by=unload.name)
    if not arrivals.fresh:
        return unknown(Evidence.NEWCOMER_NOT_NEW)
    if unload.needless:
        return unknown(Evidence.NEWCOMER_WOULD_FIT)
    evictor = next(key for key in arrivals.models if key in arrivals.fresh)
    return verdict(Reason.EVICTED, Evidence.NEWCOMER, by=evictor[0])
