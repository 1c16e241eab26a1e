# SPDX-License-Identifier: Apache-2.0
"""Why a runner whose process was seen to die left memory: the decision table, as rules in order.

The first rule that speaks decides; docs/unload-reasons.md explains each for operators. Besides
what `reasons.py` rests on, with T the moment of death:

- the server kills and takes off the list in one step: what is listed after T has crashed;
- an out-of-memory kills one and condemns all others at that very moment;
- whoever wanted the room waits from its condemnation to the end of the wait for memory, and is
  started then: a birth at another moment answers another death, or none;
- a load keeps the scheduler busy: what dies meanwhile was not evicted.
"""

from collections.abc import Callable
from typing import Final

from ollama_exporter.residency.accounts import KEEP_ALIVE_ZERO, PROMPT
from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.facts import LogKind
from ollama_exporter.residency.journal import EVIDENCE
from ollama_exporter.residency.lives import CLOCK_ERROR
from ollama_exporter.residency.reasons import WAIT, Opinion, Verdict
from ollama_exporter.residency.runners import SAME, Runner
from ollama_exporter.residency.scene import ANSWERED_BY, LOGGED, SCAN, Scene

SAME_LINE: Final = 0.03  # seconds between a death and the line that was written with it
UNANSWERED: Final = 12.0  # a poll hangs no longer than this; then it is judged without
SLOW_KILL: Final = 3.2  # a look at the GPUs may come before the kill
DEAD_BUT_LISTED: Final = "its process died while it was listed"
OTHER_MODEL: Final = "a request for another model waited for a load"
OTHER_OPTIONS: Final = "a request with other options waited for it"
OUT_OF_MEMORY_LASTS: Final = 300.0  # a busy runner that was condemned ends with its requests


def decide(scene: Scene) -> Verdict | None:
    """Return the reason, or None while it cannot be told yet."""
    for rule in RULES:
        opinion = rule(scene)
        if isinstance(opinion, Verdict):
            return opinion
        if opinion is WAIT:
            return None
    return Verdict(Reason.STOPPED, ("died before its deadline, and nobody waited for its room",))


def unknown(*evidence: str) -> Verdict:
    """Say that it cannot be told."""
    return Verdict(Reason.UNKNOWN, evidence)


def the_listing_is_awaited(scene: Scene) -> Opinion:
    """No poll has shown yet whether it is listed still."""
    waits = scene.death.polled is None and scene.now < scene.death.at + UNANSWERED
    return WAIT if waits else None


def the_log_named_it(scene: Scene) -> Opinion:
    """At debug level the log tells every decision."""
    journal, death = scene.journal, scene.death
    if not journal.detailed:
        return None
    if death.listed_dead:
        condemned = journal.condemned(death.runner.weights, death.at - SAME)
        already = condemned in (Reason.EVICTED, Reason.OPTIONS_CHANGED)
        return Verdict(condemned, (EVIDENCE[condemned],)) if condemned and already else None
    if scene.ending is None:
        return WAIT if journal.behind(death.at + LOGGED, scene.now) else None
    reason = scene.ending.reason
    if reason is not Reason.EVICTED:
        return Verdict(reason, (EVIDENCE[reason],))
    newborn = scene.newcomer
    if newborn is None and scene.now < death.at + 2 * ANSWERED_BY:
        return WAIT
    names = [] if newborn is None else scene.runners.names(newborn)
    if death.name in names and newborn != death.runner.weights:
        return Verdict(Reason.REPLACED, (EVIDENCE[reason],), by=death.name)
    return Verdict(reason, (EVIDENCE[reason],), by=names[0] if names else None)


# -- crashed, out of memory ------------------------------------------------------------------------


def a_request_ran_out_of_memory(scene: Scene) -> Opinion:
    """An out-of-memory text, in the queue of unloads that it belongs to."""
    said = scene.said
    return Verdict(said[0], (said[1],)) if said and said[0] is Reason.OUT_OF_MEMORY else None


