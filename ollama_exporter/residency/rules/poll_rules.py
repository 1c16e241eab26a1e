# SPDX-License-Identifier: Apache-2.0
"""Why a model left memory: the decision table, as rules in their order.

The first rule that speaks decides; docs/unload-reasons.md explains each for operators. The rules
follow from how the server's scheduler works:

- one load at a time, first come first served: after an eviction the next model to appear is the
  evictor, unless its load fails;
- what was listed before and after a loss cannot have asked for that loss's room;
- the end of one load is followed by the next eviction within milliseconds: what appears in the poll
  in which another vanished usually loaded before that (`tracker.py` sorts those out);
- E (`expires_at`) is written by the end of the last request and by a stop, never by an eviction;
- each unload is followed by a wait for memory of up to 5 s, in which nothing else is unloaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.evidence.log_lines import EVIDENCE, LoggedExit
from ollama_exporter.residency.incarnation import CLOCK_ERROR
from ollama_exporter.residency.poll_unloads import PollUnload

# A removal trails its cause by this behind another one: a wait for memory of 5 s, and a kill.
BEHIND_ANOTHER: Final = 6.0
PROMPT: Final = 10.0  # what wanted the room is listed that soon: two waits for memory, or a load
OTHER_DIGEST: Final = "its name came back with another digest"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A settled reason."""

    reason: Reason
    evidence: tuple[str, ...]
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """The rule would know if more were known: no later rule may decide yet."""


WAIT: Final = Wait()
Opinion = Verdict | Wait | None


@dataclass(frozen=True, slots=True)
class Newcomer:
    """What was loaded next; the weights are those that it took the place of, or others."""

    name: str | None
    same_weights: bool


@dataclass(frozen=True, slots=True)
class Case:
    """A loss and what is known around it at the moment of judging."""

    loss: PollUnload
    over: bool  # the window in which evidence is waited for
    blind: bool  # nobody watched for longer than that window
    complete: bool  # the requests seen are (nearly) all
    flips: bool  # its context changed at least twice in the last ten minutes
    swift: bool  # newcomers are listed in the instant that room is made
    accompanied: bool  # another left at the same time whose room nobody needed
    loads: int = 0  # that the log says began within the bounds
    ending: LoggedExit | None = None  # what the log says of it, at debug level
    newcomer: Newcomer | None = None  # what was loaded next, by the log


def decide(case: Case) -> Verdict | None:
    """Return the reason, or None while it cannot be told yet."""
    for rule in RULES:
        opinion = rule(case)
        if isinstance(opinion, Verdict):
            return opinion
        if isinstance(opinion, Wait):
            break
    return unknown("nothing decisive was seen within the window") if case.over else None


def unknown(*evidence: str) -> Verdict:
    """Say that it cannot be told."""
    return Verdict(Reason.UNKNOWN, evidence)


def unwatched(case: Case) -> Opinion:
    """An hour without a poll: too much can have happened."""
    return unknown("nobody watched when it left") if case.blind else None


def the_log_named_it(case: Case) -> Opinion:
    """At debug level the log tells every decision."""
    if case.ending is None:
        return None
    reason, loss = case.ending.reason, case.loss
    evidence = (EVIDENCE[reason],)
    if reason is not Reason.EVICTED:
        return Verdict(reason, evidence)
    newcomer = case.newcomer
    if newcomer is None:  # who took the room is still to be loaded
        return Verdict(reason, evidence) if case.over else WAIT
    if newcomer.name == loss.name and not newcomer.same_weights:
        return Verdict(Reason.REPLACED, evidence, by=loss.name)
    return Verdict(reason, evidence, by=newcomer.name)


# -- what seen requests said of this very runner ---------------------------------------------------


def a_request_failed(case: Case) -> Opinion:
    """A crash text in an answer of this runner."""
    if case.loss.life.crashed_at is not None:
        return Verdict(Reason.CRASHED, ("a request to it failed with a crash text",))
    return None


def condemned_by_request(case: Case) -> Opinion:
    """A stop call, a last request with keep-alive 0, an out-of-memory text."""
    loss, life, said = case.loss, case.loss.life, case.loss.life.condemned
    if said is None or said.at > loss.high + CLOCK_ERROR:
        return None
    if said.reason is Reason.OUT_OF_MEMORY and loss.demand and said.at > loss.low:
        return None  # it was gone before the others were condemned: a request wanted its room
    if said.reason is Reason.STOPPED and loss.low > said.at + BEHIND_ANOTHER:
        return None  # it lived on: another request held it, and may have changed the keep-alive
    if loss.low - BEHIND_ANOTHER <= life.deadline() <= said.since and not life.at_now:
        return None  # its deadline had passed before that request began
    return Verdict(said.reason, (said.evidence,))


# -- what its deadline said ------------------------------------------------------------------------


def deadline_set_to_the_past(case: Case) -> Opinion:
    """Only a stop sets E to the present; it was, between two polls."""
    if case.loss.life.stopped_at is not None:
        return Verdict(Reason.STOPPED, ("its deadline was set to a moment between two polls",))
    return None


def deadline_reached(case: Case) -> Opinion:
    """E lies within the bounds, or a little before them behind another unload."""
    loss = case.loss
    if loss.life.at_now or loss.busy:
        return None
    if case.complete and case.swift and len(loss.loaded) > len(loss.together):
        return None  # as much was loaded meanwhile as was lost: each load took one
    if loss.low - BEHIND_ANOTHER <= loss.life.deadline() <= loss.high + CLOCK_ERROR:
        return Verdict(Reason.EXPIRED, ("its deadline lies within the bounds",))
    return None


