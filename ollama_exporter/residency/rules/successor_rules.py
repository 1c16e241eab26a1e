# SPDX-License-Identifier: Apache-2.0
"""Who wanted the room of a runner that died, as rules of `causes.py`."""

from typing import Final

from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.evidence.exit_evidence import ANSWERED_BY, UNANSWERED, ExitEvidence
from ollama_exporter.residency.evidence.exit_requests import KEEP_ALIVE_ZERO, PROMPT
from ollama_exporter.residency.evidence.runner_processes import RunnerProcess
from ollama_exporter.residency.rules.poll_rules import WAIT, Opinion, Verdict, unknown

TOOK_ROOM: Final = frozenset({Reason.EVICTED, Reason.REPLACED})
OTHER_MODEL: Final = "a request for another model waited for a load"
OTHER_OPTIONS: Final = "a request with other options waited for it"


def the_oldest_request_had_condemned_it(scene: ExitEvidence) -> Opinion:
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


def condemned_while_another_loaded(scene: ExitEvidence) -> Opinion:
    """E became now while a load kept the scheduler busy: a keep-alive of 0, no victim."""
    life = scene.death.life
    if not life.at_now or life.condemned_after is None or life.condemned_at is None:
        return None
    if scene.runners.loading_through(life.condemned_after, life.condemned_at):
        evidence = "condemned while another was loading, before it was ever idle"
        return Verdict(Reason.STOPPED, (evidence,))
    return None


def what_follows_is_awaited(scene: ExitEvidence) -> Opinion:
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


def one_of_several(scene: ExitEvidence) -> Opinion:
    """The next unload made room for somebody who is not known to fit into this one's room.

    A load that needs several victims condemns them one at a time: the next one a wait later, or,
    if it is busy, when its requests end.
    """
    follower = scene.follower
    if follower is None:
        return None
    needed = scene.needed_more(follower) if follower.reason in TOOK_ROOM else None
    if follower.reason is None or (follower.reason in TOOK_ROOM and needed is None):
        return None if scene.over else WAIT
    if needed:
        evidence = "the first of several for the same newcomer"
        return Verdict(Reason.EVICTED, (evidence,), by=follower.by)
    return None


def somebody_was_started(scene: ExitEvidence) -> Opinion:
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
        return _evicted(scene, newborn, asked)
    if answers is None and newborn.weights == death.runner.weights:
        return _loaded_again(scene, newborn)
    if answers is None and not scene.demand and not scene.roomy(newborn):
        return unknown("something was started soon after, but not after a usual wait")
    return None


def _loaded_again(scene: ExitEvidence, newborn: RunnerProcess) -> Opinion:
    """The same weights were loaded again, not after a usual wait: their context may tell."""
    if newborn.key is None and newborn.died is None and not scene.over:
        return WAIT  # its context shows when it is listed
    shown = scene.shown.get(newborn.weights)
    if newborn.key is not None and shown and shown.context != scene.death.life.model.context:
        return Verdict(
            Reason.OPTIONS_CHANGED, ("the same weights were loaded with another context",)
        )
    return unknown("the same weights were loaded soon after, but not after a usual wait")


def a_request_waited(scene: ExitEvidence) -> Opinion:
    """A request waited for a load, but nothing was started for it."""
    demand = scene.demand
    if demand is None:
        return None
    if not scene.accounts.complete and demand.fact.at <= scene.death.at - PROMPT:
        return None
    if demand.model == scene.death.name:
        return Verdict(Reason.OPTIONS_CHANGED, (OTHER_OPTIONS,))
    return Verdict(Reason.EVICTED, (OTHER_MODEL,), by=demand.model)


def a_load_had_just_ended(scene: ExitEvidence) -> Opinion:
    """It died as a load ended: the next request's victim, whatever became of that request."""
    if scene.at_a_load_s_end:
        evidence = "it died as another's load ended, as the next one's victim does"
        return Verdict(Reason.EVICTED, (evidence,))
    return None


def the_server_died_first(scene: ExitEvidence) -> Opinion:
    """Nobody could take the room: the server died."""
    died, at = scene.deaths.server_died, scene.death.at
    soon = died is not None and at < died < at + ANSWERED_BY
    if soon and scene.next_birth is None and not scene.chain:
        return unknown("the server died before anybody could take the room")
    return None


def _evicted(scene: ExitEvidence, newborn: RunnerProcess, asked: str) -> Opinion:
    names = scene.runners.names(newborn.weights)
    if not names and not scene.over:
        return WAIT  # new weights, perhaps of its own name: the server will be asked
    by = names[0] if names else None
    if newborn.weights == scene.death.runner.weights:
        return Verdict(Reason.OPTIONS_CHANGED, (f"the same weights: their next runner {asked}",))
    if scene.death.name in names:
        return Verdict(Reason.REPLACED, (f"other weights of its name: their runner {asked}",), by)
    return Verdict(Reason.EVICTED, (f"another model's runner {asked}",), by)