def the_log_told_of_its_end(scene: Scene) -> Opinion:
    """At the default level: an out-of-memory of these weights, a crash, or room that was wanted."""
    death, at = scene.death, scene.death.at
    if scene.journal.behind(at + LOGGED, scene.now):
        return WAIT
    ran_out = scene.logged(LogKind.OUT_OF_MEMORY, LOGGED)
    if any(line.weights == death.runner.weights for line in ran_out):
        return Verdict(Reason.OUT_OF_MEMORY, (EVIDENCE[Reason.OUT_OF_MEMORY],))
    if scene.logged(LogKind.RUNNER_DIED, SAME_LINE) and not ran_out:
        return Verdict(Reason.CRASHED, ("the log: a runner died by itself",))
    return None


def room_was_wanted(scene: Scene) -> Opinion:
    """The log says that memory was wanted for a load at that very moment."""
    if scene.logged(LogKind.ROOM_WANTED, SAME_LINE) and not scene.death.listed_dead:
        if scene.newcomer is None and scene.now < scene.death.at + 2 * ANSWERED_BY:
            return WAIT
        names = [] if scene.newcomer is None else scene.runners.names(scene.newcomer)
        evidence = "the log: a load wanted room"
        return Verdict(Reason.EVICTED, (evidence,), by=names[0] if names else None)
    return None


def it_was_dead_but_listed(scene: Scene) -> Opinion:
    """The server did not end it. Others that died at that moment tell an out-of-memory."""
    death = scene.death
    if not death.listed_dead:
        return None
    if scene.journal.followed:
        # an out-of-memory would have been logged
        ready = scene.births_known(death.polled or death.at)
        return Verdict(Reason.CRASHED, (DEAD_BUT_LISTED,)) if ready else WAIT
    queued = scene.queue_start < death.at
    others_by = death.at + (2 * scene.deaths.rhythm.longest if queued else SCAN)
    if scene.now < others_by + SAME or not scene.births_known(death.polled or death.at):
        return WAIT
    if any(scene.condemned_with(other, death) for other in scene.deaths.recent):
        return Verdict(Reason.OUT_OF_MEMORY, ("it died, and others were condemned at that moment",))
    return Verdict(Reason.CRASHED, (DEAD_BUT_LISTED,))


def a_request_crashed(scene: Scene) -> Opinion:
    """A crash text in an answer of this runner, just then."""
    said = scene.said
    return Verdict(said[0], (said[1],)) if said and said[0] is Reason.CRASHED else None


def another_ran_out_of_memory(scene: Scene) -> Opinion:
    """It follows an out-of-memory in the queue of unloads, or that is not known yet."""
    death = scene.death
    for moment in scene.deaths.out_of_memory:
        if scene.born < moment <= death.at + 0.03 and scene.queue_start <= moment + PROMPT * 2:
            return Verdict(Reason.OUT_OF_MEMORY, ("condemned when another one died",))
    for other in () if scene.journal.followed else scene.deaths.recent:
        if other.listed_dead and other is not death:
            condemned = scene.condemned_with(death, other)
            if condemned is None:
                return WAIT
            if condemned:
                return Verdict(Reason.OUT_OF_MEMORY, ("another one died at that moment",))
    return None


def condemned_while_busy(scene: Scene) -> Opinion:
    """Alive at an out-of-memory, and no request has ended since: it was busy all the time."""
    life, at = scene.death.life, scene.death.at
    for moment in scene.deaths.out_of_memory:
        untouched = life.changed_at is None or life.changed_at < moment
        if scene.born < moment < at and untouched and at - moment < OUT_OF_MEMORY_LASTS:
            return Verdict(Reason.OUT_OF_MEMORY, ("condemned by an out of memory while busy",))
    return None


# -- its deadline ----------------------------------------------------------------------------------