def returned_with_other_context(case: Case) -> Opinion:
    """The same weights came back first, with another context or size."""
    loss = case.loss
    back = loss.arrivals.get(loss.key)
    if back is None or not loss.life.reloaded(back):
        return None
    strangers = loss.arrivals.keys() - {loss.key} - loss.stayed
    if strangers and not (case.complete and loss.demand and loss.demand.own):
        return unknown("another model and the same digest with another context came together")
    return Verdict(Reason.OPTIONS_CHANGED, ("the same digest came back with another context",))


def a_load_was_logged(case: Case) -> Opinion:
    """On a swift server a load begins in the instant that its room is made: each took one."""
    loss = case.loss
    others = loss.newcomers - {loss.name}
    if case.complete or not case.swift or not others or case.loads <= len(loss.together):
        return None
    return Verdict(Reason.EVICTED, ("the log: a load began within the bounds",), by=min(others))


def condemned_before_idle(case: Case) -> Opinion:  # noqa: PLR0911 - a table of cases, one line each
    """E was now: keep-alive 0, a victim while busy, or a reload while busy."""
    loss, life = case.loss, case.loss.life
    if not life.at_now:
        return None
    if life.requested == 0:
        return Verdict(Reason.STOPPED, ("condemned before it was ever idle, keep-alive 0",))
    if case.complete and loss.demand:
        return _wanted(case)
    if not loss.arrivals and not case.over:
        return WAIT
    back, strangers = loss.key in loss.arrivals, loss.arrivals.keys() - {loss.key}
    # It slid before, so it was condemned later. On a swift server the next load follows at once.
    victim = life.slid or (case.swift and not case.complete)
    if victim and strangers and not back:
        return _appeared(case)
    # The scheduler takes an idle victim where there is one: then it was no victim.
    spared = life.beside_idle and (loss.needless or not case.swift)
    if life.slid or (strangers and (back or not spared)):
        return unknown("condemned before it was ever idle: keep-alive 0 or a busy victim")
    if case.accompanied or case.complete:
        return unknown("condemned before it was ever idle, together with others")
    return Verdict(
        Reason.STOPPED, ("condemned before it was ever idle, and nobody needed its room",)
    )


# -- who wanted the room ---------------------------------------------------------------------------


def a_request_was_loaded(case: Case) -> Opinion:
    """All requests are seen, and a load that began within the bounds is over already."""
    loss, demand = case.loss, case.loss.demand
    if not case.complete or not loss.loaded:
        return None
    if demand is not None and demand.request.fact.at < loss.loaded[0].fact.at:
        return None
    if demand is not None and demand.own and len(loss.together) >= len(loss.loaded):
        return None  # more was lost than those loads needed: one made room for its own reload
    evidence = "a request for another model was loaded meanwhile"
    return Verdict(Reason.EVICTED, (evidence,), by=loss.loaded[0].model)


def a_request_waited(case: Case) -> Opinion:
    """All requests are seen, and the oldest one that waited asked for a load."""
    return _wanted(case) if case.loss.demand and case.complete else None


def something_arrived(case: Case) -> Opinion:
    """The next model to be loaded took the room."""
    loss = case.loss
    if not loss.arrivals:
        return None
    if loss.key not in loss.arrivals:
        return _appeared(case)
    strangers = loss.arrivals.keys() - loss.stayed - loss.together - {loss.key}
    if strangers:
        by = min(strangers)[0]
        return Verdict(Reason.EVICTED, ("a newcomer, then reloaded between two polls",), by=by)
    if (case.flips and not case.complete) or (loss.demand is not None and loss.demand.own):
        return Verdict(
            Reason.OPTIONS_CHANGED,
            ("the same digest came back", "its context changed at least twice in ten minutes"),
        )
    return unknown("the same digest came back unchanged, no newcomer")


def a_request_waited_in_vain(case: Case) -> Opinion:
    """The window is over; some requests are seen, and one of them wanted a load."""
    return _wanted(case) if case.over and case.loss.demand else None


def _wanted(case: Case) -> Opinion:
    """Judge by the oldest request that waited for a load."""
    loss, demand = case.loss, case.loss.demand
    if demand is None:
        return None
    if not demand.own:
        evidence = "a request for another model waited for a load"
        return Verdict(Reason.EVICTED, (evidence,), by=demand.request.model)
    if not loss.arrivals and not case.over:
        return WAIT  # the same digest must come back; another digest: replaced
    if any(key[0] == loss.name and key != loss.key for key in loss.arrivals):
        return Verdict(Reason.REPLACED, (OTHER_DIGEST,), by=loss.name)
    return Verdict(Reason.OPTIONS_CHANGED, ("a request with other options waited for it",))


def _appeared(case: Case) -> Verdict:
    """Judge by the models that appeared next; the lost one is not among them."""
    loss = case.loss
    if any(key[0] == loss.name for key in loss.arrivals):
        if loss.arrived is not None and loss.arrived > loss.high + PROMPT:
            return unknown("its name came back with another digest, but late")
        return Verdict(Reason.REPLACED, (OTHER_DIGEST,), by=loss.name)
    evictors = [key for key in loss.arrivals if key not in loss.stayed]
    if not evictors:
        return unknown("the next model to appear was listed before and after the loss")
    if loss.needless:
        return unknown("the next model would have fitted beside it")
    return Verdict(Reason.EVICTED, ("another model appeared next",), by=evictors[0][0])


RULES: Final[tuple[Callable[[Case], Opinion], ...]] = (
    the_log_named_it,
    unwatched,
    a_request_failed,
    condemned_by_request,
    deadline_set_to_the_past,
    deadline_reached,
    returned_with_other_context,
    a_request_was_loaded,
    a_load_was_logged,
    condemned_before_idle,
    a_request_waited,
    something_arrived,
    a_request_waited_in_vain,
)
