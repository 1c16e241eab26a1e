# SPDX-License-Identifier: Apache-2.0
"""Whether a client had it stopped: by a stop call, or by a request with keep_alive 0."""

from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Evidence, Reason
from ollama_exporter.residency.evidence.case import Case
from ollama_exporter.residency.evidence.exit_evidence import ExitEvidence
from ollama_exporter.residency.evidence.poll_evidence import PollEvidence
from ollama_exporter.residency.rules.evictions import appeared, wanted
from ollama_exporter.residency.rules.verdict import WAIT, Opinion, requested, unknown, verdict


def deadline_set_back(case: Case) -> Opinion:
    """E was set to a moment between two polls. Only a stop sets E to the present."""
    if case.life.stopped_at is not None:
        return verdict(Reason.STOPPED, Evidence.DEADLINE_SET_BACK)
    return None


def a_request_stopped_it(case: Case) -> Opinion:
    """A stop call, or its last request ended with keep_alive 0: the server unloads it at once."""
    return requested(case, Reason.STOPPED)


def due_before_idle(case: PollEvidence) -> Opinion:  # noqa: PLR0911 - a table of cases, one line each
    """E was now, as it is for a runner that is to be unloaded and was never idle.

    It had keep_alive 0, or was chosen while busy: as a victim, or to be reloaded.
    """
    unload, life = case.unload, case.life
    if not life.at_now:
        return None
    if case.complete and case.demand is not None:
        return wanted(case, case.demand)
    if life.requested == 0:
        return verdict(Reason.STOPPED, Evidence.DUE_WITH_ZERO)
    if unload.arrivals is None and not case.over:
        return WAIT
    back, strangers = unload.back is not None, unload.others_appeared
    # It slid before, so it became due later. On a swift server the next load follows at once.
    victim = life.slid or (case.unloads.swift and not case.complete)
    if victim and strangers and not back and unload.arrivals is not None:
        return appeared(case, unload.arrivals)
    # The scheduler evicts an idle model where there is one, and this one's room was not needed.
    spared = life.beside_idle and unload.needless
    if life.slid or (strangers and (back or not spared)):
        return unknown(Evidence.DUE_ZERO_OR_VICTIM)
    if case.unloads.left_with_needless(unload) or case.complete:
        return unknown(Evidence.DUE_WITH_OTHERS)
    return verdict(Reason.STOPPED, Evidence.DUE_BUT_NOT_NEEDED)


def nothing_was_started(case: ExitEvidence) -> Opinion:
    """It had not expired, and nothing took its room: every other unload makes room for a load.

    At the end of each wait for memory the scheduler chooses anew, and what it chose before leaves
    all the same: what exits as a load begins may be a victim that a queue of unloads outran.
    """
    at, same = case.exited.at, timings.SAME_MOMENT
    if case.queue_start < at - timings.MEMORY_WAIT and case.births(at - same, at + same):
        return unknown(Evidence.STOP_OR_OUTRUN)
    return verdict(Reason.STOPPED, Evidence.NOTHING_STARTED)