def its_deadline_came(scene: Scene) -> Opinion:
    """E was T, or passed while another unload was under way."""
    life, at, expires = scene.death.life, scene.death.at, scene.death.life.expires
    if life.at_now or life.stopped_at is not None:
        return None
    if at - PROMPT <= expires <= at + 0.05:
        return Verdict(Reason.EXPIRED, ("died at its deadline",))
    if scene.queue_start - 0.05 <= expires <= at:
        return Verdict(Reason.EXPIRED, ("its deadline passed while another unload was under way",))
    if at - SLOW_KILL <= expires < at and life.seen < expires + CLOCK_ERROR and not scene.said:
        return Verdict(Reason.EXPIRED, ("died soon after its deadline, unseen in between",))
    return None


def its_deadline_was_set_to_the_past(scene: Scene) -> Opinion:
    """Only a stop sets E to the present; it was, between two polls."""
    if scene.death.life.stopped_at is not None:
        return Verdict(Reason.STOPPED, ("its deadline was set to a moment between two polls",))
    return None


def a_request_stopped_it(scene: Scene) -> Opinion:
    """A stop call, or its last request ended with keep-alive 0."""
    return None if scene.said is None else Verdict(scene.said[0], (scene.said[1],))


# -- who wanted the room ---------------------------------------------------------------------------


def the_oldest_request_had_condemned_it(scene: Scene) -> Opinion:
    """All requests are seen, and the oldest had waited for a while when its last one ended.

    The scheduler was free meanwhile, so it waited for a busy victim; those with a keep-alive of 0
    come first, and whoever wants other options waits for this very one. A victim that was idle
    since has been used again, and lives on.
    """
    demand, changed = scene.first_in_line, scene.death.life.changed_at
    if demand is None or not scene.accounts.complete or not scene.waited_in_vain(demand.fact.at):
        return None
    if changed is not None and changed > demand.fact.at:
        return None
    if demand.model == scene.death.name:
        return Verdict(Reason.OPTIONS_CHANGED, (OTHER_OPTIONS,))
    if scene.said is not None and scene.said[1] == KEEP_ALIVE_ZERO:
        return Verdict(Reason.EVICTED, (OTHER_MODEL,), by=demand.model)
    return None


def condemned_while_another_loaded(scene: Scene) -> Opinion:
    """E became now while a load kept the scheduler busy: a keep-alive of 0, no victim."""
    life = scene.death.life
    if not life.at_now or life.condemned_after is None or life.condemned_at is None:
        return None
    if scene.runners.loading_through(life.condemned_after, life.condemned_at):
        evidence = "condemned while another was loading, before it was ever idle"
        return Verdict(Reason.STOPPED, (evidence,))
    return None


def what_follows_is_awaited(scene: Scene) -> Opinion:
    """Neither a birth nor another death has followed, and there is time left for either."""
    if scene.next_birth is not None or scene.chain:
        return None
    wait_over = scene.death.at + scene.deaths.rhythm.longest
    if not scene.births_known(wait_over):
        return WAIT
    if scene.polled < wait_over and scene.now < scene.death.at + UNANSWERED:
        return WAIT
    # Somebody was condemned while busy: more room may be wanted than this one left.
    return WAIT if scene.somebody_is_condemned and not scene.over else None


def one_of_several(scene: Scene) -> Opinion:
    """The next unload made room for somebody who is not known to fit into this one's room.

    A load that needs several victims condemns them one at a time: the next one a wait later, or,
    if it is busy, when its requests end.
    """
    if not scene.chain or scene.runners.loading(scene.death.at):
        return None
    follower = scene.chain[0]
    usual = scene.deaths.rhythm.usual(follower.at - scene.death.at)
    if not usual and follower.life.written:
        return None
    if follower.reason is None:
        return None if scene.over else WAIT
    if follower.reason not in (Reason.EVICTED, Reason.REPLACED):
        return None
    needed = scene.needed_more(follower)
    if needed is None and not scene.over:
        return WAIT
    if needed:
        evidence = "the first of several for the same newcomer"
        return Verdict(Reason.EVICTED, (evidence,), by=follower.by)
    return None


