# SPDX-License-Identifier: Apache-2.0
"""Why a model left memory, where only polls show that it did: the rules, in their order.

The first rule that answers decides; docs/unload-reasons.md explains each for operators. The rules
follow from how the server's scheduler works:

- one load at a time, first come first served: after an eviction the next model to appear is the
  evictor, unless its load fails;
- what was listed before and after an unload cannot have wanted that room;
- the end of one load is followed by the next eviction within milliseconds: what appears in the poll
  in which another model is gone was usually loaded before that;
- E (`expires_at`) is written by the end of the last request and by a stop, never by an eviction;
- each unload is followed by a wait for memory of up to 5 s, in which nothing else is unloaded.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Evidence, Reason
from ollama_exporter.residency.evidence.log_lines import LoggedUnload
from ollama_exporter.residency.evidence.matching import NextLoad
from ollama_exporter.residency.poll_unloads import Arrivals, PollUnload
from ollama_exporter.residency.rules.verdict import (
    LOGGED,
    LOOK_AGAIN,
    WAIT,
    Opinion,
    Verdict,
    Wait,
    unknown,
    verdict,
)
from ollama_exporter.residency.tolerances import Tolerances


class PollCase(Struct, frozen=True):
    """An unload and what is known around it at the moment of judging."""

    unload: PollUnload
    over: bool  # the window in which evidence is waited for
    confirmed: bool  # a second listing agrees: it lacks the model, and has what appeared next
    blind: bool  # no poll was answered for longer than that window
    complete: bool  # the requests seen are (nearly) all
    flips: bool  # its context changed at least twice lately
    swift: bool  # newcomers are listed in the instant in which room is made
    accompanied: bool  # another left at the same time whose room was not needed
    tolerances: Tolerances
    all_logged: bool = False  # the log is at debug level
    loads: int = 0  # that began within the bounds, by the log
    logged: LoggedUnload | None = None  # the same unload in the log, at debug level
    next_load: NextLoad | None = None  # what was loaded next, by the log


def decide(case: PollCase) -> Verdict | Wait:
    """Return the reason, or what is waited for while it cannot be known yet."""
    for rule in RULES:
        opinion = rule(case)
        if isinstance(opinion, Verdict) or (opinion is not None and not case.over):
            return opinion
        if opinion is not None:
            break
    return unknown(Evidence.NOTHING_DECISIVE) if case.over else WAIT


def rests_on_polls(case: PollCase, found: Verdict) -> bool:
    """Return whether the next listings may still show that another server had answered."""
    unload = case.unload
    seen = case.logged or unload.demand or unload.served or unload.life.requested_unload
    return not (case.over or seen or found.reason is Reason.EXPIRED)


def the_server_restarted(case: PollCase) -> Opinion:
    """The connection was lost, and a second listing still lacks what was resident."""
    unload = case.unload
    if not unload.gap.restart:
        return None
    if not case.confirmed:
        return LOOK_AGAIN  # one listing may come from another server at the same address
    expired = unload.expired_between and not unload.gap.others_early
    if expired and not case.all_logged:  # the log would have its timer
        return verdict(Reason.EXPIRED, Evidence.DEADLINE_BETWEEN_POLLS)
    return verdict(Reason.SERVER_RESTARTED, Evidence.NO_DEADLINE_KEPT)


def not_watched(case: PollCase) -> Opinion:
    """After an hour without a poll, too much can have happened."""
    return unknown(Evidence.NOT_WATCHED) if case.blind else None


def the_log_names_it(case: PollCase) -> Opinion:
    """At debug level the log has every decision."""
    if case.logged is None:
        return None
    reason, unload, loaded = case.logged.reason, case.unload, case.next_load
    if reason is not Reason.EVICTED:
        return verdict(reason, LOGGED[reason])
    name = _next_listed(case) if loaded is None else loaded.name or _next_listed(case)
    settled = case.over or unload.gap.restart
    if name is None and not settled:
        return WAIT  # what took the room is still to be loaded: its name is worth the time
    if loaded is not None and name == unload.name and not loaded.same_weights:
        return verdict(Reason.REPLACED, LOGGED[reason], by=name)
    return verdict(reason, LOGGED[reason], by=name)


def _next_listed(case: PollCase) -> str | None:
    """Return the name of the model that appeared next, where the log began its load unnamed."""
    arrivals = case.unload.arrivals
    begun = case.next_load is not None or case.over
    if arrivals is None or not begun or not case.confirmed:
        return None
    return next((key[0] for key in arrivals.models if key in arrivals.fresh), None)


# -- what seen requests say about this very runner -------------------------------------------------


def a_request_crashed(case: PollCase) -> Opinion:
    """An answer of this runner failed with a crash message."""
    if case.unload.life.crashed_at is not None:
        return verdict(Reason.CRASHED, Evidence.REQUEST_CRASHED)
    return None


def a_request_unloaded_it(case: PollCase) -> Opinion:
    """A stop call, a last request with keep_alive 0, or an out-of-memory message."""
    unload, life, asked = case.unload, case.unload.life, case.unload.life.requested_unload
    if asked is None or asked.at > unload.high + timings.CLOCK_ERROR:
        return None
    if asked.after_load and unload.demand and asked.at > unload.low:
        return None  # as that load ended, the waiting request evicted this one before the others
    if asked.reason is Reason.STOPPED and unload.low > asked.at + timings.BEHIND_ANOTHER:
        return None  # it went on: another request held it, and may have changed the keep-alive
    passed = unload.low - timings.BEHIND_ANOTHER <= life.deadline() <= asked.since
    if passed and not life.at_now:
        return None  # its deadline had passed before that request began
    return verdict(asked.reason, asked.evidence)


# -- its deadline ----------------------------------------------------------------------------------


def deadline_set_back(case: PollCase) -> Opinion:
    """Only a stop sets E to the present, and it was set between two polls."""
    if case.unload.life.stopped_at is not None:
        return verdict(Reason.STOPPED, Evidence.DEADLINE_SET_BACK)
    return None


def deadline_reached(case: PollCase) -> Opinion:
    """E lies within the bounds, or a little before them behind another unload."""
    unload = case.unload
    if unload.life.at_now or unload.busy:
        return None
    if case.complete and case.swift and len(unload.served) > unload.others_lost:
        return None  # as much was loaded as was lost: each load took one
    earliest = unload.low - timings.BEHIND_ANOTHER
    if earliest <= unload.life.deadline() <= unload.high + timings.CLOCK_ERROR:
        return verdict(Reason.EXPIRED, Evidence.DEADLINE_BETWEEN_POLLS)
    return None


def back_with_other_context(case: PollCase) -> Opinion:
    """The same weights came back first, with another context or size."""
    unload = case.unload
    arrivals, back = unload.arrivals, unload.back
    if arrivals is None or back is None or not unload.life.reloaded(back):
        return None
    if not case.confirmed:
        return LOOK_AGAIN
    others = len(arrivals.fresh) > (unload.key in arrivals.fresh)
    if others and not (case.complete and unload.demand and unload.demand.own):
        return unknown(Evidence.BACK_BESIDE_NEWCOMER)
    return verdict(Reason.OPTIONS_CHANGED, Evidence.BACK_WITH_OTHER_CONTEXT)


def a_load_was_logged(case: PollCase) -> Opinion:
    """On a swift server a load begins in the instant in which its room is made: each took one."""
    unload = case.unload
    others = unload.gap.newcomers - {unload.name}
    if case.complete or not case.swift or not others or case.loads <= unload.others_lost:
        return None
    return verdict(Reason.EVICTED, Evidence.LOG_LOAD_BETWEEN_POLLS, by=min(others))


def due_before_idle(case: PollCase) -> Opinion:  # noqa: PLR0911 - a table of cases, one line each
    """E was now: keep_alive 0, a victim while busy, or a reload while busy."""
    unload, life = case.unload, case.unload.life
    if not life.at_now:
        return None
    if life.requested == 0:
        return verdict(Reason.STOPPED, Evidence.DUE_WITH_ZERO)
    if case.complete and unload.demand:
        return _wanted(case)
    if unload.arrivals is None and not case.over:
        return WAIT
    back, strangers = unload.back is not None, unload.others_appeared
    # It slid before, so it became due later. On a swift server the next load follows at once.
    victim = life.slid or (case.swift and not case.complete)
    if victim and strangers and not back and unload.arrivals is not None:
        return _appeared(case, unload.arrivals)
    # The scheduler evicts an idle model where there is one, so this was no victim.
    spared = life.beside_idle and (unload.needless or not case.swift)
    if life.slid or (strangers and (back or not spared)):
        return unknown(Evidence.DUE_ZERO_OR_VICTIM)
    if case.accompanied or case.complete:
        return unknown(Evidence.DUE_WITH_OTHERS)
    return verdict(Reason.STOPPED, Evidence.DUE_BUT_NOT_NEEDED)


# -- what wanted the room --------------------------------------------------------------------------


def a_request_was_served(case: PollCase) -> Opinion:
    """All requests are seen, and a load that began within the bounds is over already."""
    unload, demand = case.unload, case.unload.demand
    if not case.complete or not unload.served:
        return None
    if demand is not None and demand.request.fact.at < unload.served[0].fact.at:
        return None
    if demand is not None and demand.own and unload.others_lost >= len(unload.served):
        return None  # more was lost than those loads needed: one made room for its own reload
    return verdict(Reason.EVICTED, Evidence.OTHER_MODEL_SERVED, by=unload.served[0].model)


def a_request_waited(case: PollCase) -> Opinion:
    """All requests are seen, and the oldest one that was waiting asked for a load."""
    return _wanted(case) if case.unload.demand and case.complete else None


def a_model_appeared(case: PollCase) -> Opinion:
    """The next model to be loaded took the room."""
    unload = case.unload
    if unload.arrivals is None:
        return None
    if unload.back is None:
        return _appeared(case, unload.arrivals)
    if unload.arrivals.strangers:
        by = min(unload.arrivals.strangers)[0]
        return verdict(Reason.EVICTED, Evidence.NEWCOMER_AND_RELOAD, by=by)
    if (case.flips and not case.complete) or (unload.demand is not None and unload.demand.own):
        return verdict(Reason.OPTIONS_CHANGED, Evidence.BACK_SOON, Evidence.CONTEXT_KEEPS_CHANGING)
    return unknown(Evidence.BACK_UNCHANGED)


def a_request_waited_in_vain(case: PollCase) -> Opinion:
    """The window is over; some requests are seen, and one of them wanted a load."""
    return _wanted(case) if case.over and case.unload.demand else None


def _wanted(case: PollCase) -> Opinion:
    """Judge by the oldest request that was waiting for a load."""
    unload, demand = case.unload, case.unload.demand
    if demand is None:
        return None
    if not demand.own:
        return verdict(Reason.EVICTED, Evidence.OTHER_MODEL_WAITED, by=demand.request.model)
    if unload.arrivals is None and not case.over:
        return WAIT  # the same digest must come back; if another does, it was replaced
    named = 0 if unload.arrivals is None else unload.arrivals.names.get(unload.name, 0)
    if named > (unload.back is not None):
        return verdict(Reason.REPLACED, Evidence.OTHER_DIGEST, by=unload.name)
    return verdict(Reason.OPTIONS_CHANGED, Evidence.OTHER_OPTIONS_WAITED)


def _appeared(case: PollCase, arrivals: Arrivals) -> Opinion:
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


RULES: Final[tuple[Callable[[PollCase], Opinion], ...]] = (
    the_log_names_it,
    the_server_restarted,
    not_watched,
    a_request_crashed,
    a_request_unloaded_it,
    deadline_set_back,
    deadline_reached,
    back_with_other_context,
    a_request_was_served,
    a_load_was_logged,
    due_before_idle,
    a_request_waited,
    a_model_appeared,
    a_request_waited_in_vain,
)
