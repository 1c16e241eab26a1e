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

from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.evidence.exit_evidence import SCAN, UNANSWERED, ExitEvidence
from ollama_exporter.residency.evidence.exit_requests import PROMPT
from ollama_exporter.residency.evidence.runner_processes import SAME
from ollama_exporter.residency.incarnation import CLOCK_ERROR
from ollama_exporter.residency.rules.log_rules import (
    room_was_wanted,
    the_log_named_it,
    the_log_told_of_its_end,
)
from ollama_exporter.residency.rules.poll_rules import WAIT, Opinion, Verdict
from ollama_exporter.residency.rules.successor_rules import (
    a_load_had_just_ended,
    a_request_waited,
    condemned_while_another_loaded,
    one_of_several,
    somebody_was_started,
    the_oldest_request_had_condemned_it,
    the_server_died_first,
    what_follows_is_awaited,
)

SLOW_KILL: Final = 3.2  # a look at the GPUs may come before the kill
DEAD_BUT_LISTED: Final = "its process died while it was listed"
OUT_OF_MEMORY_LASTS: Final = 300.0  # a busy runner that was condemned ends with its requests


def decide(scene: ExitEvidence) -> Verdict | None:
    """Return the reason, or None while it cannot be told yet."""
    for rule in RULES:
        opinion = rule(scene)
        if isinstance(opinion, Verdict):
            return opinion
        if opinion is WAIT:
            return None
    return Verdict(Reason.STOPPED, ("died before its deadline, and nobody waited for its room",))


def the_listing_is_awaited(scene: ExitEvidence) -> Opinion:
    """No poll has shown yet whether it is listed still."""
    waits = scene.death.polled is None and scene.now < scene.death.at + UNANSWERED
    return WAIT if waits else None


# -- crashed, out of memory ------------------------------------------------------------------------


def a_request_ran_out_of_memory(scene: ExitEvidence) -> Opinion:
    """An out-of-memory text, in the queue of unloads that it belongs to."""
    said = scene.said
    return Verdict(said[0], (said[1],)) if said and said[0] is Reason.OUT_OF_MEMORY else None


def it_was_dead_but_listed(scene: ExitEvidence) -> Opinion:
    """The server did not end it. Others that died at that moment tell an out-of-memory."""
    death = scene.death
    if not death.listed_dead:
        return None
    if scene.journal.followed:
        # an out-of-memory would have been logged
        ready = scene.births_known(death.seen_dead or death.at)
        return Verdict(Reason.CRASHED, (DEAD_BUT_LISTED,)) if ready else WAIT
    queued = scene.queue_start < death.at
    others_by = death.at + (2 * scene.deaths.rhythm.longest if queued else SCAN)
    if scene.now < others_by + SAME or not scene.births_known(death.seen_dead or death.at):
        return WAIT
    if any(scene.condemned_with(other, death) for other in scene.deaths.recent):
        return Verdict(Reason.OUT_OF_MEMORY, ("it died, and others were condemned at that moment",))
    return Verdict(Reason.CRASHED, (DEAD_BUT_LISTED,))


def a_request_crashed(scene: ExitEvidence) -> Opinion:
    """A crash text in an answer of this runner, just then."""
    said = scene.said
    return Verdict(said[0], (said[1],)) if said and said[0] is Reason.CRASHED else None


def another_ran_out_of_memory(scene: ExitEvidence) -> Opinion:
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


def condemned_while_busy(scene: ExitEvidence) -> Opinion:
    """Alive at an out-of-memory, and no request has ended since: it was busy all the time."""
    life, at = scene.death.life, scene.death.at
    for moment in scene.deaths.out_of_memory:
        untouched = life.changed_at is None or life.changed_at < moment
        if scene.born < moment < at and untouched and at - moment < OUT_OF_MEMORY_LASTS:
            return Verdict(Reason.OUT_OF_MEMORY, ("condemned by an out of memory while busy",))
    return None


# -- its deadline ----------------------------------------------------------------------------------


def its_deadline_came(scene: ExitEvidence) -> Opinion:
    """E was T, or passed while another unload was under way.

    A request seen may have set an E that no poll has shown, and an earlier one, too.
    """
    life, at, expires = scene.death.life, scene.death.at, scene.death.life.expires
    if life.at_now or life.stopped_at is not None:
        return None
    deadlines = [expires] if life.promised is None else [expires, life.promised]
    if any(at - PROMPT <= each <= at + 0.05 for each in deadlines):
        return Verdict(Reason.EXPIRED, ("died at its deadline",))
    if any(scene.queue_start - 0.05 <= each <= at for each in deadlines):
        return Verdict(Reason.EXPIRED, ("its deadline passed while another unload was under way",))
    if at - SLOW_KILL <= expires < at and life.seen < expires + CLOCK_ERROR and not scene.said:
        return Verdict(Reason.EXPIRED, ("died soon after its deadline, unseen in between",))
    return None


def its_deadline_was_set_to_the_past(scene: ExitEvidence) -> Opinion:
    """Only a stop sets E to the present; it was, between two polls."""
    if scene.death.life.stopped_at is not None:
        return Verdict(Reason.STOPPED, ("its deadline was set to a moment between two polls",))
    return None


def a_request_stopped_it(scene: ExitEvidence) -> Opinion:
    """A stop call, or its last request ended with keep-alive 0."""
    return None if scene.said is None else Verdict(scene.said[0], (scene.said[1],))


RULES: Final[tuple[Callable[[ExitEvidence], Opinion], ...]] = (
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