def somebody_was_started(scene: Scene) -> Opinion:
    """A runner was born at the moment at which whoever waited for this death is started."""
    death, newborn = scene.death, scene.next_birth
    if newborn is None or newborn.born - death.at > ANSWERED_BY:
        return None
    answers, waited = scene.answers(newborn), scene.accounts.waited(newborn, death.at)
    complete = scene.accounts.complete
    if waited is False and complete:
        answers = False
    elif waited and (complete or not scene.occupied(newborn)):
        answers = True
    if answers:
        asked = "had a request waiting" if waited else "was started as soon as its memory was free"
        return _evicted(scene, asked)
    if answers is None and newborn.weights == death.runner.weights:
        return _loaded_again(scene, newborn)
    if answers is None and not scene.demand and not scene.roomy(newborn):
        return unknown("something was started soon after, but not after a usual wait")
    return None


def _loaded_again(scene: Scene, newborn: Runner) -> Opinion:
    """The same weights were loaded again, not after a usual wait: their context may tell."""
    if newborn.key is None and newborn.died is None and not scene.over:
        return WAIT  # its context shows when it is listed
    shown = scene.shown.get(newborn.weights)
    if newborn.key is not None and shown and shown.context != scene.death.life.model.context:
        return Verdict(
            Reason.OPTIONS_CHANGED, ("the same weights were loaded with another context",)
        )
    return unknown("the same weights were loaded soon after, but not after a usual wait")


def a_request_waited(scene: Scene) -> Opinion:
    """A request waited for a load, but nothing was started for it."""
    demand = scene.demand
    if demand is None:
        return None
    if not scene.accounts.complete and demand.fact.at <= scene.death.at - PROMPT:
        return None
    if demand.model == scene.death.name:
        return Verdict(Reason.OPTIONS_CHANGED, (OTHER_OPTIONS,))
    return Verdict(Reason.EVICTED, (OTHER_MODEL,), by=demand.model)


def a_load_had_just_ended(scene: Scene) -> Opinion:
    """It died as a load ended: the next request's victim, whatever became of that request."""
    if scene.at_a_load_s_end:
        evidence = "it died as another's load ended, as the next one's victim does"
        return Verdict(Reason.EVICTED, (evidence,))
    return None


def the_server_died_first(scene: Scene) -> Opinion:
    """Nobody could take the room: the server died."""
    died, at = scene.deaths.server_died, scene.death.at
    if died is not None and at < died < at + ANSWERED_BY:
        if scene.next_birth is None and not scene.chain:
            return unknown("the server died before anybody could take the room")
    return None


def _evicted(scene: Scene, asked: str) -> Verdict:
    newborn = scene.next_birth
    assert newborn is not None
    names = scene.runners.names(newborn.weights)
    by = names[0] if names else None
    if newborn.weights == scene.death.runner.weights:
        return Verdict(Reason.OPTIONS_CHANGED, (f"the same weights: their next runner {asked}",))
    if scene.death.name in names:
        return Verdict(Reason.REPLACED, (f"other weights of its name: their runner {asked}",), by)
    return Verdict(Reason.EVICTED, (f"another model's runner {asked}",), by)


RULES: Final[tuple[Callable[[Scene], Opinion], ...]] = (
    the_listing_is_awaited,
    the_log_named_it,
    the_log_told_of_its_end,
    a_request_ran_out_of_memory,
    it_was_dead_but_listed,
    a_request_crashed,
    another_ran_out_of_memory,
    its_deadline_came,
    its_deadline_was_set_to_the_past,
    condemned_while_busy,
    the_oldest_request_had_condemned_it,
    a_request_stopped_it,
    room_was_wanted,
    condemned_while_another_loaded,
    what_follows_is_awaited,
    one_of_several,
    somebody_was_started,
    a_request_waited,
    a_load_had_just_ended,
    the_server_died_first,
)
